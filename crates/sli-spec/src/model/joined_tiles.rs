//! Tiles of a picture that see each other: they are one view.

use serde::Serialize;

use crate::source::WeightIndex;

/// What beside the planes of tiles says how a picture was cut, and what stands around them (Mllama). All tiles of a
/// picture are one view, those that are none of it too; as many rows of zeros stand behind each as make its rows a
/// multiple. These rows and tiles are *blank*: they stand behind all others and do not see each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JoinedTiles {
    /// The tensor `[pictures]` of numbers of shapes.
    pub shapes: &'static str,
    /// The tensor `[pictures, tiles]` of ones for tiles that are of the picture.
    pub mask: &'static str,
    /// Tiles of every picture.
    pub tiles: usize,
    /// The number of the last shape.
    pub last_shape: usize,
    /// Rows of a tile are a multiple of so many.
    pub multiple: usize,
}

/// What is added to the rows of tiles, by the shape of their picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TileTables {
    /// `[shapes * tiles, hidden]`, to the patches of a tile.
    pub of_tiles: ScaledTable,
    /// `[shapes * tiles * rows, hidden]`, to every row of a tile but those of zeros.
    pub of_rows: ScaledTable,
    /// Factor `[1]` on the table of places.
    pub of_places: WeightIndex,
    /// Tiles of every picture.
    pub tiles: usize,
}

/// A table and the factor `[1]` on its rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScaledTable {
    /// `[rows, hidden]`.
    pub table: WeightIndex,
    /// `[1]`.
    pub factor: WeightIndex,
}

impl JoinedTiles {
    /// Rows of zeros behind so many of a tile.
    pub fn padding(&self, rows: usize) -> usize {
        rows.next_multiple_of(self.multiple) - rows
    }
}
