//! Lightning attention: a matrix of keys and values as state, which decays at a rate of its own for each head.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Linear, Norm};

/// Lightning attention (Qin et al. 2024), for `heads` of a state `S` `[head_dim, head_dim]` each. With
/// `q | k | v = activation(input x)`: `S = exp(-rate) S + k v^T`, `y = q^T S`,
/// `output norm(y) * sigmoid(gate x)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LightningAttention {
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// `[3 * heads * head_dim, hidden]`.
    pub input: Linear,
    /// Of what is projected.
    pub activation: Activation,
    /// How fast the state of each head decays.
    pub rates: Vec<f64>,
    /// Of all heads together.
    pub norm: Norm,
    /// `[heads * head_dim, hidden]`.
    pub gate: Linear,
    /// `[hidden, heads * head_dim]`.
    pub output: Linear,
}

impl LightningAttention {
    /// Features of all heads.
    pub fn features(&self) -> usize {
        self.heads * self.head_dim
    }
}

impl Mechanism for LightningAttention {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            heads: _,
            head_dim: _,
            input,
            activation: _,
            rates: _,
            norm,
            gate,
            output,
        } = self;
        uses.linear(input);
        uses.linear(gate);
        uses.norm(Some(norm));
        uses.linear(output);
    }

    fn label(&self) -> String {
        "lightning attention".into()
    }

    fn summary(&self) -> String {
        format!(
            "lightning attention ({} heads of {})",
            self.heads, self.head_dim
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        (self.rates.len() != self.heads).then_some("not a rate for each head")
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        vec![(&self.norm, "of all heads' outputs")]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::Fixed {
            values: self.head_dim * self.features(),
        }]
    }

    fn operations(&self) -> Operations {
        // Decay, entry and output.
        Operations {
            of_row: (5 * self.head_dim * self.features()) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        4 * self.features()
    }
}
