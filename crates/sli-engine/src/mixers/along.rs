//! What mechanisms have in common that go along a record with a state: blocks of rows, convolutions.

use std::ops::Range;

use sli_kernels::MatMut;
use sli_spec::Convolution;

use super::feed_forward::BLOCK_ROWS;
use super::{At, kernel};
use crate::error::EngineError;
use crate::exec::{Layer, Residency, values};

/// Rows of a chunk that run together.
pub(super) struct Block {
    /// Rows of the chunk.
    pub rows: Range<usize>,
    /// The rows of the block with which records begin.
    pub starts: Vec<usize>,
}

/// The rows of a chunk in blocks: what is behind one is in front of the next.
pub(super) fn blocks(at: &At<'_>) -> Vec<Block> {
    let chunk = at.rows.chunk;
    let rows = chunk.rows.len();
    let branches = at.rows.batch.branches_of(chunk).into_iter();
    let starts: Vec<usize> = branches
        .map(|branch| branch.start - chunk.rows.start)
        .collect();
    // Weights that pass by are read again for every block, so then there is only one.
    let size = match at.layer.residency {
        Residency::Resident => BLOCK_ROWS,
        Residency::Tiled(_) => rows.max(1),
    };
    let block = |first: usize| {
        let rows = first..rows.min(first + size);
        let within = starts.partition_point(|&start| start < rows.start)
            ..starts.partition_point(|&start| start < rows.end);
        let starts = starts[within].iter().map(|start| start - first).collect();
        Block { rows, starts }
    };
    (0..rows).step_by(size).map(block).collect()
}

/// `x = activation(convolution(x))`; `window` are the inputs of the rows in front.
pub(super) fn convolve(
    layer: &Layer<'_>,
    convolution: &Convolution,
    starts: &[usize],
    window: &mut [f32],
    mut x: MatMut<'_>,
) -> Result<(), EngineError> {
    let Convolution {
        weight,
        bias,
        columns: _,
        kernel: _,
        activation,
    } = convolution;
    let (weight, bias) = (layer.vector(Some(*weight))?, layer.vector(*bias)?);
    let weight = values(weight.as_ref()).unwrap_or_default();
    let bias = values(bias.as_ref());
    let kernels = layer.kernels;
    kernels.causal_convolution(weight, bias, starts, window, x.reborrow());
    kernels.activation(kernel(*activation), x);
    Ok(())
}
