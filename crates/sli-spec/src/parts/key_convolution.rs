//! Convolutions of projected keys and values along a record.

use serde::Serialize;

use super::{Convolution, Linear};
use crate::source::WeightIndex;

/// A convolution of what is projected, in front of its norm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum KeyConvolution {
    /// The same for all rows.
    Fixed(Convolution),
    /// Weights of every row beside those of the columns.
    OfRows(RowWeights),
}

/// `scale * (x[t] + sum_l (weight[l] + own_t[h, l]) x[t - l])`, column by column, where the weights `own_t` of the row are the
/// same for all columns of a head (Inkling 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowWeights {
    /// `[kernel * columns]`: of the row itself, of the one before it, ...
    pub weight: WeightIndex,
    /// The weights of a row `[heads * kernel, hidden]`, of what the keys are a projection of as well.
    pub own: Linear,
    /// Heads.
    pub heads: usize,
    /// Columns of all of them.
    pub columns: usize,
    /// Rows that count, the row itself among them.
    pub kernel: usize,
    /// Factor on the sum.
    pub scale: f64,
}

impl KeyConvolution {
    /// Columns, and rows that count.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Fixed(fixed) => (fixed.columns, fixed.kernel),
            Self::OfRows(own) => (own.columns, own.kernel),
        }
    }

    /// Numbers that a row brings along for it.
    pub fn of_row(&self) -> usize {
        match self {
            Self::Fixed(_) => 0,
            Self::OfRows(own) => own.own.out_features,
        }
    }
}
