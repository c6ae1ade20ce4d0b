//! The gated linear recurrent unit of Griffin.

use sli_kernels::{GatedLru as Unit, Mat, MatMut, MatRef};
use sli_spec::{GatedLru, Linear};

use super::along::{Stretch, along, by_blocks, convolve, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel, softplus};
use crate::error::EngineError;
use crate::exec::BoundLayer;

/// What the reference multiplies the logarithms of decays with.
const SHARPNESS: f32 = 8.0;

impl Mix for GatedLru {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let columns = self.convolution.columns;
        state_buffers(self)
            .block(Buffer::Up, columns)
            .block(Buffer::Gate, columns)
            .block(Buffer::Inner, columns)
            .block(Buffer::Heads, columns)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` and `scratch.value` are the states of convolution
/// and recurrence in front of it and then behind it.
fn block(
    mixer: &GatedLru,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, channels) = (layer.kernels, mixer.channels());
    scratch.gate.reset(x.rows(), channels);
    layer.linear(x, &mixer.gate, scratch.gate.view_mut())?;
    scratch.up.reset(x.rows(), channels);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
    let convolved = (&mixer.convolution, scratch.up.view_mut());
    convolve(layer, convolved, stretches, (states, at.mixer), window)?;
    let (input_gate, state_gate) = (&mut scratch.inner, &mut scratch.heads);
    by_heads(layer, &mixer.input_gates, scratch.up.view(), input_gate)?;
    by_heads(layer, &mixer.state_gates, scratch.up.view(), state_gate)?;
    let rates = layer.vector(mixer.rate)?;
    let rates = rates.iter();
    let rates: Vec<f32> = rates.map(|&rate| SHARPNESS * softplus(rate)).collect();
    let states = (&mut scratch.states, recurrence(at.mixer));
    let (state, up) = (scratch.value.as_mut_slice(), &mut scratch.up);
    along(stretches, states, state, |stretch, state| {
        let unit = Unit {
            input_gate: input_gate.rows_view(stretch.rows.clone()),
            state_gate: state_gate.rows_view(stretch.rows.clone()),
            rates: &rates,
        };
        let scanned = up.rows_view_mut(stretch.rows.clone());
        kernels.gated_lru(unit, &stretch.starts, state, scanned);
    })?;
    let activation = kernel(mixer.activation);
    kernels.gated(activation, scratch.gate.view_mut(), scratch.up.view());
    layer.linear(scratch.gate.view(), &mixer.output, output)
}

/// A square for each head.
fn by_heads(
    layer: &BoundLayer<'_>,
    squares: &[Linear],
    x: MatRef<'_>,
    out: &mut Mat,
) -> Result<(), EngineError> {
    out.reset(x.rows(), x.cols());
    let mut first = 0;
    for square in squares {
        let own = first..first + square.in_features;
        let out = out.view_mut().cols_range(own.clone());
        layer.linear(x.cols_range(own.clone()), square, out)?;
        first = own.end;
    }
    Ok(())
}
