//! The attention of RWKV 5 and 6.

use sli_kernels::{
    Activation, Decay, Forget, Kernels, LinearAttention, Mat, MatMut, MatRef, Update,
};
use sli_spec::{MatrixMix, Mixtures, RowMixtures};

use super::along::{Stretch, along, by_blocks, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::low_rank::through;
use super::{At, Mix, kernel, time_mix};
use crate::error::EngineError;
use crate::exec::Scratch;

impl Mix for MatrixMix {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let (hidden, channels) = (self.hidden(), self.channels());
        let buffers = state_buffers(self)
            .block(Buffer::Up, self.shifted())
            .block(Buffer::Heads, 5 * channels);
        match &self.mixtures {
            Mixtures::Fixed(_) => buffers,
            Mixtures::OfRows(mixtures) => buffers
                .block(Buffer::Gate, mixtures.down.out_features)
                .block(Buffer::Inner, hidden)
                .block(Buffer::Query, mixtures.decay[0].out_features),
        }
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` is the row in front of it, `scratch.value` the state, and
/// then those behind it.
fn block(
    mixer: &MatrixMix,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let channels = mixer.channels();
    at.scratch.heads.reset(x.rows(), 5 * channels);
    match &mixer.mixtures {
        Mixtures::Fixed(mix) => {
            time_mix::mixed(at, mix, false, stretches, x)?;
            for (index, projection) in mixer.projections.iter().enumerate() {
                let Scratch { up, heads, .. } = &mut *at.scratch;
                let own = index * x.cols()..(index + 1) * x.cols();
                let out = index * channels..(index + 1) * channels;
                let (mixture, out) = (up.view().cols_range(own), heads.view_mut().cols_range(out));
                at.layer.linear(mixture, projection, out)?;
            }
        }
        Mixtures::OfRows(mixtures) => by_rows(mixer, mixtures, at, stretches, x)?,
    }
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let kernels = layer.kernels;
    let decay = &*layer.vector(mixer.decay)?;
    let fixed: Vec<f32> = decay.iter().map(|decay| (-decay.exp()).exp()).collect();
    let bonus = mixer.bonus.map(|bonus| layer.vector(bonus)).transpose()?;
    let bonus = bonus.as_deref();
    let (mut keys, rest) = scratch.heads.view_mut().split_cols(2 * channels);
    let (mut read, rest) = rest.split_cols(channels);
    let (mut gate, mut left) = rest.split_cols(channels);
    if matches!(mixer.mixtures, Mixtures::OfRows(_)) {
        let rates = vec![1.0; channels];
        kernels.forget(Forget::Exponential, &rates, decay, left.reborrow());
    }
    if bonus.is_none() {
        let room = &mut scratch.inner;
        make_room(kernels, channels, left.as_ref(), keys.reborrow(), room);
    }
    let scale = match bonus {
        Some(_) => 1.0,
        None => (mixer.head_dim as f32).powf(-0.5),
    };
    let states = (&mut scratch.states, recurrence(at.mixer));
    let state = scratch.value.as_mut_slice();
    along(stretches, states, state, |stretch, state| {
        let keys = keys.as_ref().rows_range(stretch.rows.clone());
        let attention = LinearAttention {
            query: keys.cols_range(0..channels),
            key: keys.cols_range(channels..2 * channels),
            key_heads: mixer.heads,
            heads: mixer.heads,
            decay: match mixer.mixtures {
                Mixtures::Fixed(_) => Decay::FixedKeys(&fixed),
                Mixtures::OfRows(_) => Decay::Keys(left.as_ref().rows_range(stretch.rows.clone())),
            },
            update: bonus.map_or(Update::Add, Update::Bonus),
            scale,
        };
        let values = read.reborrow().rows_range(stretch.rows.clone());
        kernels.linear_attention(attention, &stretch.starts, state, values);
    })?;
    if let Some(norm) = &mixer.norm {
        layer.norm_parts(norm, mixer.heads, read.reborrow())?;
    }
    kernels.gated(kernel(mixer.gate), gate.reborrow(), read.as_ref());
    layer.linear(gate.as_ref(), &mixer.output, output)
}

/// Keys, the second part of `keys`, times what the decay takes away.
fn make_room(
    kernels: &Kernels,
    channels: usize,
    left: MatRef<'_>,
    keys: MatMut<'_>,
    room: &mut Mat,
) {
    let mut keys = keys.cols_range(channels..2 * channels);
    room.reset(left.rows(), channels);
    kernels.copy(keys.as_ref(), room.view_mut());
    kernels.multiply(left, room.view_mut());
    kernels.add(room.view(), -1.0, keys.reborrow());
}

/// `scratch.heads`: receptance, key, value, gate and what is added to the decay, of mixtures by rows.
fn by_rows(
    mixer: &MatrixMix,
    mixtures: &RowMixtures,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    time_mix::differences(at, stretches, x)?;
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, channels) = (layer.kernels, mixer.channels());
    let Scratch {
        up: difference,
        gate: shares,
        inner: mixture,
        query: latent,
        heads,
        ..
    } = scratch;
    time_mix::moved(layer, mixtures.mix, (x, difference), mixture)?;
    shares.reset(x.rows(), mixtures.down.out_features);
    layer.linear(mixture.view(), &mixtures.down, shares.view_mut())?;
    kernels.activation(Activation::Tanh, shares.view_mut());
    let mut first = 0;
    for (index, (up, share)) in mixtures.up.iter().zip(mixtures.shares).enumerate() {
        let own = first..first + up.in_features;
        first = own.end;
        mixture.reset(x.rows(), x.cols());
        layer.linear(shares.view().cols_range(own), up, mixture.view_mut())?;
        let share = layer.vector(share)?;
        kernels.add_bias(&share, mixture.view_mut());
        kernels.multiply(difference.view(), mixture.view_mut());
        kernels.add(x, 1.0, mixture.view_mut());
        let out = heads
            .view_mut()
            .cols_range(index * channels..(index + 1) * channels);
        match mixer.projections.get(index) {
            Some(projection) => layer.linear(mixture.view(), projection, out)?,
            None => {
                let (pair, tanh) = (mixtures.decay.each_ref(), Some(Activation::Tanh));
                through(layer, pair, tanh, mixture.view(), (latent, out))?;
            }
        }
    }
    Ok(())
}
