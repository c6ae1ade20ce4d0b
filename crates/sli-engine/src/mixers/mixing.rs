//! Queries, keys and values that take something of earlier rows, in front of an attention.

use sli_spec::{Attention, CompressedMixing, Convolution, Mixing};

use super::At;
use super::along::{Stretch, slide, stretches};
use super::buffers::{Buffer, Buffers};
use crate::error::EngineError;
use crate::exec::Scratch;
use crate::exec::states::MixerId;

/// The square of what a length counts as at least where something is divided by it.
const LEAST_SQUARE: f32 = 1.4e-14;

/// The buffers of an attention and those of its mixing.
pub(super) fn buffers(mixing: &Mixing, attention: &Attention, buffers: Buffers) -> Buffers {
    match mixing {
        Mixing::Convolution(convolution) => {
            let widest = attention.projected().into_iter().max().unwrap_or(0);
            buffers.fixed(Buffer::Gate, (convolution.kernel - 1) * widest)
        }
        Mixing::Compressed(compressed) => {
            let [_, _, values] = attention.projected();
            let window = (compressed.rows() - 1) * compressed.spread();
            buffers
                .rows(Buffer::Up, compressed.spread())
                .rows(Buffer::Inner, compressed.columns.columns)
                .fixed(Buffer::Gate, window.max(values))
        }
    }
}

/// Mixes what `scratch` has of queries, keys and values.
pub(super) fn mix(
    attention: &Attention,
    mixing: &Mixing,
    at: &mut At<'_>,
) -> Result<(), EngineError> {
    let stretches = stretches(at.rows);
    match mixing {
        Mixing::Convolution(convolution) => convolve(convolution, at, &stretches),
        Mixing::Compressed(compressed) => compress(attention, compressed, at, &stretches),
    }
}

/// Which state a part of the mixing has.
fn part(mixer: MixerId, part: usize) -> MixerId {
    MixerId {
        part: part + 1,
        ..mixer
    }
}

/// Every column by itself.
fn convolve(
    convolution: &Convolution,
    at: &mut At<'_>,
    stretches: &[Stretch],
) -> Result<(), EngineError> {
    let kernel = convolution.kernel;
    let weight = &*at.layer.vector(convolution.weight)?;
    let bias = at.layer.optional(convolution.bias)?;
    let bias = bias.as_deref();
    let Scratch {
        query,
        key,
        value,
        gate: window,
        states,
        ..
    } = &mut *at.scratch;
    let mut first = 0;
    for (index, mat) in [query, key, value].into_iter().enumerate() {
        let own = first..first + mat.cols();
        first = own.end;
        let taps = &weight[own.start * kernel..own.end * kernel];
        let bias = bias.map(|bias| &bias[own]);
        window.reset(kernel - 1, mat.cols());
        let states = (&mut *states, part(at.mixer, index));
        let window = window.as_mut_slice();
        let kernels = at.layer.kernels;
        slide(
            kernels,
            (taps, bias),
            mat.view_mut(),
            stretches,
            (states, window),
        )?;
    }
    Ok(())
}

