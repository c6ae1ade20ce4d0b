//! A row of a table by the tile that a row of a picture is of.

use serde::Serialize;

use super::{Mechanism, Uses};
use crate::source::WeightIndex;

/// The row of a table that the shape of its picture and the number of its tile say (Mllama).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TileRow {
    /// `[shapes * tiles * hidden]`.
    pub table: WeightIndex,
    /// Tiles of every picture.
    pub tiles: usize,
}

impl Mechanism for TileRow {
    fn weights(&self, uses: &mut Uses) {
        uses.weight(self.table);
    }

    fn label(&self) -> String {
        "a row by tile".into()
    }

    fn summary(&self) -> String {
        self.label()
    }
}
