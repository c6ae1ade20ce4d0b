//! Several residual streams (hyper-connections): how their weights are named, and where they end.

use super::Blocks;
use crate::build::{Leaves, NormStyle};
use crate::{
    GatedMean, HyperConnection, Linear, Merge, Norm, Shard, Split, Step, StreamReading,
    StreamWeights, WeightIndex,
};

/// Hyper-connections around every sublayer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Number of streams.
    pub streams: usize,
    /// Of the norm of all streams.
    pub norm_epsilon: f64,
    /// Added to reading weights.
    pub epsilon: f64,
    /// Factor on the sigmoid of writing weights, and an addend.
    pub write: [f64; 2],
    /// Rounds on mixing weights; `None`: streams keep themselves.
    pub rounds: Option<usize>,
    /// The weights around attention and feed-forward network: matrix, addends and factors, in a layer.
    pub names: [[&'static str; 3]; 2],
    /// The same behind the last layer, in the stack; `None`: the mean of all streams.
    pub head: Option<[&'static str; 3]>,
}

impl Hyper {
    /// Surrounds the sublayers of a layer.
    pub(super) fn connect(&self, leaves: &mut Leaves, hidden: usize, steps: &mut [Step]) {
        for (step, names) in steps.iter_mut().zip(self.names) {
            let mixed = self.rounds.map_or(0, |_| self.streams * self.streams);
            let kinds = 2 + usize::from(self.rounds.is_some());
            let weights = self.weights(leaves, names, hidden, [2 * self.streams + mixed, kinds]);
            step.connection = Some(Box::new(HyperConnection {
                reading: StreamReading::Weighed(weights),
                write: self.write,
                rounds: self.rounds,
            }));
        }
    }

    /// What becomes of the streams behind the last layer.
    pub(super) fn merge(&self, leaves: &mut Leaves, blocks: &Blocks<'_>) -> Merge {
        let Some(names) = self.head else {
            return Merge::Mean(self.streams);
        };
        let names = names.map(|name| format!("{}{name}", blocks.prefix));
        let names = [&names[0], &names[1], &names[2]].map(String::as_str);
        let shape = [self.streams, 1];
        Merge::Weighed(self.weights(leaves, names, blocks.hidden_size, shape))
    }

    fn weights(
        &self,
        leaves: &mut Leaves,
        [matrix, base, scale]: [&str; 3],
        hidden: usize,
        [outputs, kinds]: [usize; 2],
    ) -> StreamWeights {
        let columns = Split::Rows(vec![hidden; self.streams]);
        let projections = (0..self.streams).map(|stream| {
            let matrix = leaves.tensor(matrix).transpose();
            let own = matrix.part(columns.clone(), stream).transpose();
            leaves.linear_of(own, None, [outputs, hidden], Shard::Replicate)
        });
        let projections = projections.collect();
        let mut vector = |name: &str, elements: usize| -> WeightIndex {
            let source = leaves.tensor(name);
            leaves.weight(source, &[elements], Shard::Replicate)
        };
        StreamWeights {
            projections,
            base: vector(base, outputs),
            scale: vector(scale, kinds),
            norm_epsilon: self.norm_epsilon,
            epsilon: self.epsilon,
        }
    }
}

/// Residual streams of which sublayers read a gated mean (Qwen4-Exp).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedStreams {
    /// Number of streams.
    pub streams: usize,
    /// Features inside the gates.
    pub rank: usize,
    /// The tensors around attention and feed-forward network, in a layer.
    pub places: [&'static str; 2],
    /// Those behind the last layer, in the stack.
    pub head: &'static str,
}

impl GatedStreams {
    /// Surrounds the sublayers of a layer.
    pub(super) fn connect(&self, leaves: &mut Leaves, blocks: &Blocks<'_>, steps: &mut [Step]) {
        let hidden = blocks.hidden_size;
        for (step, place) in steps.iter_mut().zip(self.places) {
            let mean = self.mean(leaves, place, hidden, blocks.norm);
            let name = format!("{place}.block_inject_weight.weight");
            let write = self.columns(leaves, &name, [self.streams, hidden]);
            step.connection = Some(Box::new(HyperConnection {
                reading: StreamReading::Gated { mean, write },
                write: [2.0, 0.0],
                rounds: None,
            }));
        }
    }

    /// What becomes of the streams behind the last layer.
    pub(super) fn merge(&self, leaves: &mut Leaves, blocks: &Blocks<'_>) -> Merge {
        let place = format!("{}{}", blocks.prefix, self.head);
        Merge::Gated(self.mean(leaves, &place, blocks.hidden_size, blocks.norm))
    }

    fn mean(&self, leaves: &mut Leaves, place: &str, hidden: usize, style: NormStyle) -> GatedMean {
        let name = |part: &str| format!("{place}.{part}.weight");
        let norms = self.norms(leaves, &name("hc_norm"), hidden, style);
        let down = name("input_mix_weight_down");
        let down = self.columns(leaves, &down, [self.rank, hidden]);
        let up = name("input_mix_weight_up");
        let up = self.rows(leaves, &up, [hidden, self.rank]);
        GatedMean { norms, down, up }
    }

    /// A norm for each stream, whose factors are one tensor.
    pub fn norms(
        &self,
        leaves: &mut Leaves,
        name: &str,
        hidden: usize,
        style: NormStyle,
    ) -> Vec<Norm> {
        let split = Split::Rows(vec![hidden; self.streams]);
        let norm = |stream: usize| {
            let own = leaves.tensor(name).part(split.clone(), stream);
            let own = if style.plus_one { own.plus_one() } else { own };
            Norm {
                kind: style.kind,
                weight: Some(leaves.weight(own, &[hidden], Shard::Replicate)),
                bias: None,
                epsilon: style.epsilon,
            }
        };
        (0..self.streams).map(norm).collect()
    }

    /// A matrix for each stream, whose rows stand one below the other.
    pub fn rows(&self, leaves: &mut Leaves, name: &str, shape: [usize; 2]) -> Vec<Linear> {
        let split = Split::Rows(vec![shape[0]; self.streams]);
        let linear = |stream: usize| {
            let own = leaves.tensor(name).part(split.clone(), stream);
            leaves.linear_of(own, None, shape, Shard::Replicate)
        };
        (0..self.streams).map(linear).collect()
    }

    /// A matrix for each stream, whose columns stand side by side.
    fn columns(&self, leaves: &mut Leaves, name: &str, shape: [usize; 2]) -> Vec<Linear> {
        let split = Split::Rows(vec![shape[1]; self.streams]);
        let linear = |stream: usize| {
            let all = leaves.tensor(name).transpose();
            let own = all.part(split.clone(), stream).transpose();
            leaves.linear_of(own, None, shape, Shard::Replicate)
        };
        (0..self.streams).map(linear).collect()
    }
}
