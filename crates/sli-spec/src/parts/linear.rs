//! Linear maps.

use serde::Serialize;

use crate::source::WeightIndex;

/// `y = W x + b`.
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
}
