//! Lightning attention.

use sli_kernels::{Activation, Decay, LinearAttention, Mat, MatMut, MatRef, Update};
use sli_spec::LightningAttention;

use super::along::{Stretch, along, by_blocks, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;

impl Mix for LightningAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self)
            .block(Buffer::Up, self.input.out_features)
            .block(Buffer::Gate, self.features())
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` is the state in front of it and then behind it.
fn block(
    mixer: &LightningAttention,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, features) = (layer.kernels, mixer.features());
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    kernels.activation(kernel(mixer.activation), scratch.up.view_mut());
    scratch.gate.reset(x.rows(), features);
    layer.linear(x, &mixer.gate, scratch.gate.view_mut())?;
    let decays = mixer.rates.iter().map(|rate| (-rate).exp() as f32);
    let decays: Vec<f32> = decays.collect();
    let (keys, mut values) = scratch.up.view_mut().split_cols(2 * features);
    let states = (&mut scratch.states, at.mixer);
    let state = scratch.key.as_mut_slice();
    along(stretches, states, state, |stretch, state| {
        let keys = keys.as_ref().rows_range(stretch.rows.clone());
        let attention = LinearAttention {
            query: keys.cols_range(0..features),
            key: keys.cols_range(features..2 * features),
            key_heads: mixer.heads,
            heads: mixer.heads,
            decay: Decay::FixedHeads(&decays),
            update: Update::Add,
            scale: 1.0,
        };
        let values = values.reborrow().rows_range(stretch.rows.clone());
        kernels.linear_attention(attention, &stretch.starts, state, values);
    })?;
    layer.norm_in_place(&mixer.norm, values.reborrow())?;
    kernels.gated(
        Activation::Sigmoid,
        scratch.gate.view_mut(),
        values.as_ref(),
    );
    layer.linear(scratch.gate.view(), &mixer.output, output)
}
