//! The selective scan of Mamba: a recurrence whose steps, inputs and outputs follow from its rows.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Convolution, Linear, Norm};
use crate::source::WeightIndex;

/// Mamba's mixer (Gu and Dao 2023), for `channels` of a state each. With `u | z = input x`,
/// `u = activation(convolution u)` and `t | B | C = selection u`:
/// `dt = softplus(time_step t)`, `h = exp(dt A) h + dt B u`, `y = C h + D u`, `output (activation(z) * y)`, where
/// `A = -exp(a_log)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelectiveScan {
    /// Channels.
    pub channels: usize,
    /// Values of a channel's state.
    pub state: usize,
    /// Groups of channels that share `B` and `C`.
    pub groups: usize,
    /// Features that the time steps come from.
    pub time_step_rank: usize,
    /// `[2 * channels, hidden]`: what is scanned, then its gate.
    pub input: Linear,
    /// Of what is scanned.
    pub convolution: Convolution,
    /// `[time_step_rank + 2 * groups * state, channels]`: for the time steps, then `B`, then `C`.
    pub selection: Linear,
    /// Norms of the three parts of the selection (Falcon Mamba, Jamba).
    pub norms: Option<SelectionNorms>,
    /// `[channels, time_step_rank]`.
    pub time_step: Linear,
    /// `[channels * state]`, channel by channel.
    pub a_log: WeightIndex,
    /// `D` `[channels]`.
    pub skip: WeightIndex,
    /// Of the gate.
    pub gate_activation: Activation,
    /// `[hidden, channels]`.
    pub output: Linear,
}

/// Norms of what is selected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelectionNorms {
    /// Of what the time steps come from `[time_step_rank]`.
    pub time_step: Norm,
    /// Of `B` `[groups * state]`.
    pub b: Norm,
    /// Of `C` `[groups * state]`.
    pub c: Norm,
}

impl Mechanism for SelectiveScan {
    fn weights(&self, uses: &mut Uses) {
        let SelectiveScan {
            channels: _,
            state: _,
            groups: _,
            time_step_rank: _,
            input,
            convolution,
            selection,
            norms,
            time_step,
            a_log,
            skip,
            gate_activation: _,
            output,
        } = self;
        uses.linear(input);
        uses.convolution(convolution);
        uses.linear(selection);
        if let Some(SelectionNorms { time_step, b, c }) = norms {
            for norm in [time_step, b, c] {
                uses.norm(Some(norm));
            }
        }
        uses.linear(time_step);
        uses.weight(*a_log);
        uses.weight(*skip);
        uses.linear(output);
    }

    fn label(&self) -> String {
        "selective scan".into()
    }

    fn summary(&self) -> String {
        format!(
            "selective scan ({} channels, state {})",
            self.channels, self.state
        )
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        let norms = self.norms.iter();
        norms
            .flat_map(|norms| {
                let SelectionNorms { time_step, b, c } = norms;
                [time_step, b, c].map(|norm| (norm, "of time steps, B and C"))
            })
            .collect()
    }

    fn states(&self) -> Vec<StateSpec> {
        let recurrence = StateSpec::Fixed {
            values: self.channels * self.state,
        };
        vec![self.convolution.state(), recurrence]
    }

    fn operations(&self) -> Operations {
        // The exponential of a decay counts as one; input, decay and output are a multiply-add each.
        let scan = 8 * self.channels * self.state;
        let convolution = 2 * self.channels * self.convolution.kernel;
        Operations {
            of_row: (scan + convolution) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        self.input.out_features + self.selection.out_features + self.channels
    }
}
