//! A row times a gate that a narrow network makes of it.

use serde::Serialize;

use super::{Mechanism, Uses};
use crate::parts::{Activation, Linear};

/// `x * sigmoid(up(activation(down(x))))` (A.X K2, behind norms).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowRankGate {
    /// `[rank, hidden]`.
    pub down: Linear,
    /// `[hidden, rank]`.
    pub up: Linear,
    /// Between them.
    pub activation: Activation,
}

impl Mechanism for LowRankGate {
    fn weights(&self, uses: &mut Uses) {
        let LowRankGate {
            down,
            up,
            activation: _,
        } = self;
        uses.linear(down);
        uses.linear(up);
    }

    fn label(&self) -> String {
        "gate of low rank".into()
    }

    fn summary(&self) -> String {
        format!("gate of rank {}", self.down.out_features)
    }
}
