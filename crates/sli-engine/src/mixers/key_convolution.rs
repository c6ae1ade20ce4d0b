//! Convolutions of projected keys and values along a record.

use sli_kernels::{Mat, MatRef};
use sli_spec::{Attention, KeyConvolution, RowWeights};

use super::along::{Stretch, along, convolve, stretches};
use super::buffers::{Buffer, Buffers};
use crate::error::EngineError;
use crate::exec::states::{MixerId, States};
use crate::exec::{BoundLayer, Rows, Scratch};

/// Where the states of the convolutions stand beside keys and values.
const PARTS: [usize; 2] = [1, 2];

/// The rows in front of a chunk, and the weights of its rows.
pub(super) fn buffers(convolutions: &[KeyConvolution; 2]) -> Buffers {
    let each = convolutions.iter().map(|convolution| {
        let (columns, kernel) = convolution.shape();
        Buffers::default()
            .fixed(Buffer::Up, (kernel - 1) * columns)
            .rows(Buffer::Gate, convolution.of_row())
    });
    each.fold(Buffers::default(), Buffers::or)
}

/// Convolves the keys and values of a chunk; `inputs`: what they are projections of.
pub(super) fn apply(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    (rows, mixer): (Rows<'_>, MixerId),
    inputs: [MatRef<'_>; 2],
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let Some(convolutions) = &attention.convolutions else {
        return Ok(());
    };
    let stretches = stretches(rows);
    let Scratch {
        key,
        value,
        up,
        gate,
        states,
        ..
    } = scratch;
    let convolved = convolutions.iter().zip([key, value]).zip(inputs).zip(PARTS);
    for (((convolution, x), input), part) in convolved {
        let (columns, kernel) = convolution.shape();
        up.reset(kernel - 1, columns);
        let states = (&mut *states, MixerId { part, ..mixer });
        match convolution {
            KeyConvolution::Fixed(fixed) => {
                let window = up.as_mut_slice();
                convolve(layer, (fixed, x.view_mut()), &stretches, states, window)?;
            }
            KeyConvolution::OfRows(own) => {
                gate.reset(x.rows(), own.own.out_features);
                layer.linear(input, &own.own, gate.view_mut())?;
                by_rows(layer, own, (x, gate), &stretches, states, up)?;
            }
        }
    }
    Ok(())
}

fn by_rows(
    layer: &BoundLayer<'_>,
    rule: &RowWeights,
    (x, own): (&mut Mat, &Mat),
    stretches: &[Stretch],
    states: (&mut States, MixerId),
    window: &mut Mat,
) -> Result<(), EngineError> {
    let weight = &*layer.vector(rule.weight)?;
    along(
        stretches,
        states,
        window.as_mut_slice(),
        |stretch, window| {
            let rows = stretch.rows.clone();
            let own = (own.rows_view(rows.clone()), rule.heads);
            let x = x.rows_view_mut(rows);
            let scale = rule.scale as f32;
            let kernels = layer.kernels;
            kernels.convolution_of_rows(weight, own, scale, &stretch.starts, window, x);
        },
    )
}
