//! A convolution over the last rows, by itself.

use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::RowConvolution;

use super::along::{Stretch, by_blocks, convolve, state_buffers};
use super::buffers::Buffers;
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for RowConvolution {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), x.cols());
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` is the window in front of it and then behind it.
fn block(
    mixer: &RowConvolution,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    mut output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    layer.kernels.copy(x, output.reborrow());
    let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
    let convolved = (&mixer.convolution, output);
    convolve(layer, convolved, stretches, (states, at.mixer), window)
}
