//! Rows that come of the patches of a record's pictures.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::joined_tiles::{JoinedTiles, TileTables};
use super::tiling::{Tiling, unpadded};
use super::transform::is_default;
use super::view::View;
use crate::parts::{Linear, Norm};
use crate::source::{Leaf, WeightIndex};

/// Patches of a record's pictures to the input of the first layer. Every picture, or tile of one, is a *view*: its rows
/// see each other and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pictures {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// How the record's tensors are laid out.
    pub layout: PictureLayout,
    /// Numbers of a point of a picture.
    pub channels: usize,
    /// Rows and columns of points that a patch has.
    pub patch: usize,
    /// Numbers from 0 to 1 become those from -1 to 1.
    #[serde(skip_serializing_if = "is_default")]
    pub centred: bool,
    /// Of the numbers of a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_norm: Option<Norm>,
    /// `[hidden, channels * patch * patch]`: of a channel its rows, of a row its columns.
    pub projection: Linear,
    /// Of the projected patches, in front of all that is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_norm: Option<Norm>,
    /// Rows in front of the patches of every view, `[hidden]` each: of a class, of registers.
    pub front: Vec<FrontRow>,
    /// They stand behind the patches.
    #[serde(skip_serializing_if = "is_default")]
    pub front_is_last: bool,
    /// Added by place.
    pub positions: Option<PlaceTable>,
    /// Added by column and by row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axes: Option<AxisTables>,
    /// Added by tile, where tiles of a picture are one view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiles: Option<TileTables>,
    /// Of the sum.
    pub norm: Option<Norm>,
}

/// Learned positions of the columns and of the rows of patches, in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AxisTables {
    /// `[2 * count, hidden]`.
    pub weight: WeightIndex,
    /// Columns, and rows, that have positions.
    pub count: usize,
    /// The row of the table of the first column, and how many rows further that of the next one is.
    pub columns: [usize; 2],
    /// The same of the rows.
    pub rows: [usize; 2],
}

/// A row in front of the patches of every view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FrontRow {
    /// `[1, hidden]`.
    pub weight: WeightIndex,
    /// The row of the position table that is added to it.
    pub position: Option<usize>,
}

/// The axes of a record's pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PictureLayout {
    /// `[views, channels, height, width]`, or several such axes in front.
    Planes {
        /// What the tensor is called.
        name: &'static str,
        /// Height and width of every view, where the model takes no other.
        size: Option<[usize; 2]>,
        /// What comes beside it.
        beside: BesidePlanes,
    },
    /// `[patches, numbers]` of all pictures, each in blocks of `side` rows and columns, one block after the other.
    Packed {
        /// What the tensor is called.
        name: &'static str,
        /// The tensor `[pictures, 3]` of times, rows and columns of patches.
        grids: &'static str,
        /// Rows and columns of a block.
        side: usize,
        /// Rows and columns of blocks in a window, where rows are in windows.
        window: Option<usize>,
        /// What else holds of every picture.
        limits: PackedLimits,
    },
    /// `[views, patches, numbers]`: of every view its own patches, row by row, then padding, as their places tell.
    Placed {
        /// What the tensor is called.
        name: &'static str,
        /// The tensor `[views, patches, 2]` of columns and rows, of padding -1.
        places: &'static str,
        /// Rows and columns are multiples of it.
        whole: usize,
    },
    /// `[.., patches, numbers]` without places.
    Rows {
        /// What the tensor is called.
        name: &'static str,
    },
    /// `[views, patches, numbers]`: of every view its own patches, row by row, then padding.
    Padded {
        /// What the tensor is called.
        name: &'static str,
        /// The tensor `[views, 2]` of rows and columns of patches.
        shapes: &'static str,
        /// The tensor `[views, patches]` of ones for patches that are none of padding.
        mask: &'static str,
        /// Rows and columns are multiples of it.
        #[serde(skip_serializing_if = "is_one")]
        whole: usize,
    },
}

