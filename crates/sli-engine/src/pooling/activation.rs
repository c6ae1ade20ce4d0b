//! Activations of dense modules, by their classes in torch.

use sli_kernels::{Activation, Kernels, Mat};

/// What a dense module ends with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DenseActivation {
    /// One that layers of models have too.
    OfLayers(Activation),
    /// One of a vector.
    Own(Own),
}

/// A function of `torch.nn` as it is in evaluation and without arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// `s (x` or, below zero, `a (e^x - 1))`.
    Selu,
    /// `-ln(1 + e^-x)`.
    LogSigmoid,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x - tanh x`.
    Tanhshrink,
    /// 0.5 nearer to zero, and zero between.
    Softshrink,
    /// `x`, and zero between -0.5 and 0.5.
    Hardshrink,
    /// Clipped to -1..=1.
    Hardtanh,
    /// `x` or, below zero, the mean of the slopes from 1/8 to 1/3 times `x`.
    Rrelu,
    /// `e^x / sum(e^x)`.
    Softmax,
    /// Of `-x`.
    Softmin,
    /// `x - ln(sum(e^x))`.
    LogSoftmax,
}

/// Constants of [`Own::Selu`], from Klambauer et al. 2017.
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

impl DenseActivation {
    /// By the name of its class. Those that have to be told something (`GLU`, `Threshold`) or have weights (`PReLU`)
    /// are none.
    pub fn of_class(class: &str) -> Option<Self> {
        let inside = class.strip_prefix("torch.nn.")?;
        let inside = inside.strip_prefix("modules.").unwrap_or(inside);
        let name = ["activation.", "linear."]
            .into_iter()
            .find_map(|module| inside.strip_prefix(module))
            .unwrap_or(inside);
        Some(match name {
            "Identity" => Self::OfLayers(Activation::Identity),
            "Tanh" => Self::OfLayers(Activation::Tanh),
            "ReLU" => Self::OfLayers(Activation::Relu),
            "ReLU6" => Self::OfLayers(Activation::Relu6),
            "GELU" => Self::OfLayers(Activation::Gelu),
            "SiLU" => Self::OfLayers(Activation::Silu),
            "Sigmoid" => Self::OfLayers(Activation::Sigmoid),
            "Softplus" => Self::OfLayers(Activation::Softplus),
            "Mish" => Self::OfLayers(Activation::Mish),
            "LeakyReLU" => Self::OfLayers(Activation::LeakyRelu),
            "Hardswish" => Self::OfLayers(Activation::HardSwish),
            "Hardsigmoid" => Self::OfLayers(Activation::HardSigmoid),
            "ELU" | "CELU" => Self::OfLayers(Activation::Elu),
            "SELU" => Self::Own(Own::Selu),
            "LogSigmoid" => Self::Own(Own::LogSigmoid),
            "Softsign" => Self::Own(Own::Softsign),
            "Tanhshrink" => Self::Own(Own::Tanhshrink),
            "Softshrink" => Self::Own(Own::Softshrink),
            "Hardshrink" => Self::Own(Own::Hardshrink),
            "Hardtanh" => Self::Own(Own::Hardtanh),
            "RReLU" => Self::Own(Own::Rrelu),
            "Softmax" => Self::Own(Own::Softmax),
            "Softmin" => Self::Own(Own::Softmin),
            "LogSoftmax" => Self::Own(Own::LogSoftmax),
            _ => return None,
        })
    }

    /// Whether torch takes it over the first of three dimensions, which is that of the texts.
    pub fn depends_on_batch(self) -> bool {
        matches!(
            self,
            Self::Own(Own::Softmax | Own::Softmin | Own::LogSoftmax)
        )
    }

    /// Of vectors, one a row, in their place.
    pub fn apply(self, kernels: &Kernels, vectors: &mut Mat) {
        match self {
            Self::OfLayers(activation) => kernels.activation(activation, vectors.view_mut()),
            Self::Own(own) => {
                for row in 0..vectors.rows() {
                    own.apply(vectors.row_mut(row));
                }
            }
        }
    }
}

impl Own {
    fn apply(self, vector: &mut [f32]) {
        let each = |vector: &mut [f32], function: fn(f64) -> f64| {
            for x in vector {
                *x = function(f64::from(*x)) as f32;
            }
        };
        match self {
            Self::Selu => each(vector, |x| {
                SELU_SCALE * if x > 0.0 { x } else { SELU_ALPHA * x.exp_m1() }
            }),
            Self::LogSigmoid => each(vector, |x| x.min(0.0) - (-x.abs()).exp().ln_1p()),
            Self::Softsign => each(vector, |x| x / (1.0 + x.abs())),
            Self::Tanhshrink => each(vector, |x| x - x.tanh()),
            Self::Softshrink => each(vector, |x| x - x.clamp(-0.5, 0.5)),
            Self::Hardshrink => each(vector, |x| if x.abs() <= 0.5 { 0.0 } else { x }),
            Self::Hardtanh => each(vector, |x| x.clamp(-1.0, 1.0)),
            Self::Rrelu => each(vector, |x| {
                if x < 0.0 {
                    x * (1.0 / 8.0 + 1.0 / 3.0) / 2.0
                } else {
                    x
                }
            }),
            Self::Softmax => {
                let sum = log_sum(vector);
                for x in vector {
                    *x = (f64::from(*x) - sum).exp() as f32;
                }
            }
            Self::Softmin => {
                for x in vector.iter_mut() {
                    *x = -*x;
                }
                Self::Softmax.apply(vector);
            }
            Self::LogSoftmax => {
                let sum = log_sum(vector);
                for x in vector {
                    *x = (f64::from(*x) - sum) as f32;
                }
            }
        }
    }
}

/// `ln(sum(e^x))`.
fn log_sum(vector: &[f32]) -> f64 {
    let largest = f64::from(vector.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = vector.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use sli_kernels::{Activation, Compute, Kernels, Mat};

    use super::DenseActivation;

    /// What they are of, and what PyTorch 2 makes of it.
    const OF: [f32; 8] = [-4.0, -1.0, -0.5, -0.25, 0.0, 0.375, 0.75, 3.5];
    const TORCH: &str = "
        ELU -0.981684387 -0.63212055 -0.393469334 -0.221199214 0.0 0.375 0.75 3.5
        CELU -0.981684387 -0.63212055 -0.393469334 -0.221199214 0.0 0.375 0.75 3.5
        SELU -1.72589862 -1.11133075 -0.691758156 -0.388890177 0.0 0.394012868 0.788025737 3.67745352
        LogSigmoid -4.01814985 -1.31326175 -0.974076986 -0.825939417 -0.693147182 -0.523123264 -0.38687101 -0.0297504179
        Softsign -0.800000012 -0.5 -0.333333343 -0.200000003 0.0 0.272727281 0.428571433 0.777777791
        Tanhshrink -3.00067067 -0.238405824 -0.0378828347 -0.00508134067 0.0 0.0166426003 0.114851058 2.50182199
        Softshrink -3.5 -0.5 0.0 0.0 0.0 0.0 0.25 3.0
        Hardshrink -4.0 -1.0 0.0 0.0 0.0 0.0 0.75 3.5
        Hardtanh -1.0 -1.0 -0.5 -0.25 0.0 0.375 0.75 1.0
        Hardsigmoid 0.0 0.333333343 0.416666657 0.458333343 0.5 0.5625 0.625 1.0
        RReLU -0.916666687 -0.229166672 -0.114583336 -0.0572916679 0.0 0.375 0.75 3.5
        Softmax 0.000464169221 0.00932308752 0.0153711736 0.0197369773 0.0253427811 0.0368735269 0.053650666 0.83923763
        Softmin 0.874423325 0.0435349718 0.0264052972 0.0205644667 0.0160156228 0.0110073658 0.0075652441 0.000483629876
        LogSoftmax -7.6752615 -4.6752615 -4.1752615 -3.9252615 -3.6752615 -3.3002615 -2.9252615 -0.175261393";

    #[test]
    fn activations_are_those_of_torch() {
        let kernels = Kernels::new(1, Compute::F32);
        let mut compared = 0;
        for line in TORCH.lines().skip(1) {
            let (name, expected) = line.trim_start().split_once(' ').unwrap();
            let expected: Vec<f32> = expected.split(' ').map(|x| x.parse().unwrap()).collect();
            for class in [
                format!("torch.nn.{name}"),
                format!("torch.nn.modules.activation.{name}"),
            ] {
                let activation = DenseActivation::of_class(&class).unwrap();
                let mut vectors = Mat::from_vec(2, 8, [OF, OF].concat());
                activation.apply(&kernels, &mut vectors);
                for row in 0..2 {
                    for (ours, theirs) in vectors.row(row).iter().zip(&expected) {
                        let far = (ours - theirs).abs();
                        assert!(
                            far <= 1e-6 * (1.0 + theirs.abs()),
                            "{name}: {ours} {theirs}"
                        );
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, 14 * 2 * 2 * 8);
    }

    #[test]
    fn activations_by_their_class() {
        for name in [
            "torch.nn.modules.linear.Identity",
            "torch.nn.Identity",
            "torch.nn.modules.Identity",
        ] {
            let found = DenseActivation::of_class(name);
            assert_eq!(
                found,
                Some(DenseActivation::OfLayers(Activation::Identity)),
                "{name}"
            );
        }
        for name in [
            "torch.tanh",
            "torch.nn.modules.activation.PReLU",
            "torch.nn.modules.activation.GLU",
            "torch.nn.modules.activation.Threshold",
            "torch.nn.modules.activation.Softmax2d",
            "mine.Tanh",
            "",
        ] {
            assert_eq!(DenseActivation::of_class(name), None, "{name}");
        }
    }
}
