//! Residual streams of a row from its earlier ones.

use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::StreamAttention;

use super::buffers::Buffers;
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch, Slots};

impl Mix for StreamAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
    }

    fn run(&self, _at: &mut At<'_>, _x: MatRef<'_>, _output: &mut Mat) -> Result<(), EngineError> {
        let problem = "attention to residual streams is a step of its own";
        Err(EngineError::Internal(problem.into()))
    }

    fn run_in_place(
        &self,
        layer: &BoundLayer<'_>,
        rows: Rows<'_>,
        slots: &mut Slots,
        _scratch: &mut Scratch,
    ) -> Result<(), EngineError> {
        let range = rows.chunk.rows.clone();
        let targets = self.targets.iter();
        let mut taken: Vec<Mat> = targets
            .map(|&target| std::mem::take(slots.get_mut(target)))
            .collect();
        let outputs = taken.iter_mut();
        let outputs = outputs.map(|target| target.rows_view_mut(range.clone()));
        let streams = self.streams.iter();
        let streams = streams.map(|&stream| slots.get(stream).rows_view(range.clone()));
        let done = attend(self, layer, &streams.collect::<Vec<_>>(), outputs.collect());
        for (&target, taken) in self.targets.iter().zip(taken) {
            *slots.get_mut(target) = taken;
        }
        done
    }
}

/// Fills the targets with what their queries make of the streams.
pub(crate) fn attend(
    rule: &StreamAttention,
    layer: &BoundLayer<'_>,
    streams: &[MatRef<'_>],
    mut targets: Vec<MatMut<'_>>,
) -> Result<(), EngineError> {
    let queries = &*layer.vector(rule.queries)?;
    let kernels = layer.kernels;
    kernels.attend_streams(queries, rule.epsilon as f32, streams, &mut targets);
    Ok(())
}