/// What holds of pictures whose patches are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PackedLimits {
    /// Rows and columns are multiples of it.
    pub whole: usize,
    /// Pictures of several times are not known.
    #[serde(skip_serializing_if = "is_default")]
    pub one_time: bool,
    /// The tensor `[pictures]` of rows and columns of blocks that become one row: 1 is what is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merges: Option<&'static str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_one(number: &usize) -> bool {
    *number == 1
}

/// What comes beside views that are planes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum BesidePlanes {
    /// Nothing: every view is a picture.
    None,
    /// Height and width of every picture, of which follows how many tiles it was cut to: a view of the whole picture, then
    /// the tiles of a grid, row by row.
    Sizes {
        /// The tensor `[pictures, 2]`.
        name: &'static str,
        /// How pictures are cut.
        tiling: Tiling,
    },
    /// Height and width of every picture in the upper left of its view; records may lack them, and pictures are whole views.
    Within {
        /// The tensor `[pictures, 2]`.
        name: &'static str,
    },
    /// Tiles that are one view.
    Joined(JoinedTiles),
    /// Which points are of a picture: so many rows and columns in the upper left of its view; records may lack it, and
    /// pictures are whole views. Views of zeros are none.
    Points {
        /// The tensor of ones, as large as a view's plane.
        name: &'static str,
        /// Patches of which a part is of the picture are seen too.
        partly: bool,
    },
    /// Which points are of a picture: all of them. Views of zeros are none.
    Mask {
        /// The tensor of ones, as large as a view's plane; records may lack it.
        name: &'static str,
    },
}

/// A record's pictures as a processor has prepared them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedPictures<'a> {
    /// Shape and numbers of the pictures.
    pub pixels: (Vec<usize>, Cow<'a, [f32]>),
    /// Times, rows and columns of patches of each, where the model reads such.
    pub grids: Vec<[u32; 3]>,
    /// Height and width of each before it was cut to tiles, where the model reads such.
    pub sizes: Vec<[u32; 2]>,
    /// Numbers of the shapes of each, where the model reads such.
    pub shapes: Vec<u32>,
    /// Of the patches of every view, or of the tiles of every picture, 1 for those that are none of padding, where the model
    /// reads such.
    pub shown: Vec<u32>,
    /// Rows and columns of blocks of each that become one row, where the model reads such.
    pub merges: Vec<u32>,
    /// Column and row of every patch of every view, of padding -1, where the model reads such.
    pub places: Vec<[i64; 2]>,
    /// Of every point of all views 1 where it is of a picture, where the model reads such and the record has them.
    pub points: Vec<u32>,
    /// Some points are of no picture.
    pub has_padding: bool,
}

