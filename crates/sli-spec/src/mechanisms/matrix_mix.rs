//! The attention of RWKV 5 and 6: a matrix of keys and values as state, whose decay follows from the channel or
//! from the row.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Linear, Norm};
use crate::source::WeightIndex;

/// Eagle and Finch (Peng et al. 2024), for `heads` of a state `S` `[head_dim, head_dim]` each. Receptance `r`, key `k`,
/// value `v` and gate `g` are projections of mixtures of a row and the one before it:
/// `y = r^T (S + bonus k v^T)`, `S = w S + k v^T`, `output (norm(y) * silu(g))`. Without a bonus only what the decay makes
/// room for enters: `S = w S + ((1 - w) k) v^T`, `y = r^T S / sqrt(head_dim)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MatrixMix {
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// What is projected.
    pub mixtures: Mixtures,
    /// Receptance, key, value, gate: `[heads * head_dim, hidden]` each.
    pub projections: [Linear; 4],
    /// `ln(-ln w)` `[heads * head_dim]`; of a mixture of its own something is added to it.
    pub decay: WeightIndex,
    /// `[heads * head_dim]`.
    pub bonus: Option<WeightIndex>,
    /// Of every head's output, with factors and addends of all of them.
    pub norm: Option<Norm>,
    /// Of the gate.
    pub gate: Activation,
    /// `[hidden, heads * head_dim]`.
    pub output: Linear,
}

/// How a row `x` and the one before it become what is projected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixtures {
    /// `mix * x + (1 - mix) * before`, for receptance, key, value and gate (RWKV 5) `[hidden]` each.
    Fixed([WeightIndex; 4]),
    /// By the rows themselves (RWKV 6).
    OfRows(Box<RowMixtures>),
}

/// With `d = before - x` and `m = tanh(down (x + mix d))`: `x + d (shares_c + up_c m_c)`, for receptance, key, value,
/// gate and decay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowMixtures {
    /// `[hidden]`.
    pub mix: WeightIndex,
    /// `[5 * rank, hidden]`.
    pub down: Linear,
    /// `[hidden, rank]` each.
    pub up: [Linear; 5],
    /// `[hidden]` each.
    pub shares: [WeightIndex; 5],
    /// What is added to the decay: `up(tanh(down x))` of its mixture.
    pub decay: [Linear; 2],
}

impl MatrixMix {
    /// Features of all heads.
    pub fn channels(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of a row.
    pub fn hidden(&self) -> usize {
        self.output.out_features
    }

    /// Columns of the rows that the next one needs.
    pub fn shifted(&self) -> usize {
        match self.mixtures {
            Mixtures::Fixed(_) => 4 * self.hidden(),
            Mixtures::OfRows(_) => self.hidden(),
        }
    }
}

impl Mechanism for MatrixMix {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            heads: _,
            head_dim: _,
            mixtures,
            projections,
            decay,
            bonus,
            norm,
            gate: _,
            output,
        } = self;
        match mixtures {
            Mixtures::Fixed(mix) => mix.iter().for_each(|&mix| uses.weight(mix)),
            Mixtures::OfRows(mixtures) => mixtures.weights(uses),
        }
        for projection in projections {
            uses.linear(projection);
        }
        uses.weight(*decay);
        uses.optional(*bonus);
        uses.norm(norm.as_ref());
        uses.linear(output);
    }

    fn label(&self) -> String {
        let by = match self.mixtures {
            Mixtures::Fixed(_) => "channel",
            Mixtures::OfRows(_) => "row",
        };
        format!("matrix state of RWKV, decays by {by}")
    }

    fn summary(&self) -> String {
        format!("matrix state ({} heads of {})", self.heads, self.head_dim)
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

    fn states(&self) -> Vec<StateSpec> {
        let before = StateSpec::Window {
            rows: 1,
            columns: self.shifted(),
        };
        let matrices = StateSpec::Fixed {
            values: self.head_dim * self.channels(),
        };
        vec![before, matrices]
    }

    fn operations(&self) -> Operations {
        // Decay, entry, bonus and output.
        Operations {
            of_row: (7 * self.head_dim * self.channels() + 20 * self.hidden()) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, hidden: usize) -> usize {
        5 * (hidden + self.channels())
    }
}

impl RowMixtures {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            mix,
            down,
            up,
            shares,
            decay,
        } = self;
        uses.weight(*mix);
        uses.linear(down);
        for linear in up.iter().chain(decay) {
            uses.linear(linear);
        }
        for &share in shares {
            uses.weight(share);
        }
    }
}
