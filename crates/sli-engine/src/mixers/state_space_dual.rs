//! The scan of Mamba-2.

use sli_kernels::{Activation, Mat, MatMut, MatRef, StateSpaceDual as Scan};
use sli_spec::{GatedNorm, StateSpaceDual};

use super::along::{Stretch, along, by_blocks, convolve, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for StateSpaceDual {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self).block(Buffer::Up, self.input.out_features)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` and `scratch.value` are the states of convolution
/// and scan in front of it and then behind it.
fn block(
    mixer: &StateSpaceDual,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    multiply(layer, mixer, scratch.up.view_mut());
    let (mut gate, rest) = scratch.up.view_mut().split_cols(mixer.features());
    let (mut convolved, mut steps) = rest.split_cols(mixer.convolution.columns);
    let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
    let of = (&mixer.convolution, convolved.reborrow());
    convolve(layer, of, stretches, (states, at.mixer), window)?;
    time_steps(layer, mixer, steps.reborrow())?;

    let (mut scanned, selected) = convolved.split_cols(mixer.features());
    let a_log = layer.vector(mixer.a_log)?;
    let skip = layer.vector(mixer.skip)?;
    let selects = mixer.groups * mixer.state;
    let states = (&mut scratch.states, recurrence(at.mixer));
    along(
        stretches,
        states,
        scratch.value.as_mut_slice(),
        |stretch, state| {
            let selected = selected.as_ref().rows_range(stretch.rows.clone());
            let scan = Scan {
                time_steps: steps.as_ref().rows_range(stretch.rows.clone()),
                b: selected.cols_range(0..selects),
                c: selected.cols_range(selects..2 * selects),
                groups: mixer.groups,
                a_log: &a_log,
                skip: &skip,
            };
            let x = scanned.reborrow().rows_range(stretch.rows.clone());
            layer
                .kernels
                .state_space_dual(scan, &stretch.starts, state, x);
        },
    )?;
    gated(layer, mixer, gate.reborrow(), scanned)?;
    layer.linear(gate.as_ref(), &mixer.output, output)
}

/// The factors on the parts of what is projected.
fn multiply(layer: &BoundLayer<'_>, mixer: &StateSpaceDual, projected: MatMut<'_>) {
    let Some(multipliers) = mixer.multipliers else {
        return;
    };
    let selects = mixer.groups * mixer.state;
    let widths = [
        mixer.features(),
        mixer.features(),
        selects,
        selects,
        mixer.heads,
    ];
    let mut rest = projected;
    for (factor, width) in multipliers.into_iter().zip(widths) {
        let (part, others) = rest.split_cols(width);
        layer.kernels.scale_in_place(factor as f32, part);
        rest = others;
    }
}

/// `steps`: the time steps, of what the projection gives of them.
fn time_steps(
    layer: &BoundLayer<'_>,
    mixer: &StateSpaceDual,
    mut steps: MatMut<'_>,
) -> Result<(), EngineError> {
    let kernels = layer.kernels;
    let bias = &*layer.vector(mixer.time_step_bias)?;
    kernels.add_bias(bias, steps.reborrow());
    kernels.activation(Activation::Softplus, steps.reborrow());
    if let Some([least, most]) = mixer.time_step_limits {
        kernels.clamp_in_place(least as f32, most as f32, steps);
    }
    Ok(())
}

/// `gate`: what was scanned, gated and normalised.
fn gated(
    layer: &BoundLayer<'_>,
    mixer: &StateSpaceDual,
    mut gate: MatMut<'_>,
    mut scanned: MatMut<'_>,
) -> Result<(), EngineError> {
    let activation = kernel(mixer.gate_activation);
    match &mixer.norm {
        Some(GatedNorm {
            norm,
            groups,
            before_gate: true,
        }) => {
            layer.norm_parts(norm, *groups, scanned.reborrow())?;
            layer.kernels.gated(activation, gate, scanned.as_ref());
        }
        Some(GatedNorm {
            norm,
            groups,
            before_gate: false,
        }) => {
            layer
                .kernels
                .gated(activation, gate.reborrow(), scanned.as_ref());
            layer.norm_parts(norm, *groups, gate)?;
        }
        None => layer.kernels.gated(activation, gate, scanned.as_ref()),
    }
    Ok(())
}