impl PictureLayout {
    /// What the tensor of the pictures is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Planes { name, .. }
            | Self::Packed { name, .. }
            | Self::Padded { name, .. }
            | Self::Placed { name, .. }
            | Self::Rows { name } => name,
        }
    }

    /// What the tensor of times, rows and columns is called, where there is one.
    pub fn grids(&self) -> Option<&'static str> {
        match self {
            Self::Packed { grids, .. } => Some(grids),
            _ => None,
        }
    }

    /// What the tensor of columns and rows is called, where there is one.
    pub fn places(&self) -> Option<&'static str> {
        match self {
            Self::Placed { places, .. } => Some(places),
            _ => None,
        }
    }

    /// What the tensor of blocks that become one row is called, where there is one.
    pub fn merges(&self) -> Option<&'static str> {
        match self {
            Self::Packed { limits, .. } => limits.merges,
            _ => None,
        }
    }

    /// What the tensor of heights and widths is called, where there is one.
    pub fn sizes(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Sizes { name, .. } | BesidePlanes::Within { name },
                ..
            } => Some(name),
            Self::Padded { shapes, .. } => Some(shapes),
            _ => None,
        }
    }

    /// What the tensor of numbers of shapes is called, where there is one.
    pub fn shapes(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Joined(JoinedTiles { shapes, .. }),
                ..
            } => Some(shapes),
            _ => None,
        }
    }

    /// What the tensor that says which patches, or which tiles, are none of padding is called, where there is one.
    pub fn shown(&self) -> Option<&'static str> {
        match self {
            Self::Padded { mask, .. }
            | Self::Planes {
                beside: BesidePlanes::Joined(JoinedTiles { mask, .. }),
                ..
            } => Some(mask),
            _ => None,
        }
    }

    /// Whether records must have heights and widths.
    pub fn needs_sizes(&self) -> bool {
        matches!(
            self,
            Self::Planes {
                beside: BesidePlanes::Sizes { .. },
                ..
            }
        )
    }

    /// What the tensor that says which points of a view are of a picture is called, where there may be one.
    pub fn points(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Points { name, .. },
                ..
            } => Some(name),
            _ => None,
        }
    }

    /// What the tensor that says which points are of a picture, where all must be, is called, where there may be one.
    pub fn mask(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Mask { name },
                ..
            } => Some(name),
            _ => None,
        }
    }
}

/// Learned positions of patches: a row for each patch of a view of `grid` rows and columns, from row `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlaceTable {
    /// `[rows, hidden]`.
    pub weight: WeightIndex,
    /// Rows in front of the patches'.
    pub first: usize,
    /// Rows and columns of patches.
    pub grid: [usize; 2],
    /// What becomes of it for views of other sizes.
    pub otherwise: Interpolation,
}

/// How a grid of positions is stretched to views of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Interpolation {
    /// Such views are refused.
    None,
    /// Between the two nearest, the first on the first and the last on the last.
    Corners,
    /// Of the table's rows and columns that one which is as far into the view, by the f32 arithmetic of torch's `bucketize`.
    Buckets,
    /// Between the two nearest, the edges on the edges; beyond them stand the rows at the edges.
    Linear,
    /// The same by cubes between the four nearest.
    Cubic,
    /// By the distance of the middles, cubes between four, of more of them where the grid becomes smaller; none beyond the edges.
    CubicAntialiased,
    /// The same between two.
    LinearAntialiased,
}

/// Where a row of a stack of pictures is. [`Self::COLUMNS`] numbers a row are kept beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the view in the record.
    pub view: u32,
    /// Row of the patch in the view; [`Self::FRONT`]: it stands in front of them.
    pub row: u32,
    /// Column of the patch; of a row in front its number.
    pub column: u32,
    /// Rows and columns of patches of the view.
    pub grid: [u32; 2],
    /// The number of the picture in the record.
    pub picture: u32,
    /// Height and width of the picture before it became views, where that is known; else 0.
    pub size: [u32; 2],
    /// The number of the window in the view: rows of one stand one after the other.
    pub window: u32,
    /// Rows and columns of tiles that the picture was cut to, where it was; else 0.
    pub tiles: [u32; 2],
    /// The number of the tile in a view that has several.
    pub tile: u32,
    /// The number of the shape of the picture, where that is known.
    pub shape: u32,
    /// It does not see others that are blank, nor they it.
    pub is_blank: bool,
}

impl Place {
    /// Numbers of a row.
    pub const COLUMNS: usize = 14;
    /// The row of what stands in front of the patches.
    pub const FRONT: u32 = u32::MAX;
    /// The row of what is made of nothing.
    pub const ZEROS: u32 = u32::MAX - 1;

    /// As numbers.
    pub fn numbers(self) -> [u32; Self::COLUMNS] {
        let ([rows, columns], [height, width]) = (self.grid, self.size);
        let [down, across] = self.tiles;
        let Self {
            view,
            row,
            column,
            picture,
            window,
            tile,
            shape,
            is_blank,
            grid: _,
            size: _,
            tiles: _,
        } = self;
        let blank = u32::from(is_blank);
        [
            view, row, column, rows, columns, picture, height, width, window, down, across, tile,
            shape, blank,
        ]
    }

