//! Attention with projections that are experts.

use serde::Serialize;

use super::contradiction::{PADDING, first_of};
use super::{Keys, Mechanism, Operations, Router, Routing, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Linear, Mask};
use crate::source::WeightIndex;

/// Attention whose query and output projections are experts (JetMoe): a token's queries come from
/// `top_k` experts, each with its own heads, all over the same keys and values; the weighted outputs
/// of the same experts are summed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureOfAttention {
    /// Number of experts.
    pub experts: usize,
    /// How tokens choose.
    pub router: Router,
    /// Heads of one expert, which are also the key/value heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// `[experts, heads * head_dim, hidden]`.
    pub query: Linear,
    /// `[heads * head_dim, hidden]`.
    pub key: Linear,
    /// `[heads * head_dim, hidden]`.
    pub value: Linear,
    /// `[experts, hidden, heads * head_dim]`.
    pub output: Linear,
    /// Added to the sum `[hidden]`.
    pub output_bias: WeightIndex,
    /// Rotation of queries and keys.
    pub rope: Option<Rope>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on `q k`.
    pub scale: f64,
}

impl Mechanism for MixtureOfAttention {
    fn weights(&self, uses: &mut Uses) {
        let MixtureOfAttention {
            experts: _,
            router,
            heads: _,
            head_dim: _,
            query,
            key,
            value,
            output,
            output_bias,
            rope: _,
            mask: _,
            scale: _,
        } = self;
        router.weights(uses);
        uses.linear(query);
        uses.linear(key);
        uses.linear(value);
        uses.linear(output);
        uses.weight(*output_bias);
    }

    fn label(&self) -> String {
        "mixture of attention heads".into()
    }

    fn summary(&self) -> String {
        format!(
            "{} attention experts ({} heads of {}), {} a token",
            self.experts, self.heads, self.head_dim, self.router.top_k
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let is_added = self.query.bias.is_some() || self.output.bias.is_some();
        self.router.contradiction().or_else(|| {
            first_of(&[
                (
                    self.router.weighs_input,
                    "attention experts that weigh their input",
                ),
                (is_added, "attention experts with addends of their own"),
                (self.mask.is_of_padding(), PADDING),
            ])
        })
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Attention)
    }

    fn mask(&self) -> Option<Mask> {
        Some(self.mask)
    }

    fn ropes(&self) -> Vec<&Rope> {
        self.rope.iter().collect()
    }

    fn routing(&self) -> Option<Routing<'_>> {
        Some(Routing {
            router: &self.router,
            experts: self.experts,
            is_shown: false,
        })
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("projections of queries are experts")
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys {
            queries: self.heads * self.router.top_k,
            heads: self.heads,
            key: self.head_dim,
            value: self.head_dim,
            is_paired: false,
        })
    }

    fn operations(&self) -> Operations {
        let one = 2 * self.query.out_features * self.query.in_features;
        Operations {
            of_row: (2 * one * self.router.top_k) as f64,
            of_pair: (4 * self.heads * self.router.top_k * self.head_dim) as f64,
            weights_of_pair: (self.heads * self.router.top_k) as f64,
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        2 * (self.router.top_k + 1) * self.heads * self.head_dim
    }

    fn depends_on_length(&self, longest: usize) -> Option<&'static str> {
        let rope = self.rope.as_ref();
        let rope = rope.and_then(|rope| rope.turns_by_length(longest));
        rope.or_else(|| self.router.depends_on_length())
    }
}
