//! Feed-forward networks and activations.

use serde::Serialize;

use super::layer::{Linear, Norm};
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
    /// Norm in front of `down` (BitNet).
    pub inner_norm: Option<Norm>,
    /// Replaces the gated activation (gpt-oss).
    pub clamped: Option<ClampedGate>,
}

/// `g * sigmoid(sharpness * g) * (u + 1)` with `g = min(gate x, limit)` and `u = up x` limited to
/// `[-limit, limit]` (gpt-oss).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClampedGate {
    /// Limit of gate and `up`.
    pub limit: f64,
    /// Factor inside the sigmoid.
    pub sharpness: f64,
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

/// Elementwise activations, by the names of transformers' `ACT2FN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Activation {
    /// `gelu`: with the error function.
    Gelu,
    /// `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`, `gelu_accurate`: with tanh.
    GeluTanh,
    /// `gelu_10`: [`Activation::Gelu`], at least -10 and at most 10.
    Gelu10,
    /// `quick_gelu`: `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `relu`.
    Relu,
    /// `relu2`: squared.
    Relu2,
    /// `relu6`.
    Relu6,
    /// `silu`, `swish`.
    Silu,
    /// `sigmoid`.
    Sigmoid,
    /// `tanh`.
    Tanh,
    /// `softplus`.
    Softplus,
    /// `mish`.
    Mish,
    /// `leaky_relu`: slope 0.01.
    LeakyRelu,
    /// `hardswish`: `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `laplace`: the distribution function of a normal variable.
    Laplace,
    /// `linear`.
    Linear,
}

impl Activation {
    /// By its name in a configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast"
            | "gelu_accurate" => Self::GeluTanh,
            "gelu_10" => Self::Gelu10,
            "quick_gelu" => Self::QuickGelu,
            "relu" => Self::Relu,
            "relu2" => Self::Relu2,
            "relu6" => Self::Relu6,
            "silu" | "swish" => Self::Silu,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "mish" => Self::Mish,
            "leaky_relu" => Self::LeakyRelu,
            "hardswish" => Self::HardSwish,
            "laplace" => Self::Laplace,
            "linear" => Self::Linear,
            _ => return None,
        })
    }
}