    /// Of numbers.
    pub fn of(numbers: [u32; Self::COLUMNS]) -> Self {
        let [
            view,
            row,
            column,
            rows,
            columns,
            picture,
            height,
            width,
            window,
            down,
            across,
            tile,
            shape,
            blank,
        ] = numbers;
        Self {
            view,
            row,
            column,
            grid: [rows, columns],
            picture,
            size: [height, width],
            window,
            tiles: [down, across],
            tile,
            shape,
            is_blank: blank != 0,
        }
    }

    /// Those of all rows of a record.
    pub fn all(numbers: &[u32]) -> Vec<Self> {
        let (rows, _) = numbers.as_chunks();
        rows.iter().copied().map(Self::of).collect()
    }

    /// Whether it stands in front of the patches.
    pub fn is_front(self) -> bool {
        self.row == Self::FRONT
    }

    /// Whether it is made of a patch.
    pub fn is_patch(self) -> bool {
        self.row < Self::ZEROS
    }
}

impl Pictures {
    /// Patches `[channels, patch]` through a projection, and nothing else yet.
    pub fn new(layout: PictureLayout, [channels, patch]: [usize; 2], projection: Linear) -> Self {
        Self {
            leaves: Vec::new(),
            layout,
            channels,
            patch,
            centred: false,
            input_norm: None,
            projection,
            patch_norm: None,
            front: Vec::new(),
            front_is_last: false,
            positions: None,
            tiles: None,
            axes: None,
            norm: None,
        }
    }

    /// Numbers of a patch.
    pub fn patch_values(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.projection.out_features
    }

    /// Where among so many rows of a view its patches are, and where what stands in front of them.
    pub fn parts_of(&self, rows: usize) -> [Range<usize>; 2] {
        let front = self.front.len().min(rows);
        if self.front_is_last {
            [0..rows - front, rows - front..rows]
        } else {
            [front..rows, 0..front]
        }
    }

