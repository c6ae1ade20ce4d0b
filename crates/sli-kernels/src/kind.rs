//! What products are computed in, and how weights are stored for them.

use crate::element::Element;
use crate::simd::PANEL;

/// The type that a computation is carried out in. Sums are always `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Factors as they are, at most `f32`.
    F32,
    /// Factors rounded to bf16.
    Bf16,
}

/// How the elements of [`PackedWeights`](crate::PackedWeights) are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackedKind {
    /// `f32`, multiplied as `f32`.
    F32,
    /// Binary16, widened exactly and multiplied as `f32`.
    F16,
    /// Pairs of bf16, widened exactly and multiplied as `f32`.
    Bf16,
    /// Pairs of bf16, multiplied with activations rounded to bf16.
    Bf16Dot,
}

impl PackedKind {
    /// The kind for weights stored as `stored` when computing in `compute`.
    ///
    /// In `f32` nothing is lost except that `F64` is rounded to `F32`; in bf16 everything is rounded
    /// to the nearest bf16, ties to even.
    pub const fn for_weights(stored: Element, compute: Compute) -> Self {
        match (compute, stored) {
            (Compute::Bf16, _) => Self::Bf16Dot,
            (Compute::F32, Element::F32 | Element::F64) => Self::F32,
            (Compute::F32, Element::F16) => Self::F16,
            (Compute::F32, Element::Bf16) => Self::Bf16,
        }
    }

    /// Bytes per element.
    pub(crate) const fn element_size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 | Self::Bf16Dot => 2,
        }
    }

    /// `k` as stored.
    pub(crate) const fn padded(self, k: usize) -> usize {
        match self {
            Self::Bf16 | Self::Bf16Dot => k.next_multiple_of(2),
            Self::F32 | Self::F16 => k,
        }
    }

    /// Bytes of a packed weight `[n, k]`.
    pub(crate) const fn bytes(self, n: usize, k: usize) -> usize {
        n.div_ceil(PANEL) * PANEL * self.padded(k) * self.element_size()
    }
}
