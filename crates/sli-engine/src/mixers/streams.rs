//! AltUp: predicts all residual streams from all, and corrects them by what the layer computed.

use sli_kernels::{Activation, Mat, MatRef};
use sli_spec::{Slot, StreamUpdate, Streams};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::{Layer, Rows, Scratch, Slots};

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
        layer: &Layer<'_>,
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
        let count = self.streams;
        let mut before = vec![0.0; count * hidden];
        for (row, token) in range.enumerate() {
            let coefficients = scratch.up.row(row);
            match &self.update {
                StreamUpdate::Predict { .. } => {
                    for (stream, values) in before.chunks_exact_mut(hidden).enumerate() {
                        values.copy_from_slice(slots.get(slot(stream)).row(token));
                    }
                    for stream in 0..count {
                        let own = &coefficients[stream * count..(stream + 1) * count];
                        let target = slots.get_mut(slot(stream)).row_mut(token);
                        for (factor, values) in own.iter().zip(before.chunks_exact(hidden)) {
                            add(target, *factor, values);
                        }
                    }
                }
                StreamUpdate::Correct { computed, .. } => {
                    let innovation = &mut before[..hidden];
                    innovation.copy_from_slice(slots.get(*computed).row(token));
                    add(innovation, -1.0, slots.get(slot(self.active)).row(token));
                    for (stream, coefficient) in coefficients[..count].iter().enumerate() {
                        let target = slots.get_mut(slot(stream)).row_mut(token);
                        add(target, coefficient + 1.0, innovation);
                    }
                }
            }
        }
        Ok(())
    }
}

/// `target += factor * values`.
fn add(target: &mut [f32], factor: f32, values: &[f32]) {
    for (target, value) in target.iter_mut().zip(values) {
        *target += factor * value;
    }
}

/// The slot of a residual stream.
pub(crate) fn slot(stream: usize) -> Slot {
    match stream {
        0 => Slot::Hidden,
        _ => Slot::Stash(stream as u8 - 1),
    }
}