    /// The places of the rows of some views.
    pub fn places(&self, views: &[View]) -> Vec<Place> {
        let mut places = Vec::new();
        for (number, view) in views.iter().enumerate() {
            let [rows, columns] = view.grid.map(|count| count as u32);
            let at = |row, column| Place {
                view: number as u32,
                row,
                column,
                grid: [rows, columns],
                picture: view.picture,
                size: view.size,
                tiles: view.tiles,
                ..Place::default()
            };
            let front = (0..self.front.len() as u32).map(|front| at(Place::FRONT, front));
            let patches = blocks([rows, columns], 1).map(|[row, column]| at(row, column));
            if self.front_is_last {
                places.extend(patches.chain(front));
            } else {
                places.extend(front.chain(patches));
            }
        }
        places
    }

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
            if !rows.is_multiple_of(whole) || !columns.is_multiple_of(whole) {
                return Err(no_blocks([rows as u32, columns as u32], whole));
            }
            if let Some(problem) = self.refused([rows, columns]) {
                return Err(format!("has a picture of {problem}"));
            }
            let first = number * most * width;
            patches.extend(&values[first..first + shown * width]);
            views.push(View {
                grid: [rows, columns],
                picture: number as u32,
                ..View::default()
            });
        }
        if self.centred {
            for value in &mut patches {
                *value = 2.0 * (*value - 0.5);
            }
        }
        Ok((self.places(&views), patches))
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
            if let Some(problem) = self.refused([rows as usize, columns as usize]) {
                return Err(format!("has a picture of {problem}"));
            }
            if ![rows, columns]
                .iter()
                .all(|&count| (count as usize).is_multiple_of(whole))
            {
                return Err(no_blocks([rows, columns], whole));
            }
            let first = number * most * width;
            patches.extend(&values[first..first + count * width]);
            views.push(View {
                grid: [rows as usize, columns as usize],
                picture: number as u32,
                size: [0; 2],
                tiles: [0; 2],
            });
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
            let is_whole = |count: u32| count > 0 && (count as usize).is_multiple_of(limits.whole);
            if !is_whole(rows) || !is_whole(columns) {
                return Err(no_blocks([rows, columns], limits.whole));
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
            BesidePlanes::Sizes { tiling, .. } => tiling.views(front, grid, sizes)?,
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
                    tiles: [0; 2],
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
                tiles: [0; 2],
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
                tiles: [0; 2],
            };
            Ok((at, view))
        };
        sizes.iter().enumerate().map(view).collect()
    }

    /// Why a view of so many rows and columns of patches is none of the model.
    pub fn refused(&self, grid: [usize; 2]) -> Option<String> {
        if let Some(axes) = &self.axes
            && grid.into_iter().any(|count| count > axes.count)
        {
            let [rows, columns] = grid;
            return Some(format!(
                "{rows} x {columns} patches, and the model has positions for {} of each",
                axes.count
            ));
        }
        let Some(PlaceTable {
            grid: own,
            otherwise,
            ..
        }) = &self.positions
        else {
            return None;
        };
        let [rows, columns] = grid;
        match otherwise {
            Interpolation::None => (grid != *own).then(|| {
                format!(
                    "{rows} x {columns} patches, and the model has positions for {} x {}",
                    own[0], own[1]
                )
            }),
            // Torch 2.15 gives other numbers there than for two columns.
            Interpolation::CubicAntialiased | Interpolation::LinearAntialiased => {
                let odd = columns == 1 && rows > 1 && rows != own[0] && own[1] > 1;
                odd.then(|| {
                    format!(
                        "{rows} patches in one column, for which torch stretches places wrongly"
                    )
                })
            }
            Interpolation::Corners
            | Interpolation::Linear
            | Interpolation::Cubic
            | Interpolation::Buckets => None,
        }
    }
}

fn no_blocks([rows, columns]: [u32; 2], side: usize) -> String {
    format!("has a picture of {rows} x {columns} patches, no whole blocks of {side} x {side}")
}

/// Rows and columns of patches in blocks of `side`, one after the other.
fn blocks([rows, columns]: [u32; 2], side: u32) -> impl Iterator<Item = [u32; 2]> {
    let blocks =
        (0..rows / side).flat_map(move |row| (0..columns / side).map(move |column| [row, column]));
    blocks.flat_map(move |[row, column]| {
        (0..side * side).map(move |at| [row * side + at / side, column * side + at % side])
    })
}

/// The rows of [`PictureRows::Tiles`], or of [`PictureRows::Covered`] without the vectors.
fn tiled(places: &[Place], has_vectors: bool) -> Vec<u32> {
    let mut sources = Vec::new();
    let mut first = 0;
    for picture in places.chunk_by(|one, other| one.picture == other.picture) {
        // Where the patches of each view are.
        let mut views: Vec<Vec<u32>> = Vec::new();
        let mut at = first;
        for view in picture.chunk_by(|one, other| one.view == other.view) {
            let own = (at..).zip(view).filter(|(_, place)| !place.is_front());
            views.push(own.map(|(row, _)| row).collect());
            at += view.len() as u32;
        }
        first = at;
        let Some((whole, tiles)) = views.split_first() else {
            continue;
        };
        sources.extend(whole);
        let Place {
            grid,
            tiles: shape,
            size,
            ..
        } = picture[0];
        let both = [0, 1].map(|axis| grid[axis] * shape[axis]);
        let [rows, columns] = unpadded(both, size);
        for row in rows {
            for column in columns.clone() {
                let tile = row / grid[0] * shape[1] + column / grid[1];
                let patch = row % grid[0] * grid[1] + column % grid[1];
                sources.extend(
                    tiles
                        .get(tile as usize)
                        .and_then(|tile| tile.get(patch as usize)),
                );
            }
            if has_vectors {
                sources.push(PictureRows::NONE);
            }
        }
    }
    sources
}

