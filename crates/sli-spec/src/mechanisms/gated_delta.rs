//! The gated delta rule: a matrix of keys and values as state, which forgets, and which every row corrects.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Convolution, Linear, Norm, NormKind};
use crate::source::WeightIndex;

/// Gated DeltaNet (Yang et al. 2024) and Kimi delta attention (2025), for `heads` of a state
/// `S` `[key_dim, value_dim]` each. With `q | k | v = activation(convolution(input x))`, `q` and `k` of length one,
/// what is left of the state `w` and the strength of the correction `b`:
/// `S = w S + b k (v - k^T w S)`, `y = q^T S / sqrt(key_dim)`, `output norm(y) * activation(gate x)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatedDelta {
    /// Heads of values, each with a state.
    pub heads: usize,
    /// Heads of queries and keys; each serves as many heads of values that follow each other.
    pub key_heads: usize,
    /// Features of a query or key head.
    pub key_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// `[2 * key_heads * key_dim + heads * value_dim, hidden]`.
    pub input: Linear,
    /// Of queries, keys and values.
    pub convolution: Convolution,
    /// Of query and key heads.
    pub key_norm: Norm,
    /// What is left of the state.
    pub forget: ForgetGate,
    /// `[heads, hidden]`: the sigmoid of it, times `strength_scale`, is the strength of a correction.
    pub strength: Linear,
    /// Beyond 1, corrections may turn a state around.
    pub strength_scale: f64,
    /// `[heads * value_dim, hidden]`, of the output.
    pub gate: Factored,
    /// Of the gate.
    pub gate_activation: Activation,
    /// Of every head's output, in front of the gate.
    pub norm: Norm,
    /// `[hidden, heads * value_dim]`.
    pub output: Linear,
}

/// What is left of a state: `exp(-exp(a_log) softplus(projection x + bias))`, or, with a bound,
/// `exp(bound sigmoid(exp(a_log) (projection x + bias)))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForgetGate {
    /// `[heads, hidden]`, or `[heads * key_dim, hidden]` for every feature of a head's keys.
    pub projection: Factored,
    /// Of what is projected.
    pub bias: WeightIndex,
    /// `[heads]`.
    pub a_log: WeightIndex,
    /// The least logarithm.
    pub bound: Option<f64>,
}

/// A linear map, or two behind each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Factored {
    /// `[rank, in]`.
    pub down: Option<Linear>,
    /// `[out, in]`, or `[out, rank]`.
    pub up: Linear,
}

impl GatedDelta {
    /// Features of all keys.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Features of all values.
    pub fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Every feature of a head's keys is forgotten by itself.
    pub fn forgets_by_key(&self) -> bool {
        self.forget.projection.up.out_features != self.heads
    }
}

impl Factored {
    /// One linear map.
    pub fn whole(up: Linear) -> Self {
        Self { down: None, up }
    }

    /// Collects its weights.
    pub fn weights(&self, uses: &mut Uses) {
        let Self { down, up } = self;
        if let Some(down) = down {
            uses.linear(down);
        }
        uses.linear(up);
    }

    /// Columns between the two.
    pub fn rank(&self) -> usize {
        self.down.as_ref().map_or(0, |down| down.out_features)
    }
}

impl Mechanism for GatedDelta {
    fn weights(&self, uses: &mut Uses) {
        let GatedDelta {
            heads: _,
            key_heads: _,
            key_dim: _,
            value_dim: _,
            input,
            convolution,
            key_norm,
            forget,
            strength,
            strength_scale: _,
            gate,
            gate_activation: _,
            norm,
            output,
        } = self;
        uses.linear(input);
        uses.convolution(convolution);
        uses.norm(Some(key_norm));
        let ForgetGate {
            projection,
            bias,
            a_log,
            bound: _,
        } = forget;
        projection.weights(uses);
        uses.weight(*bias);
        uses.weight(*a_log);
        uses.linear(strength);
        gate.weights(uses);
        uses.norm(Some(norm));
        uses.linear(output);
    }

    fn label(&self) -> String {
        let by = if self.forgets_by_key() {
            "feature"
        } else {
            "head"
        };
        format!("gated delta rule, forgets by {by}")
    }

    fn summary(&self) -> String {
        format!(
            "gated delta rule ({} heads, {} key heads, state {} x {})",
            self.heads, self.key_heads, self.key_dim, self.value_dim
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let by_key = self.heads * self.key_dim;
        let forgets = self.forget.projection.up.out_features;
        let is_odd = forgets != self.heads && forgets != by_key;
        let odd_norm = self.key_norm.kind != NormKind::L2;
        super::contradiction::first_of(&[
            (is_odd, "what is forgotten neither by head nor by feature"),
            (odd_norm, "keys of another length than one"),
        ])
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        vec![
            (&self.key_norm, "of each query and key head"),
            (&self.norm, "of each head's output"),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        let recurrence = StateSpec::Fixed {
            values: self.key_dim * self.values(),
        };
        vec![self.convolution.state(), recurrence]
    }

    fn operations(&self) -> Operations {
        // Decay, correction, entry and output.
        let scan = 7 * self.key_dim * self.values();
        let convolution = 2 * self.convolution.columns * self.convolution.kernel;
        Operations {
            of_row: (scan + convolution) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        let forgets = self.forget.projection.up.out_features;
        self.input.out_features + self.values() + forgets + self.heads
    }
}
