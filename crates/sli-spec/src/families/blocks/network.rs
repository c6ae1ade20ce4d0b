//! The feed-forward network of a layer.

use super::Blocks;
use crate::build::Leaves;
use crate::{FeedForward, Linear, Mixer, Shard, Split, Xielu};

impl Blocks<'_> {
    /// What stands in the place of the feed-forward network of a layer, its names relative to the layer.
    pub fn feed_forward(&self, leaves: &mut Leaves, layer: usize) -> Mixer {
        let other = self.feed_forward_of.mixer(self, leaves, layer);
        other.unwrap_or_else(|| Mixer::FeedForward(self.network(leaves)))
    }

    /// The feed-forward network.
    pub fn network(&self, leaves: &mut Leaves) -> FeedForward {
        let [hidden, inner] = [self.hidden_size, self.intermediate_size];
        let (gate, up) = match self.names.gate_up {
            Some(name) => {
                let parts = if self.names.up_first { [1, 0] } else { [0, 1] };
                let [gate, up] = parts.map(|part| self.half(leaves, name, part));
                (Some(gate), up)
            }
            None => {
                let mut into = |name: &str| {
                    let bias = self.up_bias.then(|| leaves.tensor(&format!("{name}.bias")));
                    self.linear(leaves, name, [inner, hidden], bias, Shard::Column)
                };
                let gate = self.gated.then(|| into(self.names.gate));
                (gate, into(self.names.up))
            }
        };
        let learned_activation = self.xielu.then(|| Xielu {
            alpha_p: leaves.scalar("mlp.act_fn.alpha_p", false),
            alpha_n: leaves.scalar("mlp.act_fn.alpha_n", false),
            beta: leaves.scalar("mlp.act_fn.beta", true),
            eps: leaves.scalar("mlp.act_fn.eps", true),
        });
        let inner_norm = self.names.inner_norm;
        let inner_norm = inner_norm.map(|name| leaves.norm(name, inner, self.norm));
        let name = self.names.down;
        let bias = self
            .down_bias
            .then(|| leaves.tensor(&format!("{name}.bias")));
        FeedForward {
            gate,
            up,
            down: self.linear(leaves, name, [hidden, inner], bias, Shard::Row),
            activation: self.activation,
            gate_scale: 1.0,
            learned_activation,
            inner_norm,
            clamped: self.clamped,
        }
    }

    fn half(&self, leaves: &mut Leaves, name: &str, part: usize) -> Linear {
        let inner = self.intermediate_size;
        let stored = |parameter| {
            let both = leaves.tensor(&format!("{name}.{parameter}"));
            both.part(Split::Rows(vec![inner; 2]), part)
        };
        let (weight, bias) = (stored("weight"), self.up_bias.then(|| stored("bias")));
        leaves.linear_of(weight, bias, [inner, self.hidden_size], Shard::Column)
    }
}
