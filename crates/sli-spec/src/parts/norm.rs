//! Norms.

use serde::Serialize;

use crate::source::WeightIndex;

/// A normalisation over the last axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// Factor per feature.
    pub weight: Option<WeightIndex>,
    /// Addend per feature.
    pub bias: Option<WeightIndex>,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
}

/// The kinds of [`Norm`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`.
    Rms,
    /// `(x - mean) / sqrt(var + eps)`.
    Layer,
    /// `x / sqrt(sum(x^2) + eps)`.
    L2,
    /// [`NormKind::Rms`] of the factors times x (Muse Spark); of whole rows.
    RmsOfScaled,
    /// Of `y`, the factors times x: `y * min(this / (sqrt(sum(y^2)) + eps), 1)`, which is at most so long (Inkling 2).
    AtMost(f64),
    /// `x` itself: a factor and an addend in the place of a norm (MobileBERT).
    Affine,
    /// The same with the addend in front of the factor: `weight (x + bias)` (ZAYA).
    Shifted,
}

/// A norm by means and variances that were seen in training: `(x - mean) / sqrt(variance + epsilon) * weight + bias`, all
/// `[features]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StoredNorm {
    /// Factors.
    pub weight: WeightIndex,
    /// Addends.
    pub bias: WeightIndex,
    /// The means.
    pub mean: WeightIndex,
    /// The variances.
    pub variance: WeightIndex,
    /// Added to the variances.
    pub epsilon: f64,
}

/// A norm of queries, keys or values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadNorm {
    /// The norm; its weight has the features of its span.
    pub norm: Norm,
    /// What one row of it is.
    pub span: NormSpan,
    /// After the rotation instead of before.
    pub after_rotation: bool,
}

/// The features that are normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormSpan {
    /// One head; all heads share the weight `[head_dim]`.
    Head,
    /// One head; every head has its own weight `[heads * head_dim]` (Cohere).
    HeadOwnWeight,
    /// All heads together (OLMo 2).
    Full,
}