/// The rows of [`PictureRows::Shrunk`].
fn shrunk(places: &[Place], most: usize) -> Vec<u32> {
    let mut sources = Vec::new();
    let mut push = |rows: [u32; 4], shares: [f32; 4]| {
        sources.extend(rows);
        sources.extend(shares.map(f32::to_bits));
    };
    let mut first = 0;
    for picture in places.chunk_by(|one, other| one.picture == other.picture) {
        let Place {
            view,
            grid,
            tiles,
            size,
            ..
        } = picture[0];
        let whole = picture
            .iter()
            .filter(|place| place.view == view && !place.is_front());
        let whole = whole.count() as u32;
        for row in first..first + whole {
            push([row; 4], [1.0, 0.0, 0.0, 0.0]);
        }
        first += whole;
        let both = [0, 1].map(|axis| grid[axis] * tiles[axis]);
        let own = unpadded(both, size).map(|lines| lines.len());
        let kept = own[0] as f64 * own[1] as f64;
        let ratio = (kept / (most as f64 * f64::from(grid[0]) * f64::from(grid[0]))).sqrt();
        let shown = if ratio > 1.1 {
            own.map(|length| (length as f64 / ratio).floor() as usize)
        } else {
            own
        };
        let [down, across] = [0, 1].map(|axis| halfway(own[axis], shown[axis]));
        for &(above, below, lower) in &down {
            for &(left, right, later) in &across {
                let at = |row: usize, column: usize| first + (row * own[1] + column) as u32;
                let rows = [
                    at(above, left),
                    at(above, right),
                    at(below, left),
                    at(below, right),
                ];
                let shares = [
                    (1.0 - lower) * (1.0 - later),
                    (1.0 - lower) * later,
                    lower * (1.0 - later),
                    lower * later,
                ];
                push(rows, shares);
            }
            push([PictureRows::NONE; 4], [0.0; 4]);
        }
        first += (own[0] * own[1]) as u32;
    }
    sources
}

/// For each of `to` rows or columns in the place of `from` the two that it lies between and the share of the second; in f32
/// as torch's `interpolate` computes it.
fn halfway(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let step = from as f32 / to.max(1) as f32;
    let of = |place: usize| {
        let at = ((place as f32 + 0.5) * step - 0.5).max(0.0);
        let first = (at as usize).min(from.saturating_sub(1));
        let second = (first + 1).min(from.saturating_sub(1));
        (first, second, at - first as f32)
    };
    (0..to).map(of).collect()
}

/// How rows are made of those of the views of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PictureRows {
    /// The rows of every view without so many in front.
    Patches {
        /// Rows that are left out.
        front: usize,
    },
    /// Of every whole block of `side` rows and columns of patches one, from left to right and from top to bottom; in it rows
    /// of the block one after the other.
    Blocks {
        /// Rows and columns of a block.
        side: usize,
    },
    /// Of every picture the rows of the view of the whole, then those of its tiles side by side as far as the picture
    /// covers them, line by line, with a vector of the model behind every line. Rows in front of patches are left out.
    Tiles,
    /// The same without the vectors.
    Covered,
    /// Of rows that are [`Self::Covered`]: where a picture's tiles cover more patches than so many of them have, as many fewer
    /// lines and columns, each row a mixture of four; a vector of the model behind every line. Four rows and the bits of
    /// their shares stand for one.
    Shrunk {
        /// Tiles whose patches are kept.
        most: usize,
    },
    /// All rows but those of zeros: first those that are not blank, then those that are.
    Shown,
    /// So many for every view, each of its own number: rows of a table, or the first rows of the view. They see each other
    /// and, of another stack, the view.
    Views {
        /// How many.
        rows: usize,
    },
}

