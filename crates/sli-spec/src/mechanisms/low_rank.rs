//! A product of two small matrices.

use serde::Serialize;

use super::{Mechanism, Uses};
use crate::parts::Linear;

/// A product of two small matrices (LAuReL).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowRank {
    /// `[rank, hidden]`.
    pub down: Linear,
    /// `[hidden, rank]`.
    pub up: Linear,
}

impl Mechanism for LowRank {
    fn weights(&self, uses: &mut Uses) {
        let Self { down, up } = self;
        uses.linear(down);
        uses.linear(up);
    }

    fn label(&self) -> String {
        "low-rank product".into()
    }

    fn summary(&self) -> String {
        format!("low-rank product, rank {}", self.down.out_features)
    }
}
