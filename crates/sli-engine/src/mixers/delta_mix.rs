//! The attention of RWKV 7.

use std::ops::Range;

use sli_kernels::{Activation, Decay, Forget, LinearAttention, Mat, MatMut, MatRef, Update};
use sli_spec::DeltaMix;

use super::along::{Stretch, along, by_blocks, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::low_rank::through;
use super::{At, Mix, time_mix};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Scratch};

/// The square of what a length counts as at least where something is divided by it.
const LEAST_SQUARE: f32 = 1e-24;

/// `exp(-1/2)`: the most that a state's logarithm loses in a row.
const MOST_FORGOTTEN: f32 = 0.606_530_7;

/// Parts of `scratch.heads`, a column for each feature of all heads.
const PARTS: usize = 7;

impl Mix for DeltaMix {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let (hidden, channels) = (self.hidden(), self.channels());
        state_buffers(self)
            .block(Buffer::Up, hidden)
            .block(Buffer::Inner, hidden.max(channels))
            .block(Buffer::Heads, PARTS * channels)
            .block(Buffer::Query, self.rank())
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        let mut first = at.rows.chunk.rows.start;
        by_blocks(self, at, (x, output), |mixer, at, stretches, x, output| {
            let rows = first..first + x.rows();
            first = rows.end;
            block(mixer, at, (stretches, rows), x, output)
        })
    }
}

/// `output = mixer(x)` of the rows of a block, `rows` of the batch; `scratch.key` is the row in front of it, `scratch.value`
/// the state, and then those behind it.
fn block(
    mixer: &DeltaMix,
    at: &mut At<'_>,
    (stretches, rows): (&[Stretch], Range<usize>),
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    project(mixer, at, (stretches, rows), x)?;
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, channels) = (layer.kernels, mixer.channels());
    let Scratch {
        heads,
        inner: other,
        states,
        value: state,
        ..
    } = scratch;
    let parts = heads.view_mut();
    let (receptance, rest) = parts.split_cols(channels);
    let (left, rest) = rest.split_cols(channels);
    let (mut key, rest) = rest.split_cols(channels);
    let (mut read, rest) = rest.split_cols(channels);
    let (mut strength, rest) = rest.split_cols(channels);
    let (mut gate, mut direction) = rest.split_cols(channels);

    // What is taken away, and from where.
    let removal = layer.vector(mixer.removal)?;
    kernels.copy(key.as_ref(), direction.reborrow());
    kernels.scale_columns(&removal, direction.reborrow());
    kernels.l2_norm_heads(mixer.heads, LEAST_SQUARE, direction.reborrow());
    // What enters.
    let entry = layer.vector(mixer.entry)?;
    other.reset(x.rows(), channels);
    kernels.copy(strength.as_ref(), other.view_mut());
    kernels.add_bias(&vec![-1.0; channels], other.view_mut());
    kernels.scale_columns(&entry, other.view_mut());
    kernels.multiply(key.as_ref(), other.view_mut());
    kernels.add(other.view(), 1.0, key.reborrow());
    kernels.multiply(direction.as_ref(), strength.reborrow());
    kernels.scale_in_place(-1.0, direction.reborrow());
    // What a row reads of itself.
    let bonus = layer.vector(mixer.bonus)?;
    kernels.copy(read.as_ref(), other.view_mut());
    let products = [receptance.as_ref(), key.as_ref()];
    kernels.weigh_heads(mixer.heads, products, &bonus, other.view_mut());

    let states = (states, recurrence(at.mixer));
    along(stretches, states, state.as_mut_slice(), |stretch, state| {
        let attention = LinearAttention {
            query: receptance.as_ref().rows_range(stretch.rows.clone()),
            key: key.as_ref().rows_range(stretch.rows.clone()),
            key_heads: mixer.heads,
            heads: mixer.heads,
            decay: Decay::Keys(left.as_ref().rows_range(stretch.rows.clone())),
            update: Update::LowRank {
                from: direction.as_ref().rows_range(stretch.rows.clone()),
                to: strength.as_ref().rows_range(stretch.rows.clone()),
            },
            scale: 1.0,
        };
        let values = read.reborrow().rows_range(stretch.rows.clone());
        kernels.linear_attention(attention, &stretch.starts, state, values);
    })?;
    if let Some(norm) = &mixer.norm {
        layer.norm_parts(norm, mixer.heads, read.reborrow())?;
    }
    kernels.add(other.view(), 1.0, read.reborrow());
    if mixer.gate.is_none() {
        return layer.linear(read.as_ref(), &mixer.output, output);
    }
    kernels.multiply(read.as_ref(), gate.reborrow());
    layer.linear(gate.as_ref(), &mixer.output, output)
}

