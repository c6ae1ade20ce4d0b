//! Attention of two streams that share their logits.

use serde::Serialize;

use super::{Keys, Mechanism, Operations, Uses};
use crate::parts::{Cut, Linear, Mask, Norm};

/// LiLT (Wang et al. 2022): the hidden state and the layout beside it, in the first buffer, each with queries, keys and
/// values of its own; the logits are the sum of both, so the weights of both are the same. Each stream becomes
/// `norm(stream + output(heads))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayoutAttention {
    /// Heads.
    pub heads: usize,
    /// The hidden state's part, and the layout's.
    pub streams: [LayoutStream; 2],
}

/// The part of one stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayoutStream {
    /// Features of a head.
    pub head_dim: usize,
    /// Queries, keys and values `[heads * head_dim, stream]`.
    pub projections: [Linear; 3],
    /// `[stream, heads * head_dim]`.
    pub output: Linear,
    /// Of the sum.
    pub norm: Norm,
}

impl LayoutAttention {
    /// Features of a head of both streams.
    pub fn head_dim(&self) -> usize {
        self.streams.iter().map(|stream| stream.head_dim).sum()
    }
}

impl Mechanism for LayoutAttention {
    fn weights(&self, uses: &mut Uses) {
        let Self { heads: _, streams } = self;
        for LayoutStream {
            head_dim: _,
            projections,
            output,
            norm,
        } in streams
        {
            for linear in projections {
                uses.linear(linear);
            }
            uses.linear(output);
            uses.norm(Some(norm));
        }
    }

    fn label(&self) -> String {
        "attention: multi-head, full, of text and layout together".into()
    }

    fn summary(&self) -> String {
        let [text, layout] = self.streams.each_ref().map(|stream| stream.head_dim);
        format!(
            "attention of text and layout ({} heads of {text} and {layout}, both directions)",
            self.heads
        )
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Full)
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        let streams = self.streams.iter();
        streams
            .map(|stream| (&stream.norm, "after the sums of both streams"))
            .collect()
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("text and layout are of whole records")
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys {
            queries: self.heads,
            heads: self.heads,
            key: self.head_dim(),
            value: self.head_dim(),
            is_paired: false,
        })
    }

    fn operations(&self) -> Operations {
        Operations {
            of_pair: (4 * self.heads * self.head_dim()) as f64,
            weights_of_pair: self.heads as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        4 * self.heads * self.head_dim()
    }

    fn is_in_place(&self) -> bool {
        true
    }
}
