//! Elementwise functions.

use serde::Serialize;

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

    /// In the table of architectures.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu (tanh)",
            Self::Gelu10 => "gelu (clipped at 10)",
            Self::QuickGelu => "quick gelu",
            Self::Relu => "relu",
            Self::Relu2 => "squared relu",
            Self::Relu6 => "relu6",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Mish => "mish",
            Self::LeakyRelu => "leaky relu",
            Self::HardSwish => "hard swish",
            Self::Laplace => "laplace",
            Self::Linear => "linear",
        }
    }
}
