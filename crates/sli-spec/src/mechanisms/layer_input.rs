//! The layer's own input.

use serde::Serialize;

use super::{Mechanism, Uses};
use crate::parts::{Activation, Linear};

/// `projection(activation(gate x) * input)` with the layer's part of [`crate::LayerInputs`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerInput {
    /// `[width, hidden]`.
    pub gate: Linear,
    /// On the gate.
    pub activation: Activation,
    /// `[hidden, width]`.
    pub projection: Linear,
}

impl Mechanism for LayerInput {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            gate,
            activation: _,
            projection,
        } = self;
        uses.linear(gate);
        uses.linear(projection);
    }

    fn label(&self) -> String {
        "per-layer input".into()
    }

    fn summary(&self) -> String {
        self.label()
    }
}
