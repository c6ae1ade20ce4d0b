//! The weighted mean of RWKV 4, and the network of all generations.

use sli_kernels::{Activation, Kernels, Mat, MatMut, MatRef};
use sli_spec::{ChannelMix, Linear, TimeMix, WeightIndex};

use super::along::{Stretch, along, by_blocks, recurrence, slide, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Scratch};

impl Mix for TimeMix {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let (hidden, channels) = (self.hidden(), self.channels());
        state_buffers(self)
            .block(Buffer::Up, 3 * hidden)
            .block(Buffer::Inner, channels)
            .block(Buffer::Heads, channels)
            .block(Buffer::Gate, channels)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), mean)
    }
}

impl Mix for ChannelMix {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let gate = self.receptance.as_ref();
        let gate = gate.map_or(0, |receptance| receptance.out_features);
        state_buffers(self)
            .block(Buffer::Up, self.shifted())
            .block(Buffer::Inner, self.key.out_features)
            .block(Buffer::Gate, gate)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.value.out_features);
        by_blocks(self, at, (x, output), network)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` is the row in front of it, `scratch.value` what the means
/// are made of, and then those behind it.
fn mean(
    mixer: &TimeMix,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    mixed(at, &mixer.mix, false, stretches, x)?;
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let kernels = layer.kernels;
    let targets = [&mut scratch.inner, &mut scratch.heads, &mut scratch.gate];
    for (index, (linear, out)) in mixer.projections.iter().zip(targets).enumerate() {
        project(layer, linear, (&scratch.up, index), out)?;
    }
    let decay = layer.vector(mixer.decay)?;
    let decay: Vec<f32> = decay.iter().map(|decay| -decay.exp()).collect();
    let first = &*layer.vector(mixer.first)?;
    let (keys, means) = (&scratch.inner, &mut scratch.heads);
    let states = (&mut scratch.states, recurrence(at.mixer));
    let state = scratch.value.as_mut_slice();
    along(stretches, states, state, |stretch, state| {
        let key = keys.rows_view(stretch.rows.clone());
        let values = means.rows_view_mut(stretch.rows.clone());
        kernels.weighted_key_values([&decay, first], key, &stretch.starts, state, values);
    })?;
    kernels.gated(
        Activation::Sigmoid,
        scratch.gate.view_mut(),
        scratch.heads.view(),
    );
    layer.linear(scratch.gate.view(), &mixer.output, output)
}

fn network(
    mixer: &ChannelMix,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    mut output: MatMut<'_>,
) -> Result<(), EngineError> {
    mixed(at, &mixer.mix, mixer.of_before, stretches, x)?;
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let kernels = layer.kernels;
    project(layer, &mixer.key, (&scratch.up, 0), &mut scratch.inner)?;
    kernels.activation(Activation::Relu2, scratch.inner.view_mut());
    layer.linear(scratch.inner.view(), &mixer.value, output.reborrow())?;
    if let Some(receptance) = &mixer.receptance {
        project(layer, receptance, (&scratch.up, 1), &mut scratch.gate)?;
        kernels.activation(Activation::Sigmoid, scratch.gate.view_mut());
        kernels.multiply(scratch.gate.view(), output);
    }
    Ok(())
}

/// `scratch.up`: for each of `mix`, `mix * x + (1 - mix) * (the row before)`, or the other way round, side by side.
pub(super) fn mixed(
    at: &mut At<'_>,
    mix: &[WeightIndex],
    of_before: bool,
    stretches: &[Stretch],
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let kernels: &Kernels = layer.kernels;
    let hidden = x.cols();
    scratch.up.reset(x.rows(), mix.len() * hidden);
    let mut taps = Vec::with_capacity(2 * mix.len() * hidden);
    for (index, &mix) in mix.iter().enumerate() {
        let own = index * hidden..(index + 1) * hidden;
        kernels.copy(x, scratch.up.view_mut().cols_range(own));
        let mix = &*layer.vector(mix)?;
        taps.extend(mix.iter().flat_map(|&mix| {
            if of_before {
                [mix, 1.0 - mix]
            } else {
                [1.0 - mix, mix]
            }
        }));
    }
    let Scratch {
        up, key, states, ..
    } = scratch;
    let before = ((states, at.mixer), key.as_mut_slice());
    slide(kernels, (&taps, None), up.view_mut(), stretches, before)
}

/// `scratch.up`: the row before less the row.
pub(super) fn differences(
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    let Scratch {
        up, key, states, ..
    } = &mut *at.scratch;
    let kernels = at.layer.kernels;
    up.reset(x.rows(), x.cols());
    kernels.copy(x, up.view_mut());
    let taps = [1.0, -1.0].repeat(x.cols());
    let before = ((states, at.mixer), key.as_mut_slice());
    slide(kernels, (&taps, None), up.view_mut(), stretches, before)
}

/// `mixture = x + share * difference`.
pub(super) fn moved(
    layer: &BoundLayer<'_>,
    share: WeightIndex,
    (x, difference): (MatRef<'_>, &Mat),
    mixture: &mut Mat,
) -> Result<(), EngineError> {
    let share = layer.vector(share)?;
    mixture.reset(x.rows(), x.cols());
    layer.kernels.copy(difference.view(), mixture.view_mut());
    layer.kernels.scale_columns(&share, mixture.view_mut());
    layer.kernels.add(x, 1.0, mixture.view_mut());
    Ok(())
}

/// `out = linear(x)` of one of the mixtures.
fn project(
    layer: &BoundLayer<'_>,
    linear: &Linear,
    (mixtures, index): (&Mat, usize),
    out: &mut Mat,
) -> Result<(), EngineError> {
    let own = index * linear.in_features..(index + 1) * linear.in_features;
    out.reset(mixtures.rows(), linear.out_features);
    layer.linear(mixtures.view().cols_range(own), linear, out.view_mut())
}