/// Compressed convolutional attention.
fn compress(
    attention: &Attention,
    mixing: &CompressedMixing,
    at: &mut At<'_>,
    stretches: &[Stretch],
) -> Result<(), EngineError> {
    spread(mixing, at, stretches)?;
    let (layer, kernels) = (at.layer, at.layer.kernels);
    let (heads, kv_heads, dim) = (attention.heads, attention.kv_heads, attention.head_dim);
    let [queries, keys, _] = attention.projected();
    let Scratch {
        query,
        key,
        up: spread,
        inner: convolved,
        ..
    } = &mut *at.scratch;
    // Halves of a query and its key, and the mean of these for every key.
    let of = |head: usize| head * dim..(head + 1) * dim;
    let group = heads / kv_heads;
    for head in 0..heads {
        let key = key.view().cols_range(of(head / group));
        kernels.add(key, 1.0, query.view_mut().cols_range(of(head)));
    }
    kernels.scale_in_place(0.5, query.view_mut());
    for head in 0..kv_heads {
        let mut mean = key.view_mut().cols_range(of(head));
        for member in 0..group {
            let query = query.view().cols_range(of(head * group + member));
            if member == 0 {
                kernels.copy(query, mean.reborrow());
            } else {
                kernels.add(query, 1.0, mean.reborrow());
            }
        }
        kernels.scale_in_place(1.0 / group as f32, mean);
    }
    convolved.reset(query.rows(), queries + keys);
    for (head, linear) in mixing.heads.iter().enumerate() {
        let own = head * linear.in_features..(head + 1) * linear.in_features;
        let out = convolved.view_mut().cols_range(of(head));
        layer.linear(spread.view().cols_range(own), linear, out)?;
    }
    let convolved = convolved.view();
    kernels.add(convolved.cols_range(0..queries), 1.0, query.view_mut());
    let of_keys = convolved.cols_range(queries..queries + keys);
    kernels.add(of_keys, 1.0, key.view_mut());
    kernels.l2_norm_heads(heads, LEAST_SQUARE, query.view_mut());
    kernels.l2_norm_heads(kv_heads, LEAST_SQUARE, key.view_mut());
    let factors = layer.vector(mixing.key_scale)?;
    let factors = factors
        .iter()
        .flat_map(|&factor| std::iter::repeat_n(factor, dim));
    kernels.scale_columns(&factors.collect::<Vec<_>>(), key.view_mut());
    Ok(())
}

/// `scratch.up`: every column of queries and keys as the convolution of columns leaves it in each of the rows that the
/// convolution of heads multiplies, the oldest first; `scratch.value` with its second half of the row before.
fn spread(
    mixing: &CompressedMixing,
    at: &mut At<'_>,
    stretches: &[Stretch],
) -> Result<(), EngineError> {
    let kernels = at.layer.kernels;
    let Convolution {
        weight,
        bias,
        columns,
        kernel,
        with_row: _,
        activation: _,
    } = mixing.columns;
    let times = mixing.kernel;
    let Scratch {
        query,
        key,
        value,
        up: spread,
        gate: window,
        states,
        ..
    } = &mut *at.scratch;
    spread.reset(query.rows(), columns * times);
    let (of_queries, of_keys) = spread.view_mut().split_cols(query.cols() * times);
    kernels.repeat_columns(times, query.view(), of_queries);
    kernels.repeat_columns(times, key.view(), of_keys);
    let weight = &*at.layer.vector(weight)?;
    let rows = mixing.rows();
    let mut taps = vec![0.0; columns * times * rows];
    for (index, taps) in taps.chunks_exact_mut(rows).enumerate() {
        let (column, later) = (index / times, index % times);
        taps[later..later + kernel].copy_from_slice(&weight[column * kernel..][..kernel]);
    }
    let bias = at.layer.optional(bias)?;
    let bias = bias.as_deref().unwrap_or_default().iter();
    let bias = bias.flat_map(|&bias| std::iter::repeat_n(bias, times));
    let bias: Vec<f32> = bias.collect();
    window.reset(rows - 1, columns * times);
    let own = (&mut *states, part(at.mixer, 0));
    let taps = (&taps[..], Some(&bias[..]));
    slide(
        kernels,
        taps,
        spread.view_mut(),
        stretches,
        (own, window.as_mut_slice()),
    )?;

    let bias = at.layer.optional(mixing.value_bias)?;
    let half = value.cols() / 2;
    let taps: Vec<f32> = (0..value.cols())
        .flat_map(|column| {
            if column < half {
                [0.0, 1.0]
            } else {
                [1.0, 0.0]
            }
        })
        .collect();
    window.reset(1, value.cols());
    let own = (states, part(at.mixer, 1));
    let taps = (&taps[..], bias.as_deref());
    slide(
        kernels,
        taps,
        value.view_mut(),
        stretches,
        (own, window.as_mut_slice()),
    )
}
