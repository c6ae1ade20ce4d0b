//! The recurrent block of Griffin: one value a channel, with gates on what enters and on what stays.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Activation, Convolution, Linear};
use crate::source::WeightIndex;

/// The real-gated linear recurrent unit (De et al. 2024). With `u = convolution(input x)`, its gates
/// `i = sigmoid(input_gates u)` and `r = sigmoid(state_gates u)`, head by head, and
/// `a = exp(-8 softplus(rate) r)`: `h = a h + sqrt(1 - a^2) i u`, `output (h * activation(gate x))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatedLru {
    /// `[channels, hidden]`: what is scanned.
    pub input: Linear,
    /// Of what is scanned.
    pub convolution: Convolution,
    /// A square for each head, of its share of the channels: the gates on what enters.
    pub input_gates: Vec<Linear>,
    /// The gates on what stays.
    pub state_gates: Vec<Linear>,
    /// `[channels]`.
    pub rate: WeightIndex,
    /// `[channels, hidden]`: the gate on the output.
    pub gate: Linear,
    /// Of that gate.
    pub activation: Activation,
    /// `[hidden, channels]`.
    pub output: Linear,
}

impl GatedLru {
    /// Channels.
    pub fn channels(&self) -> usize {
        self.convolution.columns
    }
}

impl Mechanism for GatedLru {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            input,
            convolution,
            input_gates,
            state_gates,
            rate,
            gate,
            activation: _,
            output,
        } = self;
        uses.linear(input);
        uses.convolution(convolution);
        for gate in input_gates.iter().chain(state_gates) {
            uses.linear(gate);
        }
        uses.weight(*rate);
        uses.linear(gate);
        uses.linear(output);
    }

    fn label(&self) -> String {
        "gated linear recurrent unit".into()
    }

    fn summary(&self) -> String {
        format!("gated linear recurrent unit ({} channels)", self.channels())
    }

    fn contradiction(&self) -> Option<&'static str> {
        let covers = |gates: &[Linear]| {
            let all: usize = gates.iter().map(|gate| gate.out_features).sum();
            let square = |gate: &Linear| gate.in_features == gate.out_features;
            all == self.channels() && gates.iter().all(square)
        };
        let fit = covers(&self.input_gates) && covers(&self.state_gates);
        (!fit).then_some("gates that are not of all channels")
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn states(&self) -> Vec<StateSpec> {
        let recurrence = StateSpec::Fixed {
            values: self.channels(),
        };
        vec![self.convolution.state(), recurrence]
    }

    fn operations(&self) -> Operations {
        // Exponentials and the root count as one.
        let scan = 16 * self.channels();
        let convolution = 2 * self.channels() * self.convolution.kernel;
        Operations {
            of_row: (scan + convolution) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        4 * self.channels()
    }
}
