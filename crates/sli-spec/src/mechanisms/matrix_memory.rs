//! The matrix memory of xLSTM: keys and values as state, with exponential gates.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Linear, Norm};

/// mLSTM (Beck et al. 2024), for `heads` of a state `C` `[key_dim, value_dim]`, `n` `[key_dim]` and `m`. With
/// `q | k | v | o = input x` and the limited gates `i | f = cap tanh(gates x / cap)`:
/// `m = max(ln sigmoid(f) + m, i)`, `f' = exp(ln sigmoid(f) + m_before - m)`, `i' = exp(i - m)`, `C = f' C + i' k v`,
/// `n = f' n + i' k`, `y = q C / (max(|q n|, exp(-m)) + epsilon)` with `q / sqrt(key_dim)`, and
/// `output (sigmoid(o) norm(y))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MatrixMemory {
    /// Heads.
    pub heads: usize,
    /// Features of a query or key head.
    pub key_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// `[2 * heads * (key_dim + value_dim), hidden]`.
    pub input: Linear,
    /// `[2 * heads, hidden]`.
    pub gates: Linear,
    /// Of the gates.
    pub gate_softcap: Option<f64>,
    /// Added to what is divided by.
    pub epsilon: f64,
    /// Of every head's output, with factors of all of them.
    pub norm: Norm,
    /// `[hidden, heads * value_dim]`.
    pub output: Linear,
}

impl MatrixMemory {
    /// Features of all queries, or of all keys.
    pub fn keys(&self) -> usize {
        self.heads * self.key_dim
    }

    /// Features of all values.
    pub fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Columns of all values, with the one beside each head's for `n`.
    pub fn counted_values(&self) -> usize {
        self.heads * (self.value_dim + 1)
    }
}

impl Mechanism for MatrixMemory {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            heads: _,
            key_dim: _,
            value_dim: _,
            input,
            gates,
            gate_softcap: _,
            epsilon: _,
            norm,
            output,
        } = self;
        uses.linear(input);
        uses.linear(gates);
        uses.norm(Some(norm));
        uses.linear(output);
    }

    fn label(&self) -> String {
        "matrix memory, exponential gates".into()
    }

    fn summary(&self) -> String {
        format!(
            "matrix memory ({} heads, state {} x {})",
            self.heads, self.key_dim, self.value_dim
        )
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        vec![(&self.norm, "of each head's output")]
    }

    fn states(&self) -> Vec<StateSpec> {
        let exponents = StateSpec::Fixed { values: self.heads };
        let matrices = StateSpec::Fixed {
            values: self.key_dim * self.counted_values(),
        };
        vec![exponents, matrices]
    }

    fn operations(&self) -> Operations {
        // Decay, entry and output.
        Operations {
            of_row: (5 * self.key_dim * self.counted_values()) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        self.input.out_features + self.counted_values() + 3 * self.heads
    }
}
