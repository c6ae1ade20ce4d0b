//! Features of records to the input of the first layer: convolutions along frames, a record at a time.

use sli_kernels::{Mat, MatRef};
use sli_spec::{Features, Layout, Norm, StemConvolution};

use super::BoundLayer;
use super::batch::Batch;
use crate::error::EngineError;
use crate::records::RecordSpool;

/// Rows of a convolution's output whose inputs are laid out together.
pub(super) const UNFOLDED_ROWS: usize = 256;

/// Values that are held while a record of up to `longest` rows passes through its stem.
pub(crate) fn stem_values(features: &Features, longest: usize) -> usize {
    let mut rows = features.frames_of(longest);
    let mut most = 2 * features.channels * rows;
    for convolution in &features.stem {
        let Linear { input, output } = Linear::of(convolution);
        // Both halves of a gate, and what comes of them.
        let output = output + if convolution.gated { output / 2 } else { 0 };
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
            let frames = values.len() / features.channels.max(1);
            if frames * features.channels != values.len() || features.rows(frames) != record.tokens
            {
                return Err(EngineError::Record {
                    id: record.id.clone(),
                    problem: format!(
                        "{} numbers for the `{}` of the model, of which {} rows were to come",
                        values.len(),
                        features.name,
                        record.tokens
                    ),
                });
            }
            let mut x = match features.layout {
                Layout::Channels => transposed(&values, [features.channels, frames]),
                Layout::Frames | Layout::Samples => {
                    Mat::from_vec(frames, features.channels, values)
                }
            };
            for convolution in &features.stem {
                x = self.convolve(convolution, &x, convolution.rows(x.rows()))?;
            }
            for row in 0..record.tokens {
                hidden.row_mut(start + row).copy_from_slice(x.row(row));
            }
            start += record.tokens;
        }
        if features.scale != 1.0 {
            let scale = features.scale as f32;
            self.kernels.scale_in_place(scale, hidden.view_mut());
        }
        self.add_positions(features.positions.as_ref(), batch, hidden)
    }

    /// The first `rows` rows that come of some.
    pub(super) fn convolve(
        &self,
        convolution: &StemConvolution,
        x: &Mat,
        rows: usize,
    ) -> Result<Mat, EngineError> {
        let Linear { input, output } = Linear::of(convolution);
        let mut out = Mat::new(rows, output);
        let mut unfolded = Mat::default();
        for start in (0..rows).step_by(UNFOLDED_ROWS) {
            let block = start..rows.min(start + UNFOLDED_ROWS);
            unfolded.reset(block.len(), input);
            for (place, row) in block.clone().enumerate() {
                unfold(convolution, x, row, unfolded.row_mut(place));
            }
            let target = out.rows_view_mut(block);
            if convolution.gated {
                self.linear(unfolded.view(), &convolution.projection, target)?;
            } else {
                self.dense(
                    &convolution.projection,
                    convolution.activation,
                    unfolded.view(),
                    target,
                )?;
            }
        }
        drop(unfolded);
        if convolution.gated {
            out = self.gated(convolution, &mut out);
        }
        if let Some(norm) = &convolution.norm {
            self.norm_of_record(norm, &mut out)?;
        }
        Ok(out)
    }

    /// The first half of every row times the activation of the second.
    fn gated(&self, convolution: &StemConvolution, both: &mut Mat) -> Mat {
        let mut out = Mat::new(both.rows(), convolution.width());
        let (values, mut gate) = both.view_mut().split_cols(convolution.width());
        let activation = crate::mixers::kernel(convolution.activation);
        self.kernels
            .gated(activation, gate.reborrow(), values.as_ref());
        self.kernels.copy(gate.as_ref(), out.view_mut());
        out
    }

    /// A norm of all numbers together, with a factor and an addend for each column. Sums in f64, row by row.
    fn norm_of_record(&self, norm: &Norm, x: &mut Mat) -> Result<(), EngineError> {
        let (weight, bias) = (self.optional(norm.weight)?, self.optional(norm.bias)?);
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let all = x.as_mut_slice();
        let count = all.len().max(1) as f64;
        let mean = all.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let squares = all.iter().map(|&value| (f64::from(value) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count + norm.epsilon).sqrt();
        let columns = x.cols();
        for (index, value) in x.as_mut_slice().iter_mut().enumerate() {
            let column = index % columns;
            let factor = weight.map_or(1.0, |weight| weight[column]);
            let addend = bias.map_or(0.0, |bias| bias[column]);
            *value = ((f64::from(*value) - mean) / deviation) as f32 * factor + addend;
        }
        Ok(())
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
