//! AltUp: predicts all residual streams from all, and corrects them by what the layer computed.

use sli_kernels::{Activation, Mat, MatMut, MatRef};
use sli_spec::{Slot, StreamUpdate, Streams};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch, Slots};

impl Mix for Streams {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
            .rows(Buffer::Gate, self.streams)
            .rows(Buffer::Up, self.streams * self.streams)
    }

    fn run(&self, _at: &mut At<'_>, _x: MatRef<'_>, _output: &mut Mat) -> Result<(), EngineError> {
        let problem = "an update of the residual streams is a step of its own";
        Err(EngineError::Internal(problem.into()))
    }

    /// Updates the streams of the rows of a chunk.
    fn run_in_place(
        &self,
        layer: &BoundLayer<'_>,
        rows: Rows<'_>,
        slots: &mut Slots,
        scratch: &mut Scratch,
    ) -> Result<(), EngineError> {
        let range = rows.chunk.rows.clone();
        let source = match &self.update {
            StreamUpdate::Predict { .. } => slot(self.active),
            StreamUpdate::Correct { computed, .. } => *computed,
        };
        let input = slots.get(source).rows_view(range.clone());
        let hidden = input.cols();
        scratch.normed.reset(range.len(), hidden);
        layer.norm(&self.norm, input, scratch.normed.view_mut())?;
        layer
            .kernels
            .scale_in_place(1.0 / hidden as f32, scratch.normed.view_mut());
        scratch.gate.reset(range.len(), self.router.out_features);
        layer.linear(scratch.normed.view(), &self.router, scratch.gate.view_mut())?;
        layer
            .kernels
            .activation(Activation::Tanh, scratch.gate.view_mut());
        let (StreamUpdate::Predict { coefficients } | StreamUpdate::Correct { coefficients, .. }) =
            &self.update;
        scratch.up.reset(range.len(), coefficients.out_features);
        layer.linear(scratch.gate.view(), coefficients, scratch.up.view_mut())?;
        let coefficients = scratch.up.view();
        match &self.update {
            StreamUpdate::Predict { .. } => {
                let all = std::iter::once(&mut slots.hidden).chain(&mut slots.stashes);
                let streams = all.take(self.streams);
                let mut streams: Vec<MatMut<'_>> = streams
                    .map(|stream| stream.rows_view_mut(range.clone()))
                    .collect();
                layer.kernels.mix_streams(coefficients, &mut streams);
            }
            StreamUpdate::Correct { computed, .. } => {
                let innovation = &mut scratch.normed;
                let computed = slots.get(*computed).rows_view(range.clone());
                layer.kernels.copy(computed, innovation.view_mut());
                let active = slots.get(slot(self.active)).rows_view(range.clone());
                layer.kernels.add(active, -1.0, innovation.view_mut());
                for stream in 0..self.streams {
                    let target = slots.get_mut(slot(stream)).rows_view_mut(range.clone());
                    let factors: Vec<f32> = (0..range.len())
                        .map(|row| coefficients.row(row)[stream] + 1.0)
                        .collect();
                    let factors = MatRef::from_slice(&factors, factors.len(), 1);
                    layer
                        .kernels
                        .add_scaled_rows(factors, innovation.view(), target);
                }
            }
        }
        Ok(())
    }
}

/// The slot of a residual stream.
pub(crate) fn slot(stream: usize) -> Slot {
    match stream {
        0 => Slot::Hidden,
        _ => Slot::Stash(stream as u8 - 1),
    }
}
