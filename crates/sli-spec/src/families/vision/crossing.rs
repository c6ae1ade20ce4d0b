//! Gated layers of a decoder that attend to pictures in the place of earlier tokens.

use crate::build::Leaves;
use crate::families::blocks::{Blocks, Cross, Norms};
use crate::{
    Elementwise, Gain, HeadNorm, InputKind, Mask, Mixer, NormSpan, Shard, Source, Step, TokenInput,
    WeightIndex,
};

/// How such a layer is made of the decoder's own.
#[derive(Clone, Copy)]
pub(super) struct Crossing {
    /// The stack that it attends to.
    pub stack: usize,
    /// Features of that stack, where they are not the decoder's.
    pub width: Option<usize>,
    /// The gates of attention and network, and their factors.
    pub gates: ([&'static str; 2], usize),
    /// Norms of queries and of keys.
    pub norms: Option<[&'static str; 2]>,
    /// What adds nothing to tokens that see no picture: attention (0) or network (1).
    pub silent: usize,
}

impl Crossing {
    /// Its steps.
    pub fn steps(&self, blocks: &Blocks<'_>, leaves: &mut Leaves, number: usize) -> Vec<Step> {
        let mut own = blocks.clone();
        own.arrangement.attention = None;
        own.cross = Some(Cross {
            stack: self.stack,
            width: self.width,
            norms: Norms {
                before: Some("input_layernorm"),
                ..Norms::default()
            },
            projections: [
                "cross_attn.q_proj",
                "cross_attn.k_proj",
                "cross_attn.v_proj",
            ],
            output: "cross_attn.o_proj",
        });
        let mut steps = own.steps(leaves, number);
        let (gates, factors) = self.gates;
        for (index, (step, name)) in steps.iter_mut().zip(gates).enumerate() {
            let factor = gate(leaves, name, (Elementwise::Tanh, factors));
            for branch in &mut step.branches {
                branch.gain = Gain::Vector(factor);
                branch.of_seeing = index == self.silent;
                let Mixer::Attention(attention) = &mut branch.mixer else {
                    continue;
                };
                attention.mask = Mask::Seen;
                if let Some(names) = self.norms {
                    let [query, key] = names.map(|name| {
                        Some(HeadNorm {
                            norm: leaves.norm(name, blocks.head_dim, blocks.norm),
                            span: NormSpan::Head,
                            after_rotation: false,
                        })
                    });
                    (attention.query_norm, attention.key_norm) = (query, key);
                }
            }
        }
        steps
    }
}

/// What says which pictures a token sees.
pub(super) fn mask(name: &'static str, placeholder: Option<u32>) -> TokenInput {
    TokenInput {
        name,
        columns: 2,
        kind: InputKind::Seen { placeholder },
    }
}

/// So many factors of a gate `NAME`, whatever its axes.
pub(super) fn gate(
    leaves: &mut Leaves,
    name: &str,
    (by, factors): (Elementwise, usize),
) -> WeightIndex {
    let stored = Source::Reshape(Box::new(leaves.tensor(name)));
    leaves.weight(stored.by(by), &[factors], Shard::Replicate)
}
