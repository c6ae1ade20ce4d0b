//! Residual streams of a row from its earlier ones.

use serde::Serialize;

use super::{Mechanism, Operations, Uses};
use crate::parts::Slot;
use crate::source::WeightIndex;

/// Attention of learned queries to the streams of a row, each normalised without a factor: with
/// `n_s = norm(stream_s)`, target `q` becomes `sum_s softmax_s(query_q n_s / sqrt(hidden)) n_s` (Inkling 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamAttention {
    /// What is attended to.
    pub streams: Vec<Slot>,
    /// `[targets * hidden]`, one query after the other.
    pub queries: WeightIndex,
    /// Where the sums go; none of them is one of the streams.
    pub targets: Vec<Slot>,
    /// Of the norm: added to the mean square.
    pub epsilon: f64,
}

impl Mechanism for StreamAttention {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            streams: _,
            queries,
            targets: _,
            epsilon: _,
        } = self;
        uses.weight(*queries);
    }

    fn label(&self) -> String {
        "attention to earlier residual streams".into()
    }

    fn summary(&self) -> String {
        format!("attention to {} residual streams", self.streams.len())
    }

    fn contradiction(&self) -> Option<&'static str> {
        let mixes_itself = self
            .targets
            .iter()
            .any(|target| self.streams.contains(target));
        let is_empty = self.streams.is_empty() || self.targets.is_empty();
        (mixes_itself || is_empty).then_some("a residual stream of itself or of none")
    }

    fn slots(&self) -> Vec<Slot> {
        [&self.streams[..], &self.targets].concat()
    }

    fn operations(&self) -> Operations {
        Operations::default()
    }

    fn is_in_place(&self) -> bool {
        true
    }
}