/// `scratch.heads`: receptance, what is left of the state, key, value, strength and gate, a part each.
fn project(
    mixer: &DeltaMix,
    at: &mut At<'_>,
    (stretches, rows): (&[Stretch], Range<usize>),
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    time_mix::differences(at, stretches, x)?;
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, channels) = (layer.kernels, mixer.channels());
    let Scratch {
        up: difference,
        inner: mixture,
        query: latent,
        heads,
        ..
    } = scratch;
    heads.reset(x.rows(), PARTS * channels);
    for (index, &share) in mixer.shares.iter().enumerate() {
        time_mix::moved(layer, share, (x, difference), mixture)?;
        let x = mixture.view();
        let own = index * channels..(index + 1) * channels;
        let mut out = heads.view_mut().cols_range(own);
        let [receptance, key, value] = &mixer.projections;
        match index {
            0 => layer.linear(x, receptance, out)?,
            1 => {
                let inside = Some(Activation::Tanh);
                through(
                    layer,
                    mixer.decay.each_ref(),
                    inside,
                    x,
                    (latent, out.reborrow()),
                )?;
                let (rates, bias) = (vec![1.0; channels], vec![0.0; channels]);
                let form = Forget::Bounded(-MOST_FORGOTTEN);
                kernels.forget(form, &rates, &bias, out);
            }
            2 => layer.linear(x, key, out)?,
            3 => {
                layer.linear(x, value, out)?;
                let (_, parts) = heads.view_mut().split_cols(index * channels);
                let first = at.kept.handed_on(rows.clone())?;
                mix_first(layer, mixer, x, (latent, parts), first)?;
            }
            4 => {
                through(
                    layer,
                    mixer.strength.each_ref(),
                    None,
                    x,
                    (latent, out.reborrow()),
                )?;
                kernels.activation(Activation::Sigmoid, out);
            }
            _ => {
                let inside = Some(Activation::Sigmoid);
                if let Some(gate) = &mixer.gate {
                    through(layer, gate.each_ref(), inside, x, (latent, out))?;
                }
            }
        }
    }
    Ok(())
}

/// Hands the first layer's values on, or mixes them into those of a later one, the first of `parts`; two behind it are
/// free.
fn mix_first(
    layer: &BoundLayer<'_>,
    mixer: &DeltaMix,
    x: MatRef<'_>,
    (latent, parts): (&mut Mat, MatMut<'_>),
    first: MatMut<'_>,
) -> Result<(), EngineError> {
    let (kernels, channels) = (layer.kernels, mixer.channels());
    let (value, rest) = parts.split_cols(channels);
    let Some(pair) = &mixer.first_value else {
        kernels.copy(value.as_ref(), first);
        return Ok(());
    };
    let (mut share, rest) = rest.split_cols(channels);
    let mut difference = rest.cols_range(0..channels);
    through(layer, pair.each_ref(), None, x, (latent, share.reborrow()))?;
    kernels.activation(Activation::Sigmoid, share.reborrow());
    kernels.copy(first.as_ref(), difference.reborrow());
    kernels.add(value.as_ref(), -1.0, difference.reborrow());
    kernels.multiply(share.as_ref(), difference.reborrow());
    kernels.add(difference.as_ref(), 1.0, value);
    Ok(())
}
