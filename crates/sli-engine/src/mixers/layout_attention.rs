//! Attention of text and layout together (LiLT): the heads of both streams side by side.

use sli_kernels::{AttentionArgs, AttentionMask, HeadParts, Mat, MatRef};
use sli_spec::{LayoutAttention, LayoutStream, Linear, Slot};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch, Slots};

/// The streams, in order.
const SLOTS: [Slot; 2] = [Slot::Hidden, Slot::Stash(0)];

impl Mix for LayoutAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let wide = self.heads * self.head_dim();
        let buffers = [Buffer::Query, Buffer::Key, Buffer::Value, Buffer::Heads];
        let all = buffers
            .into_iter()
            .fold(Buffers::default(), |all, buffer| all.rows(buffer, wide));
        let streams = self.streams.iter();
        let widest = streams.map(|stream| self.heads * stream.head_dim).max();
        let outputs = self.streams.iter().map(|stream| stream.output.out_features);
        all.rows(Buffer::Up, widest.unwrap_or(0))
            .rows(Buffer::Inner, outputs.max().unwrap_or(0))
    }

    fn run(&self, _at: &mut At<'_>, _x: MatRef<'_>, _output: &mut Mat) -> Result<(), EngineError> {
        let problem = "an attention of two streams is a step of its own";
        Err(EngineError::Internal(problem.into()))
    }

    /// Updates both streams of the rows of a chunk.
    fn run_in_place(
        &self,
        layer: &BoundLayer<'_>,
        rows: Rows<'_>,
        slots: &mut Slots,
        scratch: &mut Scratch,
    ) -> Result<(), EngineError> {
        let range = rows.chunk.rows.clone();
        let (heads, wide) = (self.heads, self.head_dim());
        let Scratch {
            query,
            key,
            value,
            heads: seen,
            up,
            inner,
            ..
        } = scratch;
        let mut joined = [query, key, value];
        for buffer in &mut joined {
            buffer.reset(range.len(), heads * wide);
        }
        let mut first = 0;
        for (stream, slot) in self.streams.iter().zip(SLOTS) {
            let x = slots.get(slot).rows_view(range.clone());
            for (index, (linear, buffer)) in stream.projections.iter().zip(&mut joined).enumerate()
            {
                // The logits of each stream have a scale of their own.
                let scale = if index == 0 {
                    (stream.head_dim as f64).powf(-0.5) as f32
                } else {
                    1.0
                };
                project(layer, linear, scale, x, up)?;
                let to = HeadParts {
                    first,
                    stride: wide,
                };
                let from = (up.view(), alone(stream));
                let kernels = layer.kernels;
                kernels.copy_heads(heads, stream.head_dim, from, (buffer.view_mut(), to));
            }
            first += stream.head_dim;
        }
        let [query, key, value] = joined;
        seen.reset(range.len(), heads * wide);
        let segments = rows.batch.segments(rows.chunk);
        let args = AttentionArgs::plain(
            [query.view(), key.view(), value.view()],
            [heads; 2],
            &segments.own,
            AttentionMask::Full,
            1.0,
        );
        layer.kernels.attention(&args, seen.view_mut());
        first = 0;
        for (stream, slot) in self.streams.iter().zip(SLOTS) {
            up.reset(range.len(), heads * stream.head_dim);
            let from = HeadParts {
                first,
                stride: wide,
            };
            let to = (up.view_mut(), alone(stream));
            let kernels = layer.kernels;
            kernels.copy_heads(heads, stream.head_dim, (seen.view(), from), to);
            inner.reset(range.len(), stream.output.out_features);
            layer.linear(up.view(), &stream.output, inner.view_mut())?;
            let target = slots.get_mut(slot);
            kernels.add(inner.view(), 1.0, target.rows_view_mut(range.clone()));
            layer.norm_in_place(&stream.norm, target.rows_view_mut(range.clone()))?;
            first += stream.head_dim;
        }
        Ok(())
    }
}

/// The heads of a stream alone.
fn alone(stream: &LayoutStream) -> HeadParts {
    HeadParts {
        first: 0,
        stride: stream.head_dim,
    }
}

fn project(
    layer: &BoundLayer<'_>,
    linear: &Linear,
    scale: f32,
    x: MatRef<'_>,
    out: &mut Mat,
) -> Result<(), EngineError> {
    out.reset(x.rows(), linear.out_features);
    layer.linear(x, linear, out.view_mut())?;
    if scale != 1.0 {
        layer.kernels.scale_in_place(scale, out.view_mut());
    }
    Ok(())
}
