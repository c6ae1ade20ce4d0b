//! Rows that are made of the ends of earlier stacks, a record at a time.

use std::ops::Range;

use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::{Halving, Resampled, Resampling};

use super::batch::Batch;
use super::stem::UNFOLDED_ROWS;
use super::{BoundLayer, EndRows};
use crate::error::EngineError;
use crate::mixers::end_of;

/// Values that are held while the rows of a record of up to `longest` rows are made.
pub(crate) fn resampled_values(input: &Resampled, width: usize, longest: usize) -> usize {
    match &input.rule {
        Resampling::Strided { convolution, .. } | Resampling::Repeated { convolution, .. } => {
            let columns = convolution.projection.in_features;
            let read = columns / convolution.kernel;
            longest * (read + width) + UNFOLDED_ROWS.min(longest) * columns
        }
        Resampling::Table { .. } | Resampling::Halved { .. } | Resampling::Spread { .. } => width,
    }
}

impl BoundLayer<'_> {
    /// Fills `hidden`, `[rows, hidden]`, with the rows of a batch's records.
    pub fn resample(
        &self,
        input: &Resampled,
        batch: &Batch,
        ends: &[EndRows],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        if let Resampling::Table { weight, rows } = &input.rule {
            let positions = &batch.positions;
            if let Some(beyond) = positions.iter().find(|&&row| row as usize >= *rows) {
                return Err(EngineError::Internal(format!(
                    "row {beyond} is beyond the {rows} rows of the table"
                )));
            }
            self.gather(*weight, positions, hidden, false)?;
        } else {
            let records = batch.branches_of(&batch.whole());
            for (branch, own) in records.into_iter().enumerate() {
                let of = |stack: usize| -> Result<MatRef<'_>, EngineError> {
                    let rows = batch.source_of(stack, branch);
                    Ok(end_of(ends, stack)?.rows_view(rows))
                };
                self.resample_record(&input.rule, of, hidden.rows_view_mut(own))?;
            }
        }
        match &input.norm {
            Some(norm) => self.norm_in_place(norm, hidden.view_mut()),
            None => Ok(()),
        }
    }

    /// The rows of one record; `of` has those of earlier stacks.
    fn resample_record<'e>(
        &self,
        rule: &Resampling,
        of: impl Fn(usize) -> Result<MatRef<'e>, EngineError>,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        match rule {
            Resampling::Table { .. } => {}
            Resampling::Strided { stack, convolution } => {
                let end = of(*stack)?;
                let (first, rest) = out.split_rows(1);
                self.kernels.copy(end.rows_range(0..1), first);
                let mut x = Mat::new(end.rows(), end.cols());
                self.kernels.copy(end, x.view_mut());
                let convolved = self.convolve(convolution, &x, rest.rows())?;
                self.kernels.copy(convolved.view(), rest);
            }
            Resampling::Repeated {
                stack,
                shorter,
                times,
                convolution,
            } => {
                let (end, short) = (of(*stack)?, of(*shorter)?);
                let mut both = Mat::new(end.rows(), end.cols() + short.cols());
                let (own, beside) = both.view_mut().split_cols(end.cols());
                self.kernels.copy(end, own);
                let last = short.rows().saturating_sub(1);
                take_rows(short, |row| Some((1 + row / times).min(last)), beside);
                let convolved = self.convolve(convolution, &both, end.rows())?;
                self.kernels.copy(convolved.view(), out);
            }
            Resampling::Halved {
                stack,
                halving,
                largest,
            } => {
                let end = of(*stack)?;
                for row in 0..out.rows() {
                    halve(end, halving.of(row, end.rows()), *largest, out.row_mut(row));
                }
            }
            Resampling::Spread {
                stack,
                shorter,
                times,
                halving,
            } => {
                let (end, short) = (of(*stack)?, of(*shorter)?);
                let place = |row: usize| spread(*halving, *times, row);
                let has = |row: usize| Some(place(row)).filter(|&row| row < short.rows());
                take_rows(short, has, out.reborrow());
                self.kernels.add(end, 1.0, out);
            }
        }
        Ok(())
    }
}

/// Row `of(i)` of some rows to row `i`; zeros where there is none.
fn take_rows(rows: MatRef<'_>, of: impl Fn(usize) -> Option<usize>, mut out: MatMut<'_>) {
    for row in 0..out.rows() {
        match of(row) {
            Some(source) => out.row_mut(row).copy_from_slice(rows.row(source)),
            None => out.row_mut(row).fill(0.0),
        }
    }
}

/// The row of a shorter end that stands for a row, each for so many.
fn spread(halving: Halving, times: usize, row: usize) -> usize {
    match (halving.first_apart, row) {
        (true, 0) => 0,
        (true, _) => 1 + (row - 1) / times,
        (false, _) => row / times,
    }
}

/// The mean of one or two rows, or the larger numbers of them.
fn halve(rows: MatRef<'_>, of: Range<usize>, largest: bool, out: &mut [f32]) {
    out.copy_from_slice(rows.row(of.start));
    for (value, other) in out.iter_mut().zip(rows.row(of.end - 1)) {
        *value = if largest {
            value.max(*other)
        } else {
            f32::midpoint(*value, *other)
        };
    }
}
