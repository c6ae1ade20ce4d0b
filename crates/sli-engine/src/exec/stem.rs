//! Features of records to the input of the first layer: what their stem makes of them, a record at a time.

use sli_kernels::{Mat, MatRef, PackedKind, PackedWeights, Store};
use sli_spec::{
    Features, Layout, Norm, NormOf, PatchPlaces, PlaneConvolution, PlaneWeights, StemStep,
    Surroundings, WeightIndex,
};

use super::BoundLayer;
use super::batch::Batch;
use super::convolve::{UNFOLDED_ROWS, convolved_values, unfold};
use crate::error::EngineError;
use crate::records::RecordSpool;

/// Values that are held while a record of up to `longest` rows passes through its stem.
pub(crate) fn stem_values(features: &Features, longest: usize) -> usize {
    let (mut rows, mut width) = (features.frames_of(longest), features.channels);
    let mut most = 2 * width * rows;
    for step in &features.stem {
        let (next, out) = (step.rows(rows), step.width(width));
        let more = match step {
            StemStep::Convolution(convolution) => convolved_values(convolution, next),
            StemStep::Surroundings(own) => {
                let inputs = own.columns / own.groups * own.kernel;
                (UNFOLDED_ROWS + own.columns / own.groups) * inputs
            }
            StemStep::Plane(plane) => {
                UNFOLDED_ROWS * (plane.channels * plane.kernel.pow(2) + plane.out_channels())
            }
            StemStep::ChannelsFirst { .. }
            | StemStep::Norm(..)
            | StemStep::Activation(_)
            | StemStep::Compression(_)
            | StemStep::Places(_) => 0,
        };
        most = most.max(rows * width + next * out + more);
        (rows, width) = (next, out);
    }
    most
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
            for step in &features.stem {
                x = self.stem_step(step, x)?;
            }
            let own = start..start + record.tokens;
            self.kernels.copy(x.view(), hidden.rows_view_mut(own));
            start += record.tokens;
        }
        if features.scale != 1.0 {
            let scale = features.scale as f32;
            self.kernels.scale_in_place(scale, hidden.view_mut());
        }
        self.add_positions(features.positions.as_ref(), batch, hidden)?;
        match &features.norm {
            Some(norm) => self.norm_in_place(norm, hidden.view_mut()),
            None => Ok(()),
        }
    }

    fn stem_step(&self, step: &StemStep, mut x: Mat) -> Result<Mat, EngineError> {
        match step {
            StemStep::Convolution(convolution) => {
                let mut out = Mat::new(convolution.rows(x.rows()), convolution.width());
                self.convolve(convolution, x.view(), out.view_mut())?;
                return Ok(out);
            }
            StemStep::Surroundings(own) => self.add_surroundings(own, &mut x)?,
            StemStep::Plane(plane) => return self.convolve_plane(plane, &x),
            StemStep::ChannelsFirst { channels } => return Ok(channels_first(&x, *channels)),
            StemStep::Norm(norm, NormOf::Rows) => self.norm_in_place(norm, x.view_mut())?,
            StemStep::Norm(norm, NormOf::Columns) => self.norm_of_columns(norm, &mut x)?,
            StemStep::Norm(norm, NormOf::All) => self.norm_of_record(norm, &mut x)?,
            StemStep::Activation(activation) => {
                let activation = crate::mixers::kernel(*activation);
                self.kernels.activation(activation, x.view_mut());
            }
            StemStep::Compression(weight) => self.compress(*weight, &mut x)?,
            StemStep::Places(places) => return self.place_patches(places, &x),
        }
        Ok(x)
    }

    /// `asinh(exp(k) * x)`.
    fn compress(&self, weight: WeightIndex, x: &mut Mat) -> Result<(), EngineError> {
        let weight = self.vector(weight)?;
        let factor = weight.first().copied().unwrap_or_default().exp();
        for value in x.as_mut_slice() {
            *value = f64::from(factor * *value).asinh() as f32;
        }
        Ok(())
    }

    /// Rows and columns of patches, and the projection of what they are.
    fn place_patches(&self, places: &PatchPlaces, x: &Mat) -> Result<Mat, EngineError> {
        let mut out = Mat::new(x.rows(), places.projection.out_features);
        let own = x.view().cols_range(2..x.cols());
        self.linear(own, &places.projection, out.view_mut())?;
        let ids = (0..x.rows()).map(|row| places.places(x.row(row)));
        let ids = ids.collect::<Option<Vec<_>>>();
        let beyond = || EngineError::Internal("a patch is beyond the tables of places".into());
        let ids = ids.ok_or_else(beyond)?;
        for (axis, &table) in places.tables.iter().enumerate() {
            let ids: Vec<u32> = ids.iter().map(|place| place[axis]).collect();
            self.gather(table, &ids, &mut out, true)?;
        }
        Ok(out)
    }

    /// Adds what the rows around say of each: groups of columns by themselves.
    fn add_surroundings(&self, own: &Surroundings, x: &mut Mat) -> Result<(), EngineError> {
        let (kernel, size) = (own.kernel, own.columns / own.groups);
        let [direction, lengths, bias] = [own.direction, own.lengths, own.bias];
        let direction = self.vector(direction)?;
        let (lengths, bias) = (self.vector(lengths)?, self.vector(bias)?);
        let factors = lengths_to_factors(&direction, &lengths, kernel);
        let mut out = Mat::new(x.rows(), own.columns);
        let mut unfolded = Mat::default();
        for group in 0..own.groups {
            let columns = group * size..(group + 1) * size;
            let mut packed = PackedWeights::new(size, size * kernel, PackedKind::F32);
            for (place, line) in (direction.chunks_exact(size * kernel))
                .skip(columns.start)
                .take(size)
                .enumerate()
            {
                let line = line.iter().zip(factors.iter().cycle());
                let line: Vec<f32> = line.map(|(value, factor)| value * factor).collect();
                packed.pack_rows_f32(place, &line);
            }
            for start in (0..x.rows()).step_by(UNFOLDED_ROWS) {
                let block = start..x.rows().min(start + UNFOLDED_ROWS);
                unfolded.reset(block.len(), size * kernel);
                for (place, row) in block.clone().enumerate() {
                    let first = (row, kernel / 2);
                    unfold(
                        x.view(),
                        columns.clone(),
                        first,
                        kernel,
                        unfolded.row_mut(place),
                    );
                }
                let target = out.rows_view_mut(block).cols_range(columns.clone());
                let unfolded = unfolded.view();
                self.kernels
                    .gemm(unfolded, &packed, None, Store::Set, target);
            }
        }
        self.kernels.add_bias(&bias, out.view_mut());
        let activation = crate::mixers::kernel(own.activation);
        self.kernels.activation(activation, out.view_mut());
        self.kernels.add(out.view(), 1.0, x.view_mut());
        Ok(())
    }

    fn convolve_plane(&self, plane: &PlaneConvolution, x: &Mat) -> Result<Mat, EngineError> {
        let (rows, columns) = (plane.out(x.rows()), plane.out(plane.columns));
        let mut out = Mat::new(rows, columns * plane.out_channels());
        match &plane.weights {
            PlaneWeights::Dense(projection) => {
                let width = plane.out_channels();
                let (mut unfolded, mut made) = (Mat::default(), Mat::default());
                for start in (0..rows * columns).step_by(UNFOLDED_ROWS) {
                    let block = start..(rows * columns).min(start + UNFOLDED_ROWS);
                    unfolded.reset(block.len(), projection.in_features);
                    for (place, number) in block.clone().enumerate() {
                        let at = [number / columns, number % columns];
                        unfold_plane(plane, x, at, unfolded.row_mut(place));
                    }
                    made.reset(block.len(), width);
                    self.dense(
                        projection,
                        plane.activation,
                        unfolded.view(),
                        made.view_mut(),
                    )?;
                    let target = block.start * width..block.end * width;
                    out.as_mut_slice()[target].copy_from_slice(made.as_slice());
                }
            }
            PlaneWeights::OfChannels(weight, bias) => {
                let (weight, bias) = (self.vector(*weight)?, self.vector(*bias)?);
                let size = plane.kernel.pow(2);
                let mut taps = vec![0.0; plane.channels * size];
                let of_columns = out.as_mut_slice().chunks_exact_mut(plane.channels);
                for (number, made) in of_columns.enumerate() {
                    unfold_plane(plane, x, [number / columns, number % columns], &mut taps);
                    let products = taps.chunks_exact(size).zip(weight.chunks_exact(size));
                    for ((value, (taps, weight)), bias) in made.iter_mut().zip(products).zip(&*bias)
                    {
                        let products = taps.iter().zip(weight).map(|(tap, weight)| tap * weight);
                        *value = products.sum::<f32>() + bias;
                    }
                }
                let activation = crate::mixers::kernel(plane.activation);
                self.kernels.activation(activation, out.view_mut());
            }
        }
        Ok(out)
    }

    /// A norm of every column by itself. Sums in f64, row by row.
    fn norm_of_columns(&self, norm: &Norm, x: &mut Mat) -> Result<(), EngineError> {
        let (weight, bias) = (self.optional(norm.weight)?, self.optional(norm.bias)?);
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let (columns, count) = (x.cols(), x.rows().max(1) as f64);
        let mut means = vec![0.0; columns];
        let mut squares = vec![0.0; columns];
        for row in 0..x.rows() {
            let sums = means.iter_mut().zip(x.row(row));
            sums.for_each(|(sum, &value)| *sum += f64::from(value) / count);
        }
        for row in 0..x.rows() {
            for ((sum, mean), &value) in squares.iter_mut().zip(&means).zip(x.row(row)) {
                *sum += (f64::from(value) - mean).powi(2) / count;
            }
        }
        for (index, value) in x.as_mut_slice().iter_mut().enumerate() {
            let column = index % columns;
            let deviation = (squares[column] + norm.epsilon).sqrt();
            let factor = weight.map_or(1.0, |weight| weight[column]);
            let addend = bias.map_or(0.0, |bias| bias[column]);
            *value = ((f64::from(*value) - means[column]) / deviation) as f32 * factor + addend;
        }
        Ok(())
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

/// The input of a column of a plane's convolution: of each channel its rows, of each row its columns.
fn unfold_plane(plane: &PlaneConvolution, x: &Mat, [row, column]: [usize; 2], out: &mut [f32]) {
    let (kernel, channels) = (plane.kernel, plane.channels);
    let place = |at: usize, tap: usize, count: usize| {
        let place = (at * plane.stride + tap).checked_sub(plane.padding);
        place.filter(|&place| place < count)
    };
    for tap in 0..kernel * kernel {
        let source = place(row, tap / kernel, x.rows());
        let source = source.zip(place(column, tap % kernel, plane.columns));
        let taps = out.iter_mut().skip(tap).step_by(kernel * kernel);
        match source {
            Some((row, column)) => taps
                .zip(&x.row(row)[column * channels..(column + 1) * channels])
                .for_each(|(tap, value)| *tap = *value),
            None => taps.for_each(|tap| *tap = 0.0),
        }
    }
}

/// What the numbers of each row of a kernel are multiplied by, so that they have these lengths.
fn lengths_to_factors(direction: &[f32], lengths: &[f32], kernel: usize) -> Vec<f32> {
    let mut squares = vec![0.0; kernel];
    for (index, &value) in direction.iter().enumerate() {
        squares[index % kernel] += f64::from(value).powi(2);
    }
    let factors = squares.iter().zip(lengths);
    factors
        .map(|(square, &length)| (f64::from(length) / square.sqrt()) as f32)
        .collect()
}

/// Of every row the numbers of each channel one after the other.
fn channels_first(x: &Mat, channels: usize) -> Mat {
    let columns = x.cols() / channels.max(1);
    let mut out = Mat::new(x.rows(), x.cols());
    for row in 0..x.rows() {
        let target = out.row_mut(row);
        for (index, &value) in x.row(row).iter().enumerate() {
            target[index % channels * columns + index / channels] = value;
        }
    }
    out
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
