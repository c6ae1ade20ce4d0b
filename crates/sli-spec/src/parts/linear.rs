//! Linear maps.

use serde::Serialize;

use crate::source::WeightIndex;

/// `y = W x + b`, with an adapter `y = (W + up down) x + b`, with limits `y = cut(W cut(x) + b)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: WeightIndex,
    /// `[out]`.
    pub bias: Option<WeightIndex>,
    /// Output features.
    pub out_features: usize,
    /// Input features.
    pub in_features: usize,
    /// What is added to the weight, where other maps share it.
    pub adapter: Option<Adapter>,
    /// Between which what enters and what leaves is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<Limits>>,
}

impl Linear {
    /// One of `[out, in]` features, without an adapter and limits.
    pub fn plain(
        weight: WeightIndex,
        bias: Option<WeightIndex>,
        [out_features, in_features]: [usize; 2],
    ) -> Self {
        Self {
            weight,
            bias,
            out_features,
            in_features,
            adapter: None,
            limits: None,
        }
    }
}

/// Least and largest numbers `[1]` (Gemma 4's towers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Of what enters.
    pub input: [WeightIndex; 2],
    /// Of what leaves.
    pub output: [WeightIndex; 2],
}

/// A product of two small matrices that is added to a shared weight (Zamba 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// `[rank, in]`.
    pub down: WeightIndex,
    /// `[out, rank]`.
    pub up: WeightIndex,
    /// Features between the two.
    pub rank: usize,
}
