//! Features of records to the input of the first layer: convolutions along frames, a record at a time.

use sli_kernels::{Mat, MatRef};
use sli_spec::{Features, StemConvolution};

use super::BoundLayer;
use super::batch::Batch;
use crate::error::EngineError;
use crate::records::RecordSpool;

/// Rows of a convolution's output whose inputs are laid out together.
const UNFOLDED_ROWS: usize = 256;

/// Values that are held while a record passes through its stem.
pub(crate) fn stem_values(features: &Features) -> usize {
    let (mut rows, mut most) = (features.frames, 2 * features.values());
    for convolution in &features.stem {
        let Linear { input, output } = Linear::of(convolution);
        let next = convolution.rows(rows);
        let width = input / convolution.kernel;
        most = most.max(rows * width + UNFOLDED_ROWS.min(next) * input + next * output);
        rows = next;
    }
    most
}

/// Columns of a convolution's projection.
struct Linear {
    input: usize,
    output: usize,
}

impl Linear {
    fn of(convolution: &StemConvolution) -> Self {
        Self {
            input: convolution.projection.in_features,
            output: convolution.projection.out_features,
        }
    }
}

impl BoundLayer<'_> {
    /// Fills `hidden`, `[rows, hidden]`, with the rows of a batch's records.
    pub fn embed_features(
        &self,
        features: &Features,
        batch: &Batch,
        records: &RecordSpool,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        hidden.reset(batch.rows(), features.width());
        let mut start = 0;
        for (offset, record) in batch.records.iter().enumerate() {
            if record.tokens == 0 {
                continue;
            }
            let values = records.features(batch.first_record + offset)?;
            if values.len() != features.values() {
                return Err(EngineError::Record {
                    id: record.id.clone(),
                    problem: format!(
                        "{} numbers for the `{}` of the model, which has {}",
                        values.len(),
                        features.name,
                        features.values()
                    ),
                });
            }
            let mut x = transposed(&values, [features.channels, features.frames]);
            drop(values);
            for convolution in &features.stem {
                x = self.convolve(convolution, &x)?;
            }
            for row in 0..record.tokens {
                hidden.row_mut(start + row).copy_from_slice(x.row(row));
            }
            start += record.tokens;
        }
        self.add_positions(features.positions.as_ref(), batch, hidden)
    }

    fn convolve(&self, convolution: &StemConvolution, x: &Mat) -> Result<Mat, EngineError> {
        let Linear { input, output } = Linear::of(convolution);
        let rows = convolution.rows(x.rows());
        let mut out = Mat::new(rows, output);
        let mut unfolded = Mat::default();
        for start in (0..rows).step_by(UNFOLDED_ROWS) {
            let block = start..rows.min(start + UNFOLDED_ROWS);
            unfolded.reset(block.len(), input);
            for (place, row) in block.clone().enumerate() {
                unfold(convolution, x, row, unfolded.row_mut(place));
            }
            let target = out.rows_view_mut(block);
            self.dense(
                &convolution.projection,
                convolution.activation,
                unfolded.view(),
                target,
            )?;
        }
        Ok(out)
    }
}

/// The input of a row of a convolution: of each feature its rows, zeros where there are none.
fn unfold(convolution: &StemConvolution, x: &Mat, row: usize, out: &mut [f32]) {
    let kernel = convolution.kernel;
    for tap in 0..kernel {
        let place = row * convolution.stride + tap;
        let source = place.checked_sub(convolution.padding);
        let source = source.filter(|&source| source < x.rows());
        let taps = out.iter_mut().skip(tap).step_by(kernel);
        match source {
            Some(source) => taps
                .zip(x.row(source))
                .for_each(|(tap, value)| *tap = *value),
            None => taps.for_each(|tap| *tap = 0.0),
        }
    }
}

/// `[channels, frames]` as `[frames, channels]`.
fn transposed(values: &[f32], [channels, frames]: [usize; 2]) -> Mat {
    let from = MatRef::from_slice(values, channels, frames);
    let mut to = Mat::new(frames, channels);
    for channel in 0..channels {
        for (frame, &value) in from.row(channel).iter().enumerate() {
            to.row_mut(frame)[channel] = value;
        }
    }
    to
}
