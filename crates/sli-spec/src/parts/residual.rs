//! Where steps read and write, and by what they are multiplied.

use serde::Serialize;

use crate::source::WeightIndex;

/// A buffer that outlives a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Slot {
    /// The hidden state `[tokens, hidden]`.
    Hidden,
    /// A further buffer, by number `[tokens, stash]`.
    Stash(u8),
}

/// A factor on a branch or a residual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Gain {
    /// 1.
    One,
    /// A constant.
    Constant(f64),
    /// A learned factor per feature `[hidden]`, or one for all `[1]`.
    Vector(WeightIndex),
    /// A side of a learned gate per feature.
    Gate(ResidualGate),
}

/// A gate between a residual and what is added to it, per feature: with `b = sigmoid(gate / temperature)`, what is
/// added is multiplied by `b`, and the residual by `sqrt(max((1 - b)(1 + b), least))` (Muse Spark).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ResidualGate {
    /// `[hidden]`.
    pub gate: WeightIndex,
    /// Divides the gate.
    pub temperature: f64,
    /// The square of the residual's factor is at least this.
    pub least: f64,
    /// This is the residual's factor.
    pub is_residual: bool,
}

impl ResidualGate {
    /// The factor of a feature.
    pub fn factor(&self, gate: f32) -> f32 {
        let gate = gate / self.temperature as f32;
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let added = sigmoid(gate);
        if self.is_residual {
            (sigmoid(-gate) * (1.0 + added))
                .max(self.least as f32)
                .sqrt()
        } else {
            added
        }
    }
}
