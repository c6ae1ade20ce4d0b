//! Pictures of any size that are cut to tiles of one size.

use std::ops::Range;

use serde::Serialize;

use super::view::View;

/// Which sizes pictures are brought to before they are cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tiling {
    /// Heights and widths that there are, in points: multiples of a tile's.
    pub sizes: Vec<[usize; 2]>,
    /// Height and width of a tile.
    pub tile: usize,
}

impl Tiling {
    /// Rows and columns of tiles of a picture of this height and width: of the size that keeps most of its points and, of
    /// several such, wastes the fewest.
    fn tiles(&self, [height, width]: [u32; 2]) -> Option<[usize; 2]> {
        let (wide, high) = (f64::from(width), f64::from(height));
        let own = u64::from(height) * u64::from(width);
        let rated = self.sizes.iter().map(|&[rows, columns]| {
            let scale = (columns as f64 / wide).min(rows as f64 / high);
            let kept = ((wide * scale) as u64 * (high * scale) as u64).min(own);
            let wasted = (rows * columns) as i64 - kept as i64;
            (kept, wasted, [rows, columns])
        });
        let better = |best: Option<(u64, i64, [usize; 2])>, next: (u64, i64, [usize; 2])| {
            let (kept, wasted) = best.map_or((0, i64::MAX), |(kept, wasted, _)| (kept, wasted));
            if next.0 > kept || (next.0 == kept && next.1 < wasted) {
                Some(next)
            } else {
                best
            }
        };
        let (_, _, best) = rated.fold(None, better)?;
        Some(best.map(|points| points / self.tile))
    }

    /// The views of pictures of these heights and widths, each with its place among those of a tensor whose axes in front
    /// of the views' own are `front`; an error says what is wrong with them. `counts` has how many of the pictures stand
    /// together, of which only one that stands alone is cut; it may have nothing.
    pub(super) fn views(
        &self,
        front: &[usize],
        grid: [usize; 2],
        (sizes, counts): (&[[u32; 2]], &[u32]),
    ) -> Result<Vec<(usize, View)>, String> {
        let together = counts.iter().flat_map(|&count| {
            // No more than there are is looked at.
            let pictures = (count as usize).min(sizes.len() + 1);
            std::iter::repeat_n(count > 1, pictures)
        });
        let together: Vec<bool> = together.take(sizes.len() + 1).collect();
        if !counts.is_empty() && together.len() != sizes.len() {
            let pictures = sizes.len();
            return Err(format!(
                "has {pictures} pictures, which are not as many as stand together"
            ));
        }
        let mut tiles = Vec::with_capacity(sizes.len());
        for (picture, size) in sizes.iter().enumerate() {
            let own = if size.contains(&0) {
                None
            } else {
                let is_whole = together.get(picture) == Some(&true);
                self.tiles(*size)
                    .map(|tiles| if is_whole { [0, 0] } else { tiles })
            };
            let Some(own) = own else {
                let [height, width] = size;
                return Err(format!("has a picture of {height} x {width} points"));
            };
            tiles.push(own);
        }
        let counts = || tiles.iter().map(|[rows, columns]| rows * columns + 1);
        // Either all views one after the other, or as many places for the views of every picture.
        let (fits, places) = match *front {
            [views] => (views == counts().sum::<usize>(), None),
            [pictures, most] => (
                pictures == sizes.len() && counts().all(|count| count <= most),
                Some(most),
            ),
            _ => (false, None),
        };
        if !fits {
            let counts: Vec<usize> = counts().collect();
            return Err(format!(
                "has views {front:?}, and its pictures have {counts:?} by their sizes"
            ));
        }
        let mut views = Vec::new();
        for (picture, (&size, &tiles)) in sizes.iter().zip(&tiles).enumerate() {
            let first = places.map_or(views.len(), |most| picture * most);
            let view = View {
                grid,
                picture: picture as u32,
                size,
                tiles: tiles.map(|count| count as u32),
            };
            let [rows, columns] = tiles;
            views.extend((first..=first + rows * columns).map(|at| (at, view)));
        }
        Ok(views)
    }
}

/// Rows and columns of a grid that a picture of some height and width covers, which was brought to its size with equal
/// edges above and below, or left and right.
pub(super) fn unpadded([rows, columns]: [u32; 2], [height, width]: [u32; 2]) -> [Range<u32>; 2] {
    let [rows_real, columns_real, height, width] = [rows, columns, height, width].map(f64::from);
    // As the reference rounds: to seven places, then down.
    let whole = |length: f64| ((length * 1e7).round_ties_even() / 1e7) as u32;
    if width / height > columns_real / rows_real {
        let kept = whole(height * (columns_real / width));
        let edge = rows.saturating_sub(kept) / 2;
        [edge..rows - edge, 0..columns]
    } else {
        let kept = whole(width * (rows_real / height));
        let edge = columns.saturating_sub(kept) / 2;
        [0..rows, edge..columns - edge]
    }
}

#[cfg(test)]
mod tests {
    use super::{Tiling, unpadded};

    #[test]
    fn pictures_keep_most_of_their_points() {
        let tiling = Tiling {
            sizes: vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            tile: 336,
        };
        assert_eq!(tiling.tiles([480, 640]), Some([2, 2]));
        assert_eq!(tiling.tiles([100, 100]), Some([1, 2]));
        assert_eq!(tiling.tiles([300, 1000]), Some([1, 3]));
        let views = |front: &[usize], sizes: &[[u32; 2]], counts: &[u32]| {
            let views = tiling.views(front, [24; 2], (sizes, counts))?;
            Ok::<Vec<usize>, String>(views.into_iter().map(|(at, _)| at).collect())
        };
        assert!(views(&[4], &[[480, 640]], &[]).is_err());
        assert!(views(&[5], &[[0, 640]], &[]).is_err());
        let both = [[300, 1000], [480, 640]];
        let all = vec![0, 1, 2, 3, 5, 6, 7, 8, 9];
        assert_eq!(views(&[2, 5], &both, &[]), Ok(all.clone()));
        assert_eq!(views(&[2, 5], &both, &[1, 1]), Ok(all));
        assert_eq!(views(&[2, 1], &both, &[2]), Ok(vec![0, 1]));
        for wrong in [&[1][..], &[3], &[u32::MAX], &[0, 1], &[1, 2]] {
            assert!(views(&[2, 5], &both, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn edges_are_left_out() {
        assert_eq!(unpadded([48, 48], [480, 640]), [6..42, 0..48]);
        assert_eq!(unpadded([48, 48], [640, 481]), [0..48, 6..42]);
        assert_eq!(unpadded([48, 24], [4, 2]), [0..48, 0..24]);
    }
}
