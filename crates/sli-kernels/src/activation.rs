//! Activation functions and gates, with the names of transformers' `ACT2FN`.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

/// An activation function of one variable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    Relu2,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` or, below zero, `0.01 x`.
    LeakyRelu,
    /// `0.5 x (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// [`Activation::Gelu`] clipped to -10..=10.
    Gelu10,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x` or, below zero, `e^x - 1`.
    Elu,
    /// `x tanh(softplus(x))`.
    Mish,
    /// `x min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
    /// `0.5 (1 + erf((x - sqrt 0.5) / (sqrt 2 * 0.282095)))`.
    Laplace,
    /// xIELU: `alpha_p x^2 + beta x` above zero, `alpha_n (expm1(min(x, eps)) - x) + beta x` below;
    /// the learned alphas after their softplus.
    Xielu {
        /// Weight of the square.
        alpha_p: f32,
        /// Weight of the exponential; `beta + softplus(..)` in the reference.
        alpha_n: f32,
        /// Slope at zero.
        beta: f32,
        /// Upper limit of the exponential's argument, slightly below zero.
        eps: f32,
    },
}

/// As the reference rounds it.
#[expect(clippy::approx_constant, reason = "transformers has six digits")]
const LAPLACE_MEAN: f32 = 0.707_107;

impl Activation {
    /// The function that transformers calls `name`, if it has no learned parameters.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "linear" | "identity" => Self::Identity,
            "relu" => Self::Relu,
            "relu2" | "relu_squared" => Self::Relu2,
            "relu6" => Self::Relu6,
            "leaky_relu" => Self::LeakyRelu,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh"
            | "gelu_accurate" => Self::GeluTanh,
            "gelu_10" => Self::Gelu10,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "softplus" => Self::Softplus,
            "elu" => Self::Elu,
            "mish" => Self::Mish,
            "hardswish" => Self::HardSwish,
            "hardsigmoid" => Self::HardSigmoid,
            "laplace" => Self::Laplace,
            _ => return None,
        })
    }

    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F) -> S::F {
        let (zero, one, six) = (s.splat(0.0), s.splat(1.0), s.splat(6.0));
        match self {
            Self::Identity => x,
            Self::Relu => s.max(zero, x),
            Self::Relu2 => {
                let x = s.max(zero, x);
                s.mul(x, x)
            }
            Self::Relu6 => s.min(six, s.max(zero, x)),
            Self::LeakyRelu => s.select(s.less(x, zero), s.mul(s.splat(0.01), x), x),
            Self::Gelu => math::gelu(s, x),
            Self::GeluTanh => {
                // 0.5 (1 + tanh y) = sigmoid(2 y), without cancellation for negative x.
                let cubic = s.mul_add(s.mul(s.splat(0.044_715), s.mul(x, x)), x, x);
                s.mul(x, math::sigmoid(s, s.mul(s.splat(1.595_769), cubic)))
            }
            Self::Gelu10 => s.min(s.splat(10.0), s.max(s.splat(-10.0), math::gelu(s, x))),
            Self::QuickGelu => s.mul(x, math::sigmoid(s, s.mul(s.splat(1.702), x))),
            Self::Silu => s.div(x, s.add(one, math::exp(s, s.sub(zero, x)))),
            Self::Sigmoid => math::sigmoid(s, x),
            Self::Tanh => math::tanh(s, x),
            Self::Softplus => math::softplus(s, x),
            Self::Elu => s.select(s.less(x, zero), math::exp_m1(s, x), x),
            Self::Mish => {
                // tanh(ln(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2).
                let e = math::exp(s, s.min(s.splat(20.0), x));
                let p = s.mul_add(e, e, s.add(e, e));
                s.mul(x, s.div(p, s.add(p, s.splat(2.0))))
            }
            Self::HardSwish => {
                let gate = s.min(six, s.max(zero, s.add(x, s.splat(3.0))));
                s.div(s.mul(x, gate), six)
            }
            Self::HardSigmoid => s.div(s.min(six, s.max(zero, s.add(x, s.splat(3.0)))), six),
            Self::Laplace => {
                let z = s.mul(s.sub(x, s.splat(LAPLACE_MEAN)), s.splat(2.506_626_4));
                s.mul(s.splat(0.5), s.add(one, math::erf(s, z)))
            }
            Self::Xielu {
                alpha_p,
                alpha_n,
                beta,
                eps,
            } => {
                let linear = s.mul(s.splat(beta), x);
                let positive = s.mul_add(s.mul(s.splat(alpha_p), x), x, linear);
                let bent = s.sub(math::exp_m1(s, s.min(s.splat(eps), x)), x);
                let negative = s.mul_add(s.splat(alpha_n), bent, linear);
                s.select(s.less(zero, x), positive, negative)
            }
        }
    }
}

