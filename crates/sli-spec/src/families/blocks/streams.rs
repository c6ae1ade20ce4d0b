//! Several residual streams (hyper-connections): how their weights are named, and where they end.

use super::Blocks;
use crate::build::Leaves;
use crate::{HyperConnection, Merge, Shard, Split, Step, StreamWeights, WeightIndex};

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
                weights,
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
