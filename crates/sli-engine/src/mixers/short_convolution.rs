//! The short convolution of LFM2.

use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::ShortConvolution;

use super::along::{Stretch, by_blocks, convolve, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for ShortConvolution {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self).block(Buffer::Up, self.input.out_features)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` is the window in front of it and then behind it.
fn block(
    mixer: &ShortConvolution,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    let columns = mixer.convolution.columns;
    let (entering, rest) = scratch.up.view_mut().split_cols(columns);
    let (leaving, mut values) = rest.split_cols(columns);
    layer.kernels.multiply(entering.as_ref(), values.reborrow());
    let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
    let convolved = (&mixer.convolution, values.reborrow());
    convolve(layer, convolved, stretches, (states, at.mixer), window)?;
    layer.kernels.multiply(leaving.as_ref(), values.reborrow());
    layer.linear(values.as_ref(), &mixer.output, output)
}
