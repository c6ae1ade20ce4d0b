//! The attention of RWKV 7: a matrix of keys and values as state, of which every row takes something away.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Linear, Norm};
use crate::source::WeightIndex;

/// Goose (Peng et al. 2025), for `heads` of a state `S` `[head_dim, head_dim]` each. Of a row `x` and the one before it,
/// `x + shares_c (before - x)` are projected: receptance `r`, decay `w`, key `k`, value `v`, strength `a`, gate `g`. With the
/// direction `d` of `removal k`, of length one, and `k = k (1 + (a - 1) entry)`:
/// `S = w S + (a d) (-d S) + k v`, `y = r S`, `output (g (norm(y) + sum(r k bonus) v))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeltaMix {
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Shares of the row before: receptance, decay, key, value, strength, and gate where there is one; `[hidden]` each.
    pub shares: Vec<WeightIndex>,
    /// Receptance, key, value: `[heads * head_dim, hidden]` each.
    pub projections: [Linear; 3],
    /// `w = exp(-exp(-1/2) sigmoid(up tanh(down x)))`.
    pub decay: [Linear; 2],
    /// `a = sigmoid(up down x)`.
    pub strength: [Linear; 2],
    /// `g = up sigmoid(down x)`; without it the output is as it is.
    pub gate: Option<[Linear; 2]>,
    /// How much of the first layer's value takes the place of the own, `sigmoid(up down x)`; the first layer hands its own on.
    pub first_value: Option<[Linear; 2]>,
    /// `[heads * head_dim]`.
    pub removal: WeightIndex,
    /// `[heads * head_dim]`.
    pub entry: WeightIndex,
    /// `[heads * head_dim]`.
    pub bonus: WeightIndex,
    /// Of every head's output, with factors and addends of all of them.
    pub norm: Option<Norm>,
    /// `[hidden, heads * head_dim]`.
    pub output: Linear,
}

impl DeltaMix {
    /// Features of all heads.
    pub fn channels(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of a row.
    pub fn hidden(&self) -> usize {
        self.output.out_features
    }

    /// The pairs of small projections.
    pub fn pairs(&self) -> impl Iterator<Item = &[Linear; 2]> {
        let first = self.first_value.iter();
        first
            .chain([&self.decay, &self.strength])
            .chain(self.gate.iter())
    }

    /// Columns between the projections of a pair, at most.
    pub fn rank(&self) -> usize {
        let ranks = self.pairs().map(|[down, _]| down.out_features);
        ranks.max().unwrap_or(0)
    }
}

impl Mechanism for DeltaMix {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            heads: _,
            head_dim: _,
            shares,
            projections,
            decay: _,
            strength: _,
            gate: _,
            first_value: _,
            removal,
            entry,
            bonus,
            norm,
            output,
        } = self;
        for &share in shares {
            uses.weight(share);
        }
        for linear in projections.iter().chain(self.pairs().flatten()) {
            uses.linear(linear);
        }
        for &index in [removal, entry, bonus] {
            uses.weight(index);
        }
        uses.norm(norm.as_ref());
        uses.linear(output);
    }

    fn label(&self) -> String {
        "matrix state of RWKV 7".into()
    }

    fn summary(&self) -> String {
        format!(
            "matrix state that rows correct ({} heads of {})",
            self.heads, self.head_dim
        )
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        let norm = self.norm.iter();
        norm.map(|norm| (norm, "of each head's output")).collect()
    }

    fn hands_on(&self) -> usize {
        self.channels()
    }

    fn states(&self) -> Vec<StateSpec> {
        let before = StateSpec::Window {
            rows: 1,
            columns: self.hidden(),
        };
        let matrices = StateSpec::Fixed {
            values: self.head_dim * self.channels(),
        };
        vec![before, matrices]
    }

    fn operations(&self) -> Operations {
        // Decay, correction, entry and output.
        Operations {
            of_row: (9 * self.head_dim * self.channels() + 40 * self.hidden()) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, hidden: usize) -> usize {
        7 * (hidden + self.channels())
    }
}
