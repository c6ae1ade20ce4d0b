//! Feed-forward networks.

use serde::Serialize;

use super::contradiction::first_of;
use super::{Mechanism, Site, Uses};
use crate::parts::{Activation, Linear, Norm};
use crate::source::WeightIndex;

/// `down(activation(gate x) * up x)` or `down(activation(up x))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedForward {
    /// `[intermediate, hidden]`, where gated.
    pub gate: Option<Linear>,
    /// `[intermediate, hidden]`.
    pub up: Linear,
    /// `[hidden, intermediate]`.
    pub down: Linear,
    /// On the gate, or on `up` where there is none.
    pub activation: Activation,
    /// Takes the place of `activation`, where there is one.
    pub learned_activation: Option<Xielu>,
    /// Factor on the gate, in front of its activation (Falcon H1).
    pub gate_scale: f64,
    /// Norm in front of `down` (BitNet).
    pub inner_norm: Option<Norm>,
    /// Replaces the gated activation.
    pub clamped: Option<ClampedGate>,
}

/// A gated activation within limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum ClampedGate {
    /// `g * sigmoid(sharpness * g) * (u + addend)` with `g = min(gate x, limit)` and `u = up x` limited to
    /// `[-limit, limit]` (gpt-oss; with a sharpness of 1 and no addend: SwiGLU of limited inputs).
    Sharp {
        /// Limit of gate and `up`.
        limit: f64,
        /// Factor inside the sigmoid.
        sharpness: f64,
        /// Added to `up`.
        addend: f64,
    },
    /// `activation(min(gate x, limit)) * u` with `u = up x` limited to `[-limit, limit]` (DeepSeek-V4).
    Limited {
        /// Limit of gate and `up`.
        limit: f64,
    },
    /// `min(activation(gate x), limit) * u` with `u = up x` limited to `[-limit, limit]` (Step 3).
    Activated {
        /// Limit of the activated gate and of `up`.
        limit: f64,
    },
    /// `soft(g, gate) * sigmoid(g) * soft(up x, up)` with `g = gate x` and `soft(x, c) = c * tanh(x / c)` (Inkling 2).
    Soft {
        /// Limit of the gate beside its sigmoid.
        gate: f64,
        /// Limit of `up`.
        up: f64,
    },
}

impl ClampedGate {
    /// An activation of limited inputs; of SiLU it is the sharp one.
    pub fn of(activation: Activation, limit: f64) -> Self {
        match activation {
            Activation::Silu => Self::Sharp {
                limit,
                sharpness: 1.0,
                addend: 0.0,
            },
            _ => Self::Limited { limit },
        }
    }
}

/// The activation xIELU (Huang and Schlag 2024), by the reference's names of its scalars `[1]`: with
/// `p = softplus(alpha_p)` and `n = beta + softplus(alpha_n)`,
/// `p x^2 + beta x` above 0, else `n (expm1(min(x, eps)) - x) + beta x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Xielu {
    /// Of positive inputs.
    pub alpha_p: WeightIndex,
    /// Of negative inputs.
    pub alpha_n: WeightIndex,
    /// Slope at 0; a stored constant.
    pub beta: WeightIndex,
    /// A little below 0; a stored constant.
    pub eps: WeightIndex,
}

impl FeedForward {
    /// These projections around an activation, nothing else.
    pub fn plain(gate: Option<Linear>, up: Linear, down: Linear, activation: Activation) -> Self {
        Self {
            gate,
            up,
            down,
            activation,
            gate_scale: 1.0,
            learned_activation: None,
            inner_norm: None,
            clamped: None,
        }
    }

    /// Its activation, and whether it is gated.
    pub(super) fn kind(&self) -> String {
        if self.learned_activation.is_some() {
            "xielu".into()
        } else if self.gate.is_some() {
            format!("gated {}", self.activation.label())
        } else {
            self.activation.label().into()
        }
    }
}

impl Mechanism for FeedForward {
    fn alike(&self) -> Vec<Vec<WeightIndex>> {
        let gate = self.gate.as_ref().map(|gate| gate.weight);
        vec![gate.into_iter().chain([self.up.weight]).collect()]
    }

    fn weights(&self, uses: &mut Uses) {
        let FeedForward {
            gate,
            up,
            down,
            activation: _,
            gate_scale: _,
            learned_activation,
            inner_norm,
            clamped: _,
        } = self;
        if let Some(gate) = gate {
            uses.linear(gate);
        }
        uses.linear(up);
        if let Some(Xielu {
            alpha_p,
            alpha_n,
            beta,
            eps,
        }) = learned_activation
        {
            for &index in [alpha_p, alpha_n, beta, eps] {
                uses.weight(index);
            }
        }
        uses.norm(inner_norm.as_ref());
        uses.linear(down);
    }

    fn label(&self) -> String {
        format!("feed-forward: {}", self.kind())
    }

    fn summary(&self) -> String {
        let gated = if self.gate.is_some() { "gated " } else { "" };
        format!("{gated}feed-forward ({})", self.up.out_features)
    }

    fn contradiction(&self) -> Option<&'static str> {
        let (is_gated, is_learned) = (self.gate.is_some(), self.learned_activation.is_some());
        let is_clamped = self.clamped.is_some();
        first_of(&[
            (is_clamped && !is_gated, "a limited gate without a gate"),
            (
                self.gate_scale != 1.0 && !is_gated,
                "a factor on a gate that is not there",
            ),
            (
                is_clamped && is_learned,
                "a limited gate with a learned activation",
            ),
        ])
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Mlp)
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        self.up.out_features * (1 + usize::from(self.gate.is_some()))
    }
}
