//! From a record's tensors to patches and their places.

use super::place::blocks;
use super::{BesidePlanes, PackedLimits, PictureLayout, Pictures, Place, PreparedPictures};
use crate::model::joined_tiles::JoinedTiles;
use crate::model::view::View;

impl Pictures {
    /// The places of the rows of a record's pictures, and the patches `[patches, numbers]` in their order, without rows in
    /// front; an error says what is wrong with them.
    pub fn unfold(&self, given: &PreparedPictures<'_>) -> Result<(Vec<Place>, Vec<f32>), String> {
        let (shape, values) = &given.pixels;
        match &self.layout {
            PictureLayout::Planes { size, beside, .. } => {
                if given.has_padding {
                    return Err("comes with a mask of points that are of no picture, which is not known here".into());
                }
                self.planes((*size, beside), given)
            }
            &PictureLayout::Packed {
                side,
                window,
                limits,
                ..
            } => self.packed([side, window.unwrap_or(0)], limits, given),
            &PictureLayout::Padded { whole, .. } => self.padded(whole, given),
            &PictureLayout::Placed { whole, .. } => self.placed(whole, given),
            PictureLayout::Rows { .. } => self.rows(shape, values),
        }
    }

    fn placed(
        &self,
        whole: usize,
        given: &PreparedPictures<'_>,
    ) -> Result<(Vec<Place>, Vec<f32>), String> {
        let PreparedPictures {
            pixels: (shape, values),
            places,
            ..
        } = given;
        let width = self.patch_values();
        let [count, most] = match shape[..] {
            [count, most, numbers] if numbers == width => [count, most],
            _ => {
                return Err(format!(
                    "has shape {shape:?}, the model wants [views, patches, {width}]"
                ));
            }
        };
        if values.len() != count * most * width || places.len() != count * most {
            return Err("comes with places of another number of patches".into());
        }
        let (mut views, mut patches) = (Vec::new(), Vec::new());
        for number in 0..count {
            let own = &places[number * most..(number + 1) * most];
            let shown = own.partition_point(|place| *place != [-1, -1]);
            let columns = own.iter().map(|place| place[0] + 1).max().unwrap_or(0);
            let [rows, columns] = [
                shown.checked_div(columns as usize).unwrap_or(0),
                columns as usize,
            ];
            let is_own = |(at, place): (usize, &[i64; 2])| match at {
                at if at < shown => *place == [(at % columns) as i64, (at / columns) as i64],
                _ => *place == [-1, -1],
            };
            let fits = rows > 0 && rows * columns == shown && own.iter().enumerate().all(is_own);
            if !fits {
                return Err(format!(
                    "has a view whose {shown} places are not those of the rows of a picture, one after the other"
                ));
            }
            views.push(self.alone(number, [rows, columns], whole)?);
            let first = number * most * width;
            patches.extend(&values[first..first + shown * width]);
        }
        if self.centred {
            for value in &mut patches {
                *value = 2.0 * (*value - 0.5);
            }
        }
        Ok((self.places(&views), patches))
    }

    /// A picture of so many rows and columns of patches that is one view.
    fn alone(&self, number: usize, grid: [usize; 2], whole: usize) -> Result<View, String> {
        in_blocks(grid, whole)?;
        if let Some(problem) = self.refused(grid) {
            return Err(format!("has a picture of {problem}"));
        }
        Ok(View {
            grid,
            picture: number as u32,
            ..View::default()
        })
    }

    /// Patches one after the other.
    fn rows(&self, shape: &[usize], values: &[f32]) -> Result<(Vec<Place>, Vec<f32>), String> {
        let width = self.patch_values();
        let fits = shape.len() > 1
            && shape.last() == Some(&width)
            && values.len() == shape.iter().product::<usize>();
        if !fits {
            return Err(format!(
                "has shape {shape:?}, the model wants [.., patches, {width}]"
            ));
        }
        let rows = values.len() / width;
        let view = View {
            grid: [rows, 1],
            ..View::default()
        };
        let views = if rows == 0 { &[][..] } else { &[view][..] };
        Ok((self.places(views), values.to_vec()))
    }

