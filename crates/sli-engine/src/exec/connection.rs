//! Hyper-connections: what a sublayer reads of several residual streams, and how it writes to them.

use std::ops::Range;

use sli_kernels::{Connection, Expand, Mat, MatMut, MatRef};
use sli_spec::{HyperConnection, StreamWeights};

use super::{BoundLayer, Slots};
use crate::error::EngineError;
use crate::mixers::buffers::{Buffer, Buffers};

/// Columns of the weights of a row, beside what [`buffers`] names.
pub(crate) fn columns(connection: &HyperConnection) -> usize {
    connection.weights.outputs()
}

/// Scratch buffers that are used in front of a sublayer: projections of one stream.
pub(crate) fn buffers(connection: &HyperConnection) -> Buffers {
    Buffers::default().rows(Buffer::Gate, connection.weights.outputs())
}

impl BoundLayer<'_> {
    /// The weights of some rows' streams, and `out`, which is what a sublayer reads of them.
    pub fn collapse(
        &self,
        connection: &HyperConnection,
        (slots, rows): (&Slots, Range<usize>),
        (weights, projected): (&mut Mat, &mut Mat),
        out: &mut Mat,
    ) -> Result<(), EngineError> {
        let streams = streams(slots, connection.streams(), rows);
        let write = connection.write.map(|number| number as f32);
        let rounds = connection.rounds.unwrap_or(0);
        let form = (write, rounds);
        self.stream_weights(&connection.weights, form, &streams, (weights, projected))?;
        let (count, hidden) = streams
            .first()
            .map_or((0, 0), |stream| (stream.rows(), stream.cols()));
        out.reset(count, hidden);
        self.kernels
            .collapse(weights.view(), &streams, out.view_mut());
        Ok(())
    }

    /// Writes `y` to the streams of some rows, by the weights that [`Self::collapse`] left.
    pub fn expand(
        &self,
        connection: &HyperConnection,
        weights: &Mat,
        y: MatRef<'_>,
        (slots, rows): (&mut Slots, Range<usize>),
    ) {
        let count = connection.streams();
        let weights = weights.view();
        let all = std::iter::once(&mut slots.hidden).chain(&mut slots.stashes);
        let streams = all.take(count);
        let mut streams: Vec<MatMut<'_>> = streams
            .map(|stream| stream.rows_view_mut(rows.clone()))
            .collect();
        let mixed = |_| weights.cols_range(2 * count..2 * count + count * count);
        let by = Expand {
            write: weights.cols_range(count..2 * count),
            mix: connection.rounds.map(mixed),
            y,
        };
        self.kernels.expand(by, &mut streams);
    }

    /// The mixture of all streams behind the last layer.
    pub fn mixture(&self, weights: &StreamWeights, slots: &Slots) -> Result<Mat, EngineError> {
        let rows = slots.hidden.rows();
        let streams = streams(slots, weights.streams(), 0..rows);
        let (mut factors, mut projected) = (Mat::default(), Mat::default());
        let buffers = (&mut factors, &mut projected);
        self.stream_weights(weights, ([0.0; 2], 0), &streams, buffers)?;
        let mut merged = Mat::new(rows, slots.hidden.cols());
        self.kernels
            .collapse(factors.view(), &streams, merged.view_mut());
        Ok(merged)
    }

    fn stream_weights(
        &self,
        of: &StreamWeights,
        (write, rounds): ([f32; 2], usize),
        streams: &[MatRef<'_>],
        (weights, projected): (&mut Mat, &mut Mat),
    ) -> Result<(), EngineError> {
        let rows = streams.first().map_or(0, MatRef::rows);
        weights.reset(rows, of.outputs());
        weights.as_mut_slice().fill(0.0);
        for (stream, projection) in streams.iter().zip(&of.projections) {
            projected.reset(rows, of.outputs());
            self.linear(*stream, projection, projected.view_mut())?;
            self.kernels.add(projected.view(), 1.0, weights.view_mut());
        }
        let (base, scale) = (self.vector(of.base)?, self.vector(of.scale)?);
        let form = Connection {
            streams: of.streams(),
            base: &base,
            scale: &scale,
            epsilon: of.epsilon as f32,
            write,
            rounds,
        };
        let epsilon = of.norm_epsilon as f32;
        self.kernels
            .connection(&form, streams, epsilon, weights.view_mut());
        Ok(())
    }
}

/// Rows of the first streams.
fn streams(slots: &Slots, count: usize, rows: Range<usize>) -> Vec<MatRef<'_>> {
    let streams = slots.streams(count).into_iter();
    streams
        .map(|stream| stream.rows_view(rows.clone()))
        .collect()
}
