//! Convolutions along a record.

use serde::Serialize;

use super::{Activation, Linear};
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

/// Every column of all columns, of a row and the ones beside it, with zeros around a record: row `t` of the output is the
/// projection of the input's rows `stride * t - padding[0] ..`, `kernel` of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DenseConvolution {
    /// `[out, in * kernel]`: of an input feature, its rows one after the other.
    pub projection: Linear,
    /// Rows of the input that a row of the output is made of.
    pub kernel: usize,
    /// Rows of the input from one of the output to the next.
    pub stride: usize,
    /// Zeros in front of the input, and behind it.
    pub padding: [usize; 2],
    /// The first half of what comes out is multiplied by the activation of the second.
    pub gated: bool,
    /// After the projection, or of the gate.
    pub activation: Activation,
}

impl DenseConvolution {
    /// Rows that come of so many.
    pub fn rows(&self, rows: usize) -> usize {
        rows_of(rows, self.window())
    }

    /// Kernel, stride and all zeros.
    pub(crate) fn window(&self) -> [usize; 3] {
        [self.kernel, self.stride, self.padding.iter().sum()]
    }

    /// Features of a row that comes out.
    pub fn width(&self) -> usize {
        self.projection.out_features / (1 + usize::from(self.gated))
    }
}

/// Rows of a convolution over so many, with this kernel, stride and all zeros.
pub(crate) fn rows_of(rows: usize, [kernel, stride, zeros]: [usize; 3]) -> usize {
    let room = (rows + zeros).checked_sub(kernel);
    room.map_or(0, |room| room / stride + 1)
}