    fn padded(
        &self,
        whole: usize,
        given: &PreparedPictures<'_>,
    ) -> Result<(Vec<Place>, Vec<f32>), String> {
        let PreparedPictures {
            pixels: (shape, values),
            sizes,
            shown,
            ..
        } = given;
        let width = self.patch_values();
        let most = match shape[..] {
            [views, most, numbers] if views == sizes.len() && numbers == width => most,
            _ => {
                let views = sizes.len();
                return Err(format!(
                    "has shape {shape:?}, the model wants [{views}, patches, {width}] for its rows and columns"
                ));
            }
        };
        if values.len() != sizes.len() * most * width || shown.len() != sizes.len() * most {
            return Err("comes with a mask of another number of patches".into());
        }
        let (mut views, mut patches) = (Vec::new(), Vec::new());
        for (number, &[rows, columns]) in sizes.iter().enumerate() {
            let count = (rows as usize).saturating_mul(columns as usize);
            let mask = &shown[number * most..(number + 1) * most];
            let fits = count > 0
                && count <= most
                && (mask.iter().zip(0..)).all(|(&one, at)| one == u32::from(at < count));
            if !fits {
                return Err(format!(
                    "has a picture of {rows} x {columns} patches among {most}, and its mask shows others"
                ));
            }
            let grid = [rows as usize, columns as usize];
            views.push(self.alone(number, grid, whole)?);
            let first = number * most * width;
            patches.extend(&values[first..first + count * width]);
        }
        Ok((self.places(&views), patches))
    }

