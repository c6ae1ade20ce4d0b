//! The selective scan of Mamba.

use sli_kernels::{Activation, Mat, MatMut, MatRef, SelectiveScan as Scan};
use sli_spec::{SelectionNorms, SelectiveScan};

use super::along::{Block, blocks, convolve};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::{Layer, Scratch, values};

impl Mix for SelectiveScan {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
            .block(Buffer::Up, self.input.out_features)
            .block(Buffer::Inner, self.selection.out_features)
            .block(Buffer::Gate, self.channels)
            .fixed(Buffer::Key, (self.convolution.kernel - 1) * self.channels)
            .fixed(Buffer::Value, self.state * self.channels)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let blocks = blocks(at);
        let scratch = &mut *at.scratch;
        output.reset(x.rows(), self.output.out_features);
        scratch
            .key
            .reset(self.convolution.kernel - 1, self.channels);
        scratch.value.reset(self.state, self.channels);
        for Block { rows, starts } in blocks {
            let x = x.rows_range(rows.clone());
            block(
                at.layer,
                self,
                &starts,
                x,
                output.rows_view_mut(rows),
                scratch,
            )?;
        }
        Ok(())
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` and `scratch.value` are the states of convolution
/// and scan in front of it and then behind it.
fn block(
    layer: &Layer<'_>,
    mixer: &SelectiveScan,
    starts: &[usize],
    x: MatRef<'_>,
    output: MatMut<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let kernels = layer.kernels;
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    let (mut scanned, mut gate) = scratch.up.view_mut().split_cols(mixer.channels);
    let window = scratch.key.as_mut_slice();
    convolve(
        layer,
        &mixer.convolution,
        starts,
        window,
        scanned.reborrow(),
    )?;

    let (selected, steps) = (&mut scratch.inner, &mut scratch.gate);
    select(layer, mixer, scanned.as_ref(), selected, steps)?;
    let (rank, selects) = (mixer.time_step_rank, mixer.groups * mixer.state);
    let (a_log, skip) = (
        layer.vector(Some(mixer.a_log))?,
        layer.vector(Some(mixer.skip))?,
    );
    let scan = Scan {
        time_steps: steps.view(),
        b: selected.view().cols_range(rank..rank + selects),
        c: selected
            .view()
            .cols_range(rank + selects..rank + 2 * selects),
        groups: mixer.groups,
        a_log: values(a_log.as_ref()).unwrap_or_default(),
        skip: values(skip.as_ref()).unwrap_or_default(),
    };
    kernels.selective_scan(
        scan,
        starts,
        scratch.value.as_mut_slice(),
        scanned.reborrow(),
    );

    kernels.gated(
        kernel(mixer.gate_activation),
        gate.reborrow(),
        scanned.as_ref(),
    );
    layer.linear(gate.as_ref(), &mixer.output, output)
}

/// `selected`: what the time steps come from, `B` and `C`; `steps`: the time steps.
fn select(
    layer: &Layer<'_>,
    mixer: &SelectiveScan,
    x: MatRef<'_>,
    selected: &mut Mat,
    steps: &mut Mat,
) -> Result<(), EngineError> {
    selected.reset(x.rows(), mixer.selection.out_features);
    layer.linear(x, &mixer.selection, selected.view_mut())?;
    let (rank, selects) = (mixer.time_step_rank, mixer.groups * mixer.state);
    if let Some(SelectionNorms { time_step, b, c }) = &mixer.norms {
        let (of_steps, rest) = selected.view_mut().split_cols(rank);
        let (of_b, of_c) = rest.split_cols(selects);
        for (norm, part) in [(time_step, of_steps), (b, of_b), (c, of_c)] {
            layer.norm_in_place(norm, part)?;
        }
    }
    steps.reset(x.rows(), mixer.channels);
    let latent = selected.view().cols_range(0..rank);
    layer.linear(latent, &mixer.time_step, steps.view_mut())?;
    layer
        .kernels
        .activation(Activation::Softplus, steps.view_mut());
    Ok(())
}
