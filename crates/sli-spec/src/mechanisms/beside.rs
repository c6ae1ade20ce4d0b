//! What stands beside the heads of an attention, in front of its output projection.

use serde::Serialize;

use super::Uses;
use crate::parts::{Linear, Mask};
use crate::source::WeightIndex;

/// What is added to the heads' outputs, or stands beside them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Beside {
    /// Heads that are convolutions, behind those of the attention.
    SpanConvolution(SpanConvolution),
    /// A convolution of the values is added.
    ValueConvolution(ValueConvolution),
}

/// The heads of span-based dynamic convolution (ConvBERT, Jiang et al. 2020), as many and as wide as the queries':
/// `sum_j softmax(taps(k * q))[j] values(x)[i - reach + j]`, where `k` is a convolution of every feature by itself and
/// then a projection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpanConvolution {
    /// `[hidden * kernel]`, those of a feature side by side.
    pub depthwise: WeightIndex,
    /// Rows that count, the row in their middle.
    pub kernel: usize,
    /// `[heads * head_dim, hidden]`.
    pub pointwise: Linear,
    /// `[heads * kernel, heads * head_dim]`.
    pub taps: Linear,
    /// `[heads * head_dim, hidden]`.
    pub values: Linear,
}

/// `sum_j weight[head, j] v[i - reach + j]` of the values of every head (Nystromformer, YOSO).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ValueConvolution {
    /// `[heads * kernel]`.
    pub weight: WeightIndex,
    /// Rows that count, the row in their middle.
    pub kernel: usize,
}

impl Beside {
    pub(super) fn weights(&self, uses: &mut Uses) {
        match self {
            Self::SpanConvolution(SpanConvolution {
                depthwise,
                kernel: _,
                pointwise,
                taps,
                values,
            }) => {
                uses.weight(*depthwise);
                uses.linear(pointwise);
                uses.linear(taps);
                uses.linear(values);
            }
            Self::ValueConvolution(ValueConvolution { weight, kernel: _ }) => uses.weight(*weight),
        }
    }

    /// Behind the label of the attention.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::SpanConvolution(_) => ", beside heads of span-based dynamic convolution",
            Self::ValueConvolution(_) => ", and a convolution of its values",
        }
    }

    /// Whether it can stand beside heads that see so, with positions or without.
    pub(super) fn fits(&self, mask: Mask, has_positions: bool) -> bool {
        match self {
            Self::SpanConvolution(own) => {
                mask == Mask::Full && own.kernel % 2 == 1 && !has_positions
            }
            Self::ValueConvolution(own) => mask == Mask::Full && own.kernel % 2 == 1,
        }
    }

    /// Why records are not cut.
    pub(super) fn of_whole_records(&self) -> &'static str {
        match self {
            Self::SpanConvolution(_) | Self::ValueConvolution(_) => {
                "a convolution sees the rows behind it"
            }
        }
    }

    /// Operations of a row of so many columns in all heads, beside the products with matrices.
    pub(super) fn operations(&self, wide: usize) -> usize {
        match self {
            Self::SpanConvolution(own) => 2 * own.kernel * (own.pointwise.in_features + wide),
            Self::ValueConvolution(own) => 2 * own.kernel * wide,
        }
    }
}
