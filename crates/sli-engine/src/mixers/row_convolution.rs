//! A convolution over the last rows, by itself.

use sli_kernels::{Mat, MatRef};
use sli_spec::RowConvolution;

use super::along::{by_blocks, convolve, window};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for RowConvolution {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let (rows, columns) = window(&self.convolution);
        Buffers::default().fixed(Buffer::Key, rows * columns)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), x.cols());
        let window = window(&self.convolution);
        let shapes = [window, (0, 0)];
        by_blocks(at, shapes, (x, output), |at, stretches, x, mut output| {
            let (layer, scratch) = (at.layer, &mut *at.scratch);
            layer.kernels.copy(x, output.reborrow());
            let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
            let convolved = (&self.convolution, output);
            convolve(layer, convolved, stretches, (states, at.mixer), window)
        })
    }
}
