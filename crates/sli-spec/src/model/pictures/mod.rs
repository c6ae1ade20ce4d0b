//! Rows that come of the patches of a record's pictures.

mod layout;
mod place;
mod rows;
mod unfold;

use std::ops::Range;

use serde::Serialize;

pub use self::layout::{BesidePlanes, PackedLimits, PictureLayout, PreparedPictures};
pub use self::place::Place;
use self::place::blocks;
pub use self::rows::PictureRows;
use super::joined_tiles::TileTables;
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
    /// It is stretched to as many rows as a view has columns, and as many columns as it has rows; patches have them in the order
    /// in which they come (Muse Spark).
    #[serde(skip_serializing_if = "is_default")]
    pub turned: bool,
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
    /// The same; beyond the edges there is nothing.
    LinearInside,
    /// By cubes between the four nearest, the edges on the edges; beyond them stand the rows at the edges.
    Cubic,
    /// By the distance of the middles, cubes between four, of more of them where the grid becomes smaller; none beyond the edges.
    CubicAntialiased,
    /// The same between two.
    LinearAntialiased,
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
            | Interpolation::LinearInside
            | Interpolation::Cubic
            | Interpolation::Buckets => None,
        }
    }
}