impl PictureRows {
    /// Rows that one is made of.
    pub fn parts(self) -> usize {
        match self {
            Self::Patches { .. }
            | Self::Tiles
            | Self::Covered
            | Self::Shown
            | Self::Views { .. } => 1,
            Self::Blocks { side } => side * side,
            Self::Shrunk { .. } => 8,
        }
    }

    /// Rows of every view, where views stay apart.
    pub fn of_view(self) -> Option<usize> {
        match self {
            Self::Views { rows } => Some(rows),
            _ => None,
        }
    }

    /// The rows that each row is made of, one after the other; [`Self::NONE`]: a vector of the model stands there.
    pub fn sources(self, places: &[Place]) -> Vec<u32> {
        match self {
            Self::Patches { front } => {
                let rows = 0_u32..;
                let kept = rows
                    .zip(places)
                    .filter(|(_, place)| !place.is_front() || place.column as usize >= front);
                kept.map(|(row, _)| row).collect()
            }
            Self::Blocks { side } => {
                let side = side as u32;
                let key = |place: &Place| {
                    let within = (place.row % side, place.column % side);
                    (place.view, place.row / side, place.column / side, within)
                };
                let mut rows: Vec<u32> = (0..places.len() as u32).collect();
                // What is left over at the edges is in no block.
                let in_block = |place: &Place| {
                    let [last, right] = place.grid.map(|count| count / side * side);
                    !place.is_front() && place.row < last && place.column < right
                };
                rows.retain(|&row| in_block(&places[row as usize]));
                rows.sort_by_key(|&row| key(&places[row as usize]));
                rows
            }
            Self::Tiles => tiled(places, true),
            Self::Covered => tiled(places, false),
            Self::Shrunk { most } => shrunk(places, most),
            Self::Shown => {
                let rows = (0_u32..).zip(places);
                let made = rows.filter(|(_, place)| place.row != Place::ZEROS);
                let (blank, shown): (Vec<_>, Vec<_>) = made.partition(|(_, place)| place.is_blank);
                shown.into_iter().chain(blank).map(|(row, _)| row).collect()
            }
            Self::Views { rows } => {
                let views = places.chunk_by(|one, other| one.view == other.view);
                views.flat_map(|_| 0..rows as u32).collect()
            }
        }
    }

    /// Positions of the tokens of a record by time, row and column, where `token` stands for the rows of its pictures, one
    /// picture after the other: those of a picture are its own, counted from the token in front of it; what follows goes on
    /// from the largest of its rows and columns. The number of such tokens must be that of the rows.
    pub fn positions(self, tokens: &[u32], token: u32, places: &[Place]) -> Vec<[u32; 3]> {
        let parts = self.parts();
        let sources = self.sources(places);
        let side = match self {
            Self::Blocks { side } => side as u32,
            _ => 1,
        };
        let mut rows = sources.chunks(parts.max(1)).filter_map(|row| {
            let place = places.get(*row.first()? as usize)?;
            Some((place, [place.row / side, place.column / side]))
        });
        let mut positions = Vec::with_capacity(tokens.len());
        let (mut next, mut last): (u32, Option<&Place>) = (0, None);
        let (mut start, mut first_view) = (0, 0);
        for &id in tokens {
            let row = if id == token { rows.next() } else { None };
            let Some((place, [row, column])) = row else {
                positions.push([next; 3]);
                next += 1;
                last = None;
                continue;
            };
            if last.is_none_or(|last| last.picture != place.picture) {
                (start, first_view) = (next, place.view);
                next += place
                    .grid
                    .map(|count| count / side)
                    .into_iter()
                    .max()
                    .unwrap_or(0);
            }
            last = Some(place);
            positions.push([start + place.view - first_view, start + row, start + column]);
        }
        positions
    }

    /// A vector of the model in the place of a row.
    pub const NONE: u32 = u32::MAX;
}
