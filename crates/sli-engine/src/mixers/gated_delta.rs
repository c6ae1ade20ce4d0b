//! The gated delta rule.

use sli_kernels::{Activation, Decay, Forget, LinearAttention, Mat, MatMut, MatRef, Update};
use sli_spec::{Factored, GatedDelta};

use super::along::{Stretch, along, by_blocks, convolve, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::low_rank::through;
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for GatedDelta {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let rank = self.forget.projection.rank().max(self.gate.rank());
        state_buffers(self)
            .block(Buffer::Up, self.input.out_features)
            .block(Buffer::Gate, self.values())
            .block(Buffer::Inner, self.forget.projection.up.out_features)
            .block(Buffer::Heads, self.heads)
            .block(Buffer::Query, rank)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` and `scratch.value` are the states of convolution
/// and recurrence in front of it and then behind it.
fn block(
    mixer: &GatedDelta,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let kernels = layer.kernels;
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
    let convolved = (&mixer.convolution, scratch.up.view_mut());
    convolve(layer, convolved, stretches, (states, at.mixer), window)?;
    factored(
        layer,
        x,
        &mixer.gate,
        (&mut scratch.query, &mut scratch.gate),
    )?;
    let left = (&mut scratch.query, &mut scratch.inner);
    forget(layer, mixer, x, left)?;
    scratch.heads.reset(x.rows(), mixer.heads);
    layer.linear(x, &mixer.strength, scratch.heads.view_mut())?;
    kernels.activation(Activation::Sigmoid, scratch.heads.view_mut());
    kernels.scale_in_place(mixer.strength_scale as f32, scratch.heads.view_mut());

    let (mut keys, mut read) = scratch.up.view_mut().split_cols(2 * mixer.keys());
    layer.norm_parts(&mixer.key_norm, 2 * mixer.key_heads, keys.reborrow())?;
    let (left, strength) = (scratch.inner.view(), scratch.heads.view());
    let states = (&mut scratch.states, recurrence(at.mixer));
    let state = scratch.value.as_mut_slice();
    along(stretches, states, state, |stretch, state| {
        let keys = keys.as_ref().rows_range(stretch.rows.clone());
        let left = left.rows_range(stretch.rows.clone());
        let attention = LinearAttention {
            query: keys.cols_range(0..mixer.keys()),
            key: keys.cols_range(mixer.keys()..2 * mixer.keys()),
            key_heads: mixer.key_heads,
            heads: mixer.heads,
            decay: if mixer.forgets_by_key() {
                Decay::Keys(left)
            } else {
                Decay::Heads(left)
            },
            update: Update::Delta(strength.rows_range(stretch.rows.clone())),
            scale: (mixer.key_dim as f32).powf(-0.5),
        };
        let values = read.reborrow().rows_range(stretch.rows.clone());
        kernels.linear_attention(attention, &stretch.starts, state, values);
    })?;

    layer.norm_parts(&mixer.norm, mixer.heads, read.reborrow())?;
    let activation = kernel(mixer.gate_activation);
    kernels.gated(activation, scratch.gate.view_mut(), read.as_ref());
    layer.linear(scratch.gate.view(), &mixer.output, output)
}

/// `out = up(down(x))`, with `between` in between.
fn factored(
    layer: &BoundLayer<'_>,
    x: MatRef<'_>,
    map: &Factored,
    (between, out): (&mut Mat, &mut Mat),
) -> Result<(), EngineError> {
    out.reset(x.rows(), map.up.out_features);
    let Some(down) = &map.down else {
        return layer.linear(x, &map.up, out.view_mut());
    };
    through(layer, [down, &map.up], None, x, (between, out.view_mut()))
}

/// What is left of the state.
fn forget(
    layer: &BoundLayer<'_>,
    mixer: &GatedDelta,
    x: MatRef<'_>,
    (between, left): (&mut Mat, &mut Mat),
) -> Result<(), EngineError> {
    let gate = &mixer.forget;
    factored(layer, x, &gate.projection, (between, left))?;
    let bias = layer.vector(gate.bias)?;
    let a_log = &*layer.vector(gate.a_log)?;
    let each = left.cols() / a_log.len().max(1);
    let rates = a_log.iter().map(|a_log| a_log.exp());
    let rates: Vec<f32> = rates
        .flat_map(|rate| std::iter::repeat_n(rate, each))
        .collect();
    let form = match gate.bound {
        Some(bound) => Forget::Bounded(bound as f32),
        None => Forget::Softplus,
    };
    layer.kernels.forget(form, &rates, &bias, left.view_mut());
    Ok(())
}
