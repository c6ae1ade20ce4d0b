//! Hyper-connections: what a sublayer reads of several residual streams, and how it writes to them.

use std::ops::Range;

use sli_kernels::{Activation, Connection, Expand, Mat, MatMut, MatRef};
use sli_spec::{GatedMean, HyperConnection, Linear, StreamReading, StreamWeights};

use super::{BoundLayer, Scratch, Slots};
use crate::error::EngineError;
use crate::mixers::buffers::{Buffer, Buffers};

/// Columns of the weights of a row, beside what [`buffers`] names.
pub(crate) fn columns(connection: &HyperConnection) -> usize {
    connection.outputs()
}

/// Scratch buffers that are used in front of a sublayer: projections of one stream, or one stream and its gate.
pub(crate) fn buffers(connection: &HyperConnection) -> Buffers {
    match &connection.reading {
        StreamReading::Weighed(weights) => Buffers::default().rows(Buffer::Gate, weights.outputs()),
        StreamReading::Gated { mean, write: _ } => {
            let hidden = mean.up.first().map_or(0, |up| up.out_features);
            let between = hidden.max(mean.rank()).max(mean.streams());
            Buffers::default()
                .rows(Buffer::Gate, hidden)
                .rows(Buffer::Up, between)
                .rows(Buffer::Inner, mean.rank())
        }
    }
}

/// Room for a gated mean: one stream, its gate, and what is inside the gates, `[rows, columns]` each.
struct GateRoom<'a> {
    normed: &'a mut Mat,
    gate: &'a mut Mat,
    inner: &'a mut Mat,
}

impl BoundLayer<'_> {
    /// The weights of some rows' streams, and `out`, which is what a sublayer reads of them.
    pub fn collapse(
        &self,
        connection: &HyperConnection,
        (slots, rows): (&Slots, Range<usize>),
        (weights, scratch): (&mut Mat, &mut Scratch),
        out: &mut Mat,
    ) -> Result<(), EngineError> {
        let streams = streams(slots, connection.streams(), rows);
        let write = connection.write.map(|number| number as f32);
        let (count, hidden) = streams
            .first()
            .map_or((0, 0), |stream| (stream.rows(), stream.cols()));
        out.reset(count, hidden);
        match &connection.reading {
            StreamReading::Weighed(of) => {
                let form = (write, connection.rounds.unwrap_or(0));
                let room = (&mut *weights, &mut scratch.gate);
                self.stream_weights(of, form, &streams, room)?;
                self.kernels
                    .collapse(weights.view(), &streams, out.view_mut());
                Ok(())
            }
            StreamReading::Gated { mean, write: by } => {
                weights.reset(count, connection.outputs());
                let own = weights
                    .view_mut()
                    .cols_range(streams.len()..2 * streams.len());
                let room = GateRoom {
                    normed: &mut scratch.gate,
                    gate: &mut scratch.up,
                    inner: &mut scratch.inner,
                };
                self.gated_mean(mean, Some((by, write, own)), &streams, room, out)
            }
        }
    }

    /// The mean of streams that they gate, and the weights with which they are written, if any.
    fn gated_mean(
        &self,
        mean: &GatedMean,
        mut written: Option<(&[Linear], [f32; 2], MatMut<'_>)>,
        streams: &[MatRef<'_>],
        room: GateRoom<'_>,
        out: &mut Mat,
    ) -> Result<(), EngineError> {
        let GateRoom {
            normed,
            gate,
            inner,
        } = room;
        let (kernels, share) = (self.kernels, 1.0 / streams.len() as f32);
        let (rows, hidden) = (out.rows(), out.cols());
        normed.reset(rows, hidden);
        inner.reset(rows, mean.rank());
        inner.as_mut_slice().fill(0.0);
        if let Some((_, _, weights)) = &mut written {
            kernels.scale_in_place(0.0, weights.reborrow());
        }
        for (index, (stream, norm)) in streams.iter().zip(&mean.norms).enumerate() {
            self.norm(norm, *stream, normed.view_mut())?;
            gate.reset(rows, mean.rank());
            self.linear(normed.view(), &mean.down[index], gate.view_mut())?;
            kernels.add(gate.view(), share, inner.view_mut());
            if let Some((by, _, weights)) = &mut written {
                gate.reset(rows, streams.len());
                self.linear(normed.view(), &by[index], gate.view_mut())?;
                kernels.add(gate.view(), share, weights.reborrow());
            }
        }
        kernels.activation(Activation::Silu, inner.view_mut());
        if let Some((_, [factor, addend], mut weights)) = written {
            kernels.activation(Activation::Sigmoid, weights.reborrow());
            kernels.scale_in_place(factor, weights.reborrow());
            kernels.add_bias(&vec![addend; streams.len()], weights);
        }
        out.as_mut_slice().fill(0.0);
        for (index, (stream, norm)) in streams.iter().zip(&mean.norms).enumerate() {
            self.norm(norm, *stream, normed.view_mut())?;
            gate.reset(rows, hidden);
            self.linear(inner.view(), &mean.up[index], gate.view_mut())?;
            kernels.activation(Activation::Sigmoid, gate.view_mut());
            kernels.multiply(normed.view(), gate.view_mut());
            kernels.add(gate.view(), share, out.view_mut());
        }
        Ok(())
    }

    /// The mean of all streams behind the last layer.
    pub fn gated_mixture(&self, mean: &GatedMean, slots: &Slots) -> Result<Mat, EngineError> {
        let rows = slots.hidden.rows();
        let streams = streams(slots, mean.streams(), 0..rows);
        let (mut normed, mut gate, mut inner) = Default::default();
        let room = GateRoom {
            normed: &mut normed,
            gate: &mut gate,
            inner: &mut inner,
        };
        let mut merged = Mat::new(rows, slots.hidden.cols());
        self.gated_mean(mean, None, &streams, room, &mut merged)?;
        Ok(merged)
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
