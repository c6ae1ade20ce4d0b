//! Convolutions of all columns along the rows of a record.

use std::ops::Range;

use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::DenseConvolution;

use super::BoundLayer;
use crate::error::EngineError;

/// Rows of a convolution's output whose inputs are laid out together.
pub(super) const UNFOLDED_ROWS: usize = 256;

/// Values that are held, beside rows that are read and these many that come of them.
pub(super) fn convolved_values(convolution: &DenseConvolution, rows: usize) -> usize {
    let projection = &convolution.projection;
    let halves = usize::from(convolution.gated) * projection.out_features;
    UNFOLDED_ROWS.min(rows) * (projection.in_features + halves)
}

impl BoundLayer<'_> {
    /// The first rows that come of some.
    pub(super) fn convolve(
        &self,
        convolution: &DenseConvolution,
        x: MatRef<'_>,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let projection = &convolution.projection;
        let (mut unfolded, mut halves) = (Mat::default(), Mat::default());
        for start in (0..out.rows()).step_by(UNFOLDED_ROWS) {
            let block = start..out.rows().min(start + UNFOLDED_ROWS);
            unfolded.reset(block.len(), projection.in_features);
            for (place, row) in block.clone().enumerate() {
                let first = (row * convolution.stride, convolution.padding[0]);
                let target = unfolded.row_mut(place);
                unfold(x, 0..x.cols(), first, convolution.kernel, target);
            }
            let target = out.reborrow().rows_range(block);
            if !convolution.gated {
                let activation = convolution.activation;
                self.dense(projection, activation, unfolded.view(), target)?;
                continue;
            }
            // The first half of every row times the activation of the second.
            halves.reset(unfolded.rows(), projection.out_features);
            self.linear(unfolded.view(), projection, halves.view_mut())?;
            let (values, mut gate) = halves.view_mut().split_cols(convolution.width());
            let activation = crate::mixers::kernel(convolution.activation);
            self.kernels
                .gated(activation, gate.reborrow(), values.as_ref());
            self.kernels.copy(gate.as_ref(), target);
        }
        Ok(())
    }
}

/// The input of a row of a convolution: of each of some columns its rows, from number `start` less `padding` on, zeros
/// where there are none.
pub(super) fn unfold(
    x: MatRef<'_>,
    columns: Range<usize>,
    (start, padding): (usize, usize),
    kernel: usize,
    out: &mut [f32],
) {
    for tap in 0..kernel {
        let source = (start + tap).checked_sub(padding);
        let source = source.filter(|&source| source < x.rows());
        let taps = out.iter_mut().skip(tap).step_by(kernel);
        match source {
            Some(source) => taps
                .zip(&x.row(source)[columns.clone()])
                .for_each(|(tap, value)| *tap = *value),
            None => taps.for_each(|tap| *tap = 0.0),
        }
    }
}
