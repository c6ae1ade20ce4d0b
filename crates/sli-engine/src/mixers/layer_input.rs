//! The layer's own input of every token enters the residual stream (Gemma 3n).

use sli_kernels::{Mat, MatRef};
use sli_spec::LayerInput;

use super::kernel;
use crate::error::EngineError;
use crate::exec::{Layer, Rows, Scratch};
use crate::weights::Part;

/// `output = projection(activation(gate x) * input)`; `inputs` are those of all layers.
pub(crate) fn run(
    layer: &Layer<'_>,
    input: &LayerInput,
    x: MatRef<'_>,
    rows: Rows<'_>,
    inputs: Option<&Mat>,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (Some(inputs), Part::Layer(index)) = (inputs, layer.part) else {
        return Err(EngineError::Internal("the layers have no inputs".into()));
    };
    let width = input.gate.out_features;
    scratch.gate.reset(x.rows(), width);
    layer.linear(x, &input.gate, scratch.gate.view_mut())?;
    layer
        .kernels
        .activation(kernel(input.activation), scratch.gate.view_mut());
    let columns = index * width..(index + 1) * width;
    for (row, token) in rows.chunk.rows.clone().enumerate() {
        let factors = &inputs.row(token)[columns.clone()];
        let gates = scratch.gate.row_mut(row);
        gates
            .iter_mut()
            .zip(factors)
            .for_each(|(gate, factor)| *gate *= factor);
    }
    output.reset(x.rows(), input.projection.out_features);
    layer.linear(scratch.gate.view(), &input.projection, output.view_mut())
}
