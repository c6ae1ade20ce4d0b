//! The selective scan of Mamba.

use sli_kernels::{Activation, Mat, MatMut, MatRef, SelectiveScan as Scan};
use sli_spec::{Selection, SelectionNorms, SelectiveScan};

use super::along::{Stretch, along, by_blocks, convolve, recurrence, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for SelectiveScan {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self)
            .block(Buffer::Up, self.input.out_features)
            .block(Buffer::Inner, self.selected())
            .block(Buffer::Gate, self.channels)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` and `scratch.value` are the states of convolution
/// and scan in front of it and then behind it.
fn block(
    mixer: &SelectiveScan,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    let (mut scanned, mut gate) = scratch.up.view_mut().split_cols(mixer.channels);
    let (window, states) = (scratch.key.as_mut_slice(), &mut scratch.states);
    let convolved = (&mixer.convolution, scanned.reborrow());
    convolve(layer, convolved, stretches, (states, at.mixer), window)?;

    let (selected, steps) = (&mut scratch.inner, &mut scratch.gate);
    select(layer, mixer, scanned.as_ref(), selected, steps)?;
    let a_log = layer.vector(mixer.a_log)?;
    let skip = layer.vector(mixer.skip)?;
    let selects = mixer.groups * mixer.state;
    let rank = mixer.groups * mixer.time_step_rank;
    let states = (&mut scratch.states, recurrence(at.mixer));
    along(
        stretches,
        states,
        scratch.value.as_mut_slice(),
        |stretch, state| {
            let selected = selected.rows_view(stretch.rows.clone());
            let scan = Scan {
                time_steps: steps.rows_view(stretch.rows.clone()),
                b: selected.cols_range(rank..rank + selects),
                c: selected.cols_range(rank + selects..rank + 2 * selects),
                groups: mixer.groups,
                a_log: &a_log,
                skip: &skip,
            };
            let x = scanned.reborrow().rows_range(stretch.rows.clone());
            layer
                .kernels
                .selective_scan(scan, &stretch.starts, state, x);
        },
    )?;

    let activation = kernel(mixer.gate_activation);
    layer
        .kernels
        .gated(activation, gate.reborrow(), scanned.as_ref());
    layer.linear(gate.as_ref(), &mixer.output, output)
}

/// `selected`: what the time steps come from, `B` and `C`; `steps`: the time steps.
fn select(
    layer: &BoundLayer<'_>,
    mixer: &SelectiveScan,
    x: MatRef<'_>,
    selected: &mut Mat,
    steps: &mut Mat,
) -> Result<(), EngineError> {
    let (groups, each) = (mixer.groups, mixer.channels / mixer.groups);
    let (rank, selects) = (groups * mixer.time_step_rank, groups * mixer.state);
    selected.reset(x.rows(), mixer.selected());
    match &mixer.selection {
        Selection::Whole(linear) => layer.linear(x, linear, selected.view_mut())?,
        Selection::OfGroups(of_groups) => {
            for (group, linears) in of_groups.iter().enumerate() {
                let x = x.cols_range(group * each..(group + 1) * each);
                for (linear, first) in linears.iter().zip([0, rank, rank + selects]) {
                    let first = first + group * linear.out_features;
                    let own = first..first + linear.out_features;
                    layer.linear(x, linear, selected.view_mut().cols_range(own))?;
                }
            }
        }
    }
    if let Some(SelectionNorms { time_step, b, c }) = &mixer.norms {
        let (of_steps, rest) = selected.view_mut().split_cols(rank);
        let (of_b, of_c) = rest.split_cols(selects);
        for (norm, part) in [(time_step, of_steps), (b, of_b), (c, of_c)] {
            layer.norm_in_place(norm, part)?;
        }
    }
    steps.reset(x.rows(), mixer.channels);
    for (group, linear) in mixer.time_steps.iter().enumerate() {
        let first = group * mixer.time_step_rank;
        let latent = selected
            .view()
            .cols_range(first..first + mixer.time_step_rank);
        let own = group * each..(group + 1) * each;
        layer.linear(latent, linear, steps.view_mut().cols_range(own))?;
    }
    layer
        .kernels
        .activation(Activation::Softplus, steps.view_mut());
    Ok(())
}
