//! Several residual streams, of which sublayers read a mixture.

use serde::Serialize;

use super::{Linear, Norm};
use crate::source::WeightIndex;

/// Weights of a row's residual streams that follow from the streams themselves: with all of them side by side normed
/// to a mean square of one, `scale * projection + base`, and then a sigmoid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamWeights {
    /// `[outputs, hidden]` for each stream: columns of one matrix.
    pub projections: Vec<Linear>,
    /// Addends `[outputs]`.
    pub base: WeightIndex,
    /// Factors: on weights of reading, and, where there are such, of writing and of mixing.
    pub scale: WeightIndex,
    /// Of the norm.
    pub norm_epsilon: f64,
    /// Added to the weights with which streams are read.
    pub epsilon: f64,
}

/// A mean of residual streams that they gate: with each of the `n` streams by its norm `u_i`,
/// `mean_i sigmoid(up_i silu(sum_j down_j u_j / n)) * u_i` (Qwen4-Exp).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatedMean {
    /// Of each stream.
    pub norms: Vec<Norm>,
    /// `[rank, hidden]` for each stream.
    pub down: Vec<Linear>,
    /// `[hidden, rank]` for each stream.
    pub up: Vec<Linear>,
}

/// What sublayers read of residual streams, and the weights with which they write to them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StreamReading {
    /// A sum by weights: `read` `[n]`, `write` `[n]` and, where streams are mixed, `mix` `[n, n]`.
    Weighed(StreamWeights),
    /// A gated mean.
    Gated {
        /// It.
        mean: GatedMean,
        /// `[n, hidden]` for each stream: `write = sum_j write_j u_j / n`.
        write: Vec<Linear>,
    },
}

/// Hyper-connections (Zhu et al. 2024), with mixing weights on the manifold of doubly stochastic matrices (Xie et al.
/// 2026) or without any: with `n` streams, a sublayer reads `sum_i read[i] * stream[i]`, and of its output `y`
/// `stream[j] = write[j] * y + sum_i mix[i, j] * stream[i]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HyperConnection {
    /// What is read, and the weights.
    pub reading: StreamReading,
    /// Factor on the sigmoid of writing weights, and an addend.
    pub write: [f64; 2],
    /// Rounds of Sinkhorn and Knopp on the softmax of mixing weights; `None`: streams keep themselves.
    pub rounds: Option<usize>,
}

impl StreamWeights {
    /// Number of streams.
    pub fn streams(&self) -> usize {
        self.projections.len()
    }

    /// Weights of a row.
    pub fn outputs(&self) -> usize {
        let first = self.projections.first();
        first.map_or(0, |projection| projection.out_features)
    }
}

impl GatedMean {
    /// Number of streams.
    pub fn streams(&self) -> usize {
        self.norms.len()
    }

    /// Features between the two projections.
    pub fn rank(&self) -> usize {
        self.down.first().map_or(0, |down| down.out_features)
    }
}

impl HyperConnection {
    /// Number of streams.
    pub fn streams(&self) -> usize {
        match &self.reading {
            StreamReading::Weighed(weights) => weights.streams(),
            StreamReading::Gated { mean, write: _ } => mean.streams(),
        }
    }

    /// Weights of a row.
    pub fn outputs(&self) -> usize {
        match &self.reading {
            StreamReading::Weighed(weights) => weights.outputs(),
            StreamReading::Gated { mean, write: _ } => 2 * mean.streams(),
        }
    }
}
