//! Causal convolutions along a record.

use serde::Serialize;

use super::Activation;
use crate::source::WeightIndex;

/// Every column with weights of its own over the row and the ones before it, then an activation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Convolution {
    /// `[columns * kernel]`: those of a column side by side, the one of the row itself last.
    pub weight: WeightIndex,
    /// `[columns]`.
    pub bias: Option<WeightIndex>,
    /// Columns.
    pub columns: usize,
    /// Rows that count, the row itself among them.
    pub kernel: usize,
    /// The row itself is added to every sum, and both are multiplied by this (Inkling).
    pub with_row: Option<f64>,
    /// Of the sums.
    pub activation: Activation,
}
