//! The scan of Mamba-2: heads whose states decay as a whole.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Convolution, Linear, Norm};
use crate::source::WeightIndex;

/// Mamba-2's mixer (Dao and Gu 2024), for `heads` of `head_dim` features with a state each. With
/// `z | u | t = input x` and `v | B | C = activation(convolution u)`:
/// `dt = softplus(t + time_step_bias)` within limits, `h = exp(dt A) h + dt B v^T`, `y = h^T C + D v`,
/// `output norm(activation(z) * y)`, where `A = -exp(a_log)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateSpaceDual {
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Values of a feature's state.
    pub state: usize,
    /// Groups of heads that share `B` and `C`.
    pub groups: usize,
    /// `[2 * heads * head_dim + 2 * groups * state + heads, hidden]`: the gate; what is scanned, `B` and `C`; time
    /// steps.
    pub input: Linear,
    /// Factors on what the input gives: gate, scanned features, `B`, `C`, time steps (Falcon H1).
    pub multipliers: Option<[f64; 5]>,
    /// Of what is scanned, `B` and `C`.
    pub convolution: Convolution,
    /// `[heads]`.
    pub time_step_bias: WeightIndex,
    /// Least and most of the time steps, where they are limited.
    pub time_step_limits: Option<[f64; 2]>,
    /// `[heads]`.
    pub a_log: WeightIndex,
    /// `D`: `[heads]`, or `[heads * head_dim]`.
    pub skip: WeightIndex,
    /// Of the gate.
    pub gate_activation: Activation,
    /// In front of the output, where there is one.
    pub norm: Option<GatedNorm>,
    /// `[hidden, heads * head_dim]`.
    pub output: Linear,
}

/// A norm and a gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatedNorm {
    /// The norm; its factors are of all features.
    pub norm: Norm,
    /// Equal parts of a row that are normalised apart.
    pub groups: usize,
    /// The norm comes first, then the gate.
    pub before_gate: bool,
}

impl StateSpaceDual {
    /// Features that are scanned.
    pub fn features(&self) -> usize {
        self.heads * self.head_dim
    }
}

impl Mechanism for StateSpaceDual {
    fn weights(&self, uses: &mut Uses) {
        let StateSpaceDual {
            heads: _,
            head_dim: _,
            state: _,
            groups: _,
            input,
            multipliers: _,
            convolution,
            time_step_bias,
            time_step_limits: _,
            a_log,
            skip,
            gate_activation: _,
            norm,
            output,
        } = self;
        uses.linear(input);
        uses.convolution(convolution);
        for &index in [time_step_bias, a_log, skip] {
            uses.weight(index);
        }
        if let Some(GatedNorm {
            norm,
            groups: _,
            before_gate: _,
        }) = norm
        {
            uses.norm(Some(norm));
        }
        uses.linear(output);
    }

    fn label(&self) -> String {
        "state-space dual".into()
    }

    fn summary(&self) -> String {
        format!(
            "state-space dual ({} heads of {}, state {})",
            self.heads, self.head_dim, self.state
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
        norm.map(|norm| (&norm.norm, "of a scan's groups"))
            .collect()
    }

    fn states(&self) -> Vec<StateSpec> {
        let recurrence = StateSpec::Fixed {
            values: self.features() * self.state,
        };
        vec![self.convolution.state(), recurrence]
    }

    fn operations(&self) -> Operations {
        // Input, decay and output are a multiply-add each.
        let scan = 6 * self.features() * self.state;
        let convolution = 2 * self.convolution.columns * self.convolution.kernel;
        Operations {
            of_row: (scan + convolution) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        self.input.out_features
    }
}
