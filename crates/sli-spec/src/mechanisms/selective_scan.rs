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
    /// Of what is scanned: for the time steps, `B` and `C`.
    pub selection: Selection,
    /// Norms of the three parts of the selection (Falcon Mamba, Jamba).
    pub norms: Option<SelectionNorms>,
    /// Of every group: `[channels / groups, time_step_rank]`.
    pub time_steps: Vec<Linear>,
    /// `[channels * state]`, channel by channel.
    pub a_log: WeightIndex,
    /// `D` `[channels]`.
    pub skip: WeightIndex,
    /// Of the gate.
    pub gate_activation: Activation,
    /// `[hidden, channels]`.
    pub output: Linear,
}

/// The projections that select.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Selection {
    /// `[time_step_rank + 2 * state, channels]`, of one group.
    Whole(Linear),
    /// Of the channels of each group: `[time_step_rank, channels / groups]` for the time steps, `[state, channels / groups]`
    /// for `B` and `C` (Zamba).
    OfGroups(Vec<[Linear; 3]>),
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

impl SelectiveScan {
    /// Columns of what is selected: what the time steps of all groups come from, then `B`, then `C`.
    pub fn selected(&self) -> usize {
        self.groups * (self.time_step_rank + 2 * self.state)
    }
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
            time_steps,
            a_log,
            skip,
            gate_activation: _,
            output,
        } = self;
        uses.linear(input);
        uses.convolution(convolution);
        match selection {
            Selection::Whole(linear) => uses.linear(linear),
            Selection::OfGroups(groups) => {
                for linear in groups.iter().flatten() {
                    uses.linear(linear);
                }
            }
        }
        if let Some(SelectionNorms { time_step, b, c }) = norms {
            for norm in [time_step, b, c] {
                uses.norm(Some(norm));
            }
        }
        for linear in time_steps {
            uses.linear(linear);
        }
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

    fn contradiction(&self) -> Option<&'static str> {
        let selections = match &self.selection {
            Selection::Whole(_) => 1,
            Selection::OfGroups(groups) => groups.len(),
        };
        let differ = selections != self.groups || self.time_steps.len() != self.groups;
        let normed = self.norms.is_some() && self.groups > 1;
        super::contradiction::first_of(&[
            (differ, "not a selection for each group of channels"),
            (normed, "norms of what several groups select"),
        ])
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
        self.input.out_features + self.selected() + self.channels
    }
}
