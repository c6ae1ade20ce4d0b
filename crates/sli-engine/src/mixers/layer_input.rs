//! The layer's own input of every token enters the residual stream (Gemma 3n).

use sli_kernels::{Mat, MatRef};
use sli_spec::LayerInput;

use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::weights::Section;

impl Mix for LayerInput {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default().rows(Buffer::Gate, self.gate.out_features)
    }

    /// `output = projection(activation(gate x) * input)`.
    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (Some(inputs), Section::Layer(index)) = (&at.kept.layer_inputs, at.layer.part) else {
            return Err(EngineError::Internal("the layers have no inputs".into()));
        };
        let (layer, gate) = (at.layer, &mut at.scratch.gate);
        let width = self.gate.out_features;
        gate.reset(x.rows(), width);
        layer.linear(x, &self.gate, gate.view_mut())?;
        let activation = kernel(self.activation);
        layer.kernels.activation(activation, gate.view_mut());
        let inputs = inputs.rows_view(at.rows.chunk.rows.clone());
        let own = inputs.cols_range(index * width..(index + 1) * width);
        layer.kernels.multiply(own, gate.view_mut());
        output.reset(x.rows(), self.projection.out_features);
        layer.linear(gate.view(), &self.projection, output.view_mut())
    }
}
