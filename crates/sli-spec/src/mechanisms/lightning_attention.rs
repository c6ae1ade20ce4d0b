//! Lightning attention: a matrix of keys and values as state, which decays at a rate of its own for each head.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Linear, Norm};
use crate::source::WeightIndex;

/// Lightning attention (Qin et al. 2024), for `heads` of a state `S` `[head_dim, head_dim]` each. With
/// `q | k | v = activation(input x)`: `S = exp(-rate) S + k v^T`, `y = q^T S`,
/// `output norm(y) * sigmoid(gate x)`. With tables of the factors that a block of rows has, which are rounded each by itself, it is
/// computed as they say: rows of a block meet each other, and the state in front of their block.
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
    /// How fast the state of each head decays, where the checkpoint has no tables.
    pub rates: Vec<f64>,
    /// What the checkpoint may have of it ([`DecayTables::PART`]).
    pub tables: Option<DecayTables>,
    /// Of all heads together.
    pub norm: Norm,
    /// `[heads * head_dim, hidden]`.
    pub gate: Linear,
    /// `[hidden, heads * head_dim]`.
    pub output: Linear,
}

/// Factors `e^(-rate * rows)` of the rows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DecayTables {
    /// Rows of a block, counted from the beginning of a record.
    pub block: usize,
    /// How fast the states decay `[heads]`, from which follows what is left of them behind a block.
    pub rates: WeightIndex,
    /// Of what a row reads of the state in front of its block `[heads, block]`.
    pub of_query: WeightIndex,
    /// Of what a row adds to the state behind its block `[heads, block]`.
    pub of_key: WeightIndex,
    /// Of what a row reads of another one `[heads, block, block]`.
    pub of_pair: WeightIndex,
}

impl DecayTables {
    /// The part of a checkpoint that they are: it has all of them or none.
    pub const PART: &'static str = "tables of decays";
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
            tables,
            norm,
            gate,
            output,
        } = self;
        uses.linear(input);
        uses.linear(gate);
        if let Some(tables) = tables {
            let DecayTables {
                block: _,
                rates,
                of_query,
                of_key,
                of_pair,
            } = tables;
            for &table in [rates, of_query, of_key, of_pair] {
                uses.weight(table);
            }
        }
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
        let state = self.head_dim * self.features();
        let open = |tables: &DecayTables| 2 * tables.block * self.features() + 1;
        vec![StateSpec::Fixed {
            values: state + self.tables.as_ref().map_or(0, open),
        }]
    }

    fn operations(&self) -> Operations {
        // Decay, entry and output; by blocks, entry, output and half a block of keys and values.
        let of_feature = match &self.tables {
            Some(tables) => 4 * self.head_dim + 2 * tables.block,
            None => 5 * self.head_dim,
        };
        Operations {
            of_row: (of_feature * self.features()) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        4 * self.features()
    }
}