    fn packed(
        &self,
        [side, window]: [usize; 2],
        limits: PackedLimits,
        given: &PreparedPictures<'_>,
    ) -> Result<(Vec<Place>, Vec<f32>), String> {
        let PreparedPictures {
            pixels: (shape, values),
            grids,
            merges,
            ..
        } = given;
        let width = self.patch_values();
        if limits.merges.is_some() && merges.len() != grids.len() {
            let (given, pictures) = (merges.len(), grids.len());
            return Err(format!(
                "has {pictures} pictures, and {given} numbers of what becomes one row"
            ));
        }
        if let Some(merge) = merges.iter().find(|&&merge| merge != 1) {
            return Err(format!(
                "has a picture of which {merge} x {merge} rows become one, which is not known here"
            ));
        }
        let patches = grids.iter().map(|grid| {
            let sizes = grid.iter().map(|&size| size as usize);
            sizes.fold(1, usize::saturating_mul)
        });
        let patches = patches.fold(0, usize::saturating_add);
        // The numbers of a patch may have axes.
        let fits = match &shape[..] {
            [own, numbers @ ..] => {
                *own == patches && !numbers.is_empty() && numbers.iter().product::<usize>() == width
            }
            [] => false,
        };
        if !fits || values.len() != patches * width {
            return Err(format!(
                "has shape {shape:?}, the model wants [{patches}, {width}] for its grids"
            ));
        }
        let mut places: Vec<Place> = Vec::with_capacity(patches);
        let mut view = 0;
        for (picture, &[times, rows, columns]) in grids.iter().enumerate() {
            in_blocks([rows as usize, columns as usize], limits.whole)?;
            if let Some(problem) = self.refused([rows as usize, columns as usize]) {
                return Err(problem);
            }
            if limits.one_time && times != 1 {
                return Err(format!(
                    "has a picture of {times} times, and the model's are of one here"
                ));
            }
            for _ in 0..times {
                places.extend(
                    blocks([rows, columns], side as u32).map(|[row, column]| Place {
                        view,
                        row,
                        column,
                        grid: [rows, columns],
                        picture: picture as u32,
                        ..Place::default()
                    }),
                );
                view += 1;
            }
        }
        if window == 0 {
            return Ok((places, values.to_vec()));
        }
        let span = (side * window) as u32;
        for place in &mut places {
            let across = place.grid[1].div_ceil(span);
            place.window = place.row / span * across + place.column / span;
        }
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&row| (places[row].view, places[row].window));
        let rows = order
            .iter()
            .map(|&row| &values[row * width..(row + 1) * width]);
        let values = rows.flatten().copied().collect();
        Ok((order.into_iter().map(|row| places[row]).collect(), values))
    }

    fn planes(
        &self,
        (size, beside): (Option<[usize; 2]>, &BesidePlanes),
        given: &PreparedPictures<'_>,
    ) -> Result<(Vec<Place>, Vec<f32>), String> {
        let PreparedPictures {
            pixels: (shape, values),
            sizes,
            ..
        } = given;
        let wanted = || {
            let size = size.map_or_else(
                || "height, width".to_owned(),
                |[height, width]| format!("{height}, {width}"),
            );
            format!(
                "has shape {shape:?}, the model wants [views, {}, {size}]",
                self.channels
            )
        };
        let [front @ .., channels, height, width] = &shape[..] else {
            return Err(wanted());
        };
        let fits = *channels == self.channels
            && size.is_none_or(|size| size == [*height, *width])
            && values.len() == shape.iter().product::<usize>();
        if !fits {
            return Err(wanted());
        }
        // What is left over at the edges is in no patch.
        let grid = [height / self.patch, width / self.patch];
        if grid.contains(&0) {
            return Err(format!("{}, with a patch at least", wanted()));
        }
        if let Some(problem) = self.refused(grid) {
            return Err(problem);
        }
        let plane = height * width;
        let all: Vec<&[f32]> = values.chunks_exact((plane * channels).max(1)).collect();
        let patches_of = |view: &[f32], grid: [usize; 2], patches: &mut Vec<f32>| {
            for [row, column] in blocks(grid.map(|count| count as u32), 1) {
                let [row, column] = [row as usize, column as usize];
                for channel in view.chunks_exact(plane) {
                    for line in row * self.patch..(row + 1) * self.patch {
                        let first = line * width + column * self.patch;
                        patches.extend(&channel[first..first + self.patch]);
                    }
                }
            }
        };
        if let BesidePlanes::Joined(tiles) = beside {
            let cut = |tile: usize, patches: &mut Vec<f32>| patches_of(all[tile], grid, patches);
            return self.joined(tiles, (front, grid), given, cut);
        }
        let size = [*height as u32, *width as u32];
        let chosen: Vec<(usize, View)> = match beside {
            BesidePlanes::Sizes { tiling, .. } => {
                tiling.views(front, grid, (sizes, &given.counts))?
            }
            BesidePlanes::Within { .. } if !sizes.is_empty() => {
                self.within(size, all.len(), sizes)?
            }
            &BesidePlanes::Points { partly, .. } => {
                self.pointed((grid, size), &all, (&given.points, partly))?
            }
            BesidePlanes::None
            | BesidePlanes::Mask { .. }
            | BesidePlanes::Within { .. }
            | BesidePlanes::Joined(_) => {
                let blank = matches!(beside, BesidePlanes::Mask { .. });
                let is_view = |view: &usize| !blank || all[*view].iter().any(|&value| value != 0.0);
                let views = (0..all.len()).filter(is_view);
                let view = |at: usize| View {
                    grid,
                    picture: at as u32,
                    size,
                    ..View::default()
                };
                views.map(|at| (at, view(at))).collect()
            }
        };
        let mut patches =
            Vec::with_capacity(chosen.len() * grid[0] * grid[1] * self.patch_values());
        for (view, grid) in chosen.iter().map(|&(at, view)| (all[at], view.grid)) {
            patches_of(view, grid, &mut patches);
        }
        let views: Vec<View> = chosen.into_iter().map(|(_, view)| view).collect();
        Ok((self.places(&views), patches))
    }

    /// The places of the rows of a record's pictures, and the patches of their tiles in that order; `front` is what is in
    /// front of the channels in the shape, `patches` those of each plane.
    fn joined(
        &self,
        own: &JoinedTiles,
        (front, grid): (&[usize], [usize; 2]),
        given: &PreparedPictures<'_>,
        patches: impl Fn(usize, &mut Vec<f32>),
    ) -> Result<(Vec<Place>, Vec<f32>), String> {
        let (Some((&tiles, pictures_in_front)), shapes) = (front.split_last(), &given.shapes)
        else {
            return Err("has no axis of tiles".into());
        };
        let count: usize = pictures_in_front.iter().product();
        if tiles != own.tiles || shapes.len() != count || given.shown.len() != count * tiles {
            let (shapes, mask) = (shapes.len(), given.shown.len());
            return Err(format!(
                "has {count} pictures of {tiles} tiles, with {shapes} shapes and a mask of {mask} tiles; the model wants {} tiles",
                own.tiles
            ));
        }
        let patches_of_tile = grid[0] * grid[1];
        let in_front = self.front.len();
        let padding = own.padding(in_front + patches_of_tile);
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for (picture, &shape) in shapes.iter().enumerate() {
            let mask = &given.shown[picture * tiles..(picture + 1) * tiles];
            if shape as usize > own.last_shape {
                let last = own.last_shape;
                return Err(format!("has shape {shape}, the model knows 0 to {last}"));
            }
            if mask.iter().any(|&one| one > 1) || !mask.contains(&1) {
                return Err("has a mask that shows no tile, or is not of ones and zeros".into());
            }
            let place = |tile: usize, row: u32, column: usize| Place {
                view: picture as u32,
                row,
                column: column as u32,
                grid: grid.map(|count| count as u32),
                picture: picture as u32,
                tile: tile as u32,
                shape,
                ..Place::default()
            };
            let mut tile_of = |tile: usize, is_blank: bool| {
                let first = places.len();
                places.extend((0..in_front).map(|column| place(tile, Place::FRONT, column)));
                let of_patch = |at: usize| place(tile, (at / grid[1]) as u32, at % grid[1]);
                places.extend((0..patches_of_tile).map(of_patch));
                patches(picture * tiles + tile, &mut values);
                for place in &mut places[first..] {
                    place.is_blank = is_blank;
                }
            };
            let shown = |tile: &usize| mask[*tile] == 1;
            (0..tiles)
                .filter(shown)
                .for_each(|tile| tile_of(tile, false));
            (0..tiles)
                .filter(|tile| !shown(tile))
                .for_each(|tile| tile_of(tile, true));
            let rows = (0..tiles).flat_map(|tile| (0..padding).map(move |row| (tile, row)));
            places.extend(rows.map(|(tile, row)| Place {
                is_blank: true,
                ..place(tile, Place::ZEROS, row)
            }));
        }
        Ok((places, values))
    }

    /// The views that are not of zeros, of as many patches as a mask says.
    fn pointed(
        &self,
        (grid, size): ([usize; 2], [u32; 2]),
        all: &[&[f32]],
        (points, partly): (&[u32], bool),
    ) -> Result<Vec<(usize, View)>, String> {
        let [height, width] = size.map(|count| count as usize);
        if !points.is_empty() && points.len() != all.len() * height * width {
            return Err("comes with a mask of another number of points".into());
        }
        let mut views = Vec::new();
        for (at, view) in all.iter().enumerate() {
            if view.iter().all(|&value| value == 0.0) {
                continue;
            }
            let mask = points.chunks_exact((height * width).max(1)).nth(at);
            let own = mask.map_or([height, width], |mask| {
                let rows = mask.chunks_exact(width).take_while(|row| row[0] == 1);
                let columns = mask.iter().take(width).take_while(|&&one| one == 1);
                [rows.count(), columns.count()]
            });
            let is_shown = |at: usize| at / width < own[0] && at % width < own[1];
            let fits = mask.is_none_or(|mask| {
                let mut points = mask.iter().enumerate();
                points.all(|(at, &one)| one == u32::from(is_shown(at)))
            });
            if !fits {
                return Err("comes with a mask that is no rectangle in the upper left".into());
            }
            let patches = |axis: usize| {
                if partly {
                    own[axis].div_ceil(self.patch).min(grid[axis])
                } else {
                    own[axis] / self.patch
                }
            };
            let own = [patches(0), patches(1)];
            if own.contains(&0) {
                return Err("has a picture without a whole patch".into());
            }
            let view = View {
                grid: own,
                picture: at as u32,
                size,
                ..View::default()
            };
            views.push((at, view));
        }
        Ok(views)
    }

    /// The views of pictures of these heights and widths in the upper left of planes of a size.
    fn within(
        &self,
        [height, width]: [u32; 2],
        views: usize,
        sizes: &[[u32; 2]],
    ) -> Result<Vec<(usize, View)>, String> {
        if sizes.len() != views {
            let given = sizes.len();
            return Err(format!("has {views} views, and {given} heights and widths"));
        }
        let view = |(at, &size): (usize, &[u32; 2])| {
            let grid = size.map(|points| points as usize / self.patch);
            if grid.contains(&0) || size[0] > height || size[1] > width {
                let [high, wide] = size;
                return Err(format!(
                    "has a picture of {high} x {wide} points in a view of {height} x {width}"
                ));
            }
            let view = View {
                grid,
                picture: at as u32,
                size,
                ..View::default()
            };
            Ok((at, view))
        };
        sizes.iter().enumerate().map(view).collect()
    }
}

/// Refuses a picture of so many rows and columns of patches that is not of whole blocks of `side`.
fn in_blocks(grid: [usize; 2], side: usize) -> Result<(), String> {
    if grid
        .iter()
        .all(|&count| count > 0 && count.is_multiple_of(side))
    {
        return Ok(());
    }
    let [rows, columns] = grid;
    Err(format!(
        "has a picture of {rows} x {columns} patches, no whole blocks of {side} x {side}"
    ))
}
