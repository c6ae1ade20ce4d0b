//! The matrix memory of xLSTM. What its outputs are divided by is read as a further column of every head's values, which
//! are one there.

use sli_kernels::{Activation, Decay, HeadParts, LinearAttention, Mat, MatMut, MatRef, Update};
use sli_spec::MatrixMemory;

use super::along::{Stretch, along, by_blocks, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for MatrixMemory {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self)
            .block(Buffer::Up, self.input.out_features)
            .block(Buffer::Gate, 3 * self.heads)
            .block(Buffer::Heads, self.counted_values())
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` has the exponents in front of it, `scratch.value` the state,
/// and then those behind it.
fn block(
    mixer: &MatrixMemory,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, heads) = (layer.kernels, mixer.heads);
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    let (query, rest) = scratch.up.view_mut().split_cols(mixer.keys());
    let (mut key, rest) = rest.split_cols(mixer.keys());
    let (mut value, mut gate) = rest.split_cols(mixer.values());

    scratch.gate.reset(x.rows(), 3 * heads);
    let (mut gates, mut floor) = scratch.gate.view_mut().split_cols(2 * heads);
    layer.linear(x, &mixer.gates, gates.reborrow())?;
    if let Some(cap) = mixer.gate_softcap {
        kernels.softcap_in_place(cap as f32, gates.reborrow());
    }
    let (mut entered, mut left) = gates.split_cols(heads);
    let states = (&mut scratch.states, at.mixer);
    let exponents = scratch.key.as_mut_slice();
    along(stretches, states, exponents, |stretch, state| {
        let gates = [&mut entered, &mut left, &mut floor];
        let gates = gates.map(|gate| gate.reborrow().rows_range(stretch.rows.clone()));
        kernels.exponential_gates(&stretch.starts, state, gates);
    })?;
    kernels.scale_heads(entered.as_ref(), key.reborrow());

    scratch.heads.reset(x.rows(), mixer.counted_values());
    scratch.heads.as_mut_slice().fill(1.0);
    let of = |stride: usize| HeadParts { first: 0, stride };
    let to = (scratch.heads.view_mut(), of(mixer.value_dim + 1));
    let from = (value.as_ref(), of(mixer.value_dim));
    kernels.copy_heads(heads, mixer.value_dim, from, to);
    let states = (&mut scratch.states, recurrence(at.mixer));
    let state = scratch.value.as_mut_slice();
    let read = &mut scratch.heads;
    along(stretches, states, state, |stretch, state| {
        let rows = stretch.rows.clone();
        let attention = LinearAttention {
            query: query.as_ref().rows_range(rows.clone()),
            key: key.as_ref().rows_range(rows.clone()),
            key_heads: heads,
            heads,
            decay: Decay::Heads(left.as_ref().rows_range(rows.clone())),
            update: Update::Add,
            scale: (mixer.key_dim as f32).powf(-0.5),
        };
        let values = read.rows_view_mut(rows);
        kernels.linear_attention(attention, &stretch.starts, state, values);
    })?;
    let epsilon = mixer.epsilon as f32;
    kernels.divide_by_weights(epsilon, read.view(), floor.as_ref(), value.reborrow());
    layer.norm_parts(&mixer.norm, heads, value.reborrow())?;
    kernels.gated(Activation::Sigmoid, gate.reborrow(), value.as_ref());
    layer.linear(gate.as_ref(), &mixer.output, output)
}