impl Kernels {
    /// `x = activation(x)`.
    pub fn activation(&self, activation: Activation, x: MatMut) {
        let _lap = self.lap(Stage::Activation);
        self.each_row_mut(&x, |_, row| self.isa().run(Apply { activation, row }));
    }

    /// `gate = activation(gate) * up`, element by element.
    pub fn gated(&self, activation: Activation, gate: MatMut, up: MatRef) {
        self.gate(activation, gate, up);
    }

    /// The clamped gate of GPT-OSS: with `g = min(gate, limit)` and `u` = `up` clamped to
    /// `-limit..=limit`, `gate = g sigmoid(alpha g) (u + addend)`.
    pub fn gated_clamped(&self, form: Clamped, gate: MatMut, up: MatRef) {
        self.gate(form, gate, up);
    }

    /// The gate of Inkling 2, whose factor beside the sigmoid is softly limited:
    /// `gate = limit tanh(gate / limit) sigmoid(gate) up`.
    pub fn gated_soft(&self, limit: f32, gate: MatMut, up: MatRef) {
        self.gate(Soft { limit }, gate, up);
    }

    /// `gate = form(gate, up)`, element by element.
    fn gate(&self, form: impl Gate, gate: MatMut, up: MatRef) {
        let _lap = self.lap(Stage::Activation);
        let (from, to) = ((up.rows(), up.cols()), (gate.rows(), gate.cols()));
        assert_eq!(from, to, "gate and up");
        self.each_row_mut(&gate, |index, row| {
            let up = up.row(index);
            self.isa().run(Gated { form, row, up });
        });
    }
}

/// The numbers of a clamped gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamped {
    /// Factor inside the sigmoid.
    pub alpha: f32,
    /// Of gate and `up`.
    pub limit: f32,
    /// Added to `up`.
    pub addend: f32,
}

struct Apply<'a> {
    activation: Activation,
    row: &'a mut [f32],
}

impl SimdOp for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut chunks = self.row.chunks_exact_mut(S::LANES);
        for chunk in &mut chunks {
            s.put(chunk, self.activation.apply(s, s.get(chunk)));
        }
        let rest = chunks.into_remainder();
        s.put_part(rest, self.activation.apply(s, s.get_part(rest, 0.0)));
    }
}

/// A gate: a function of two variables.
trait Gate: Copy + Sync {
    fn apply<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F;
}

impl Gate for Activation {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F {
        s.mul(Self::apply(self, s, gate), up)
    }
}

impl Gate for Clamped {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F {
        let limit = s.splat(self.limit);
        let gate = s.min(limit, gate);
        let up = s.min(limit, s.max(s.splat(-self.limit), up));
        let share = math::sigmoid(s, s.mul(s.splat(self.alpha), gate));
        s.mul(s.mul(gate, share), s.add(up, s.splat(self.addend)))
    }
}

/// See [`Kernels::gated_soft`].
#[derive(Clone, Copy)]
struct Soft {
    limit: f32,
}

impl Gate for Soft {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F {
        let limit = s.splat(self.limit);
        let soft = s.mul(limit, math::tanh(s, s.div(gate, limit)));
        s.mul(s.mul(soft, math::sigmoid(s, gate)), up)
    }
}

struct Gated<'a, G> {
    form: G,
    row: &'a mut [f32],
    up: &'a [f32],
}

impl<G: Gate> SimdOp for Gated<'_, G> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut gates = self.row.chunks_exact_mut(S::LANES);
        let mut ups = self.up.chunks_exact(S::LANES);
        for (gate, up) in (&mut gates).zip(&mut ups) {
            s.put(gate, self.form.apply(s, s.get(gate), s.get(up)));
        }
        let (gate, up) = (gates.into_remainder(), ups.remainder());
        let (x, up) = (s.get_part(gate, 0.0), s.get_part(up, 0.0));
        s.put_part(gate, self.form.apply(s, x, up));
    }
}
