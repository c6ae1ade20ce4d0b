//! What stands beside the heads of an attention: convolutions of whole records.

use std::iter;

use sli_kernels::{Mat, MatMut, MatRef, Taps};
use sli_spec::{Attention, Beside, SpanConvolution, ValueConvolution};

use super::buffers::{Buffer, Buffers};
use super::records::records_of;
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch};

/// What it needs beside the buffers of the attention.
pub(super) fn buffers(beside: &Beside, attention: &Attention) -> Buffers {
    let wide = attention.heads * attention.head_dim;
    match beside {
        Beside::SpanConvolution(own) => {
            let (hidden, kernel) = (own.pointwise.in_features, own.kernel);
            Buffers::default()
                .rows(Buffer::Inner, hidden)
                .rows(Buffer::Up, wide)
                .rows(Buffer::Gate, (attention.heads * kernel).max(wide))
                .rows(Buffer::Heads, 2 * wide)
                .rows(Buffer::Value, wide)
                .fixed(Buffer::Query, 2 * kernel * hidden)
        }
        Beside::ValueConvolution(own) => {
            Buffers::default().fixed(Buffer::Gate, 2 * own.kernel * wide)
        }
    }
}

/// Adds it to the heads' outputs, or puts it beside them.
pub(super) fn apply(
    beside: &Beside,
    attention: &Attention,
    (layer, rows): (&BoundLayer<'_>, Rows<'_>),
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    match beside {
        Beside::SpanConvolution(own) => span_convolution(own, attention, layer, rows, x, scratch),
        Beside::ValueConvolution(own) => {
            let Scratch { value, heads, .. } = scratch;
            let dim = attention.head_dim;
            value_convolution(layer, own, dim, rows, value.view(), heads.view_mut())
        }
    }
}

/// `heads += convolution(value)`, with heads of `dim` columns.
pub(super) fn value_convolution(
    layer: &BoundLayer<'_>,
    own: &ValueConvolution,
    dim: usize,
    rows: Rows<'_>,
    value: MatRef<'_>,
    out: MatMut<'_>,
) -> Result<(), EngineError> {
    let taps = turned(&layer.vector(own.weight)?, own.kernel, dim);
    let records = records_of(rows);
    let taps = Taps::OfColumns(&taps);
    layer
        .kernels
        .add_neighbours(own.kernel, taps, &records, value, out);
    Ok(())
}

/// Weights `[heads, kernel]` as `[kernel, heads * dim]`.
pub(super) fn turned(weight: &[f32], kernel: usize, dim: usize) -> Vec<f32> {
    let mut taps = Vec::with_capacity(weight.len() * dim);
    for tap in 0..kernel {
        for &weight in weight.iter().skip(tap).step_by(kernel) {
            taps.extend(iter::repeat_n(weight, dim));
        }
    }
    taps
}

fn span_convolution(
    own: &SpanConvolution,
    attention: &Attention,
    layer: &BoundLayer<'_>,
    rows: Rows<'_>,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (kernels, records) = (layer.kernels, records_of(rows));
    let (heads, wide) = (attention.heads, attention.heads * attention.head_dim);
    let Scratch {
        query,
        value,
        heads: output,
        gate,
        up,
        inner,
        ..
    } = scratch;
    let hidden = own.pointwise.in_features;
    let depthwise = turned(&layer.vector(own.depthwise)?, own.kernel, 1);
    zeros(inner, x.rows(), hidden);
    let taps = Taps::OfColumns(&depthwise);
    kernels.add_neighbours(own.kernel, taps, &records, x, inner.view_mut());
    up.reset(x.rows(), wide);
    layer.linear(inner.view(), &own.pointwise, up.view_mut())?;
    kernels.multiply(query.view(), up.view_mut());
    gate.reset(x.rows(), heads * own.kernel);
    layer.linear(up.view(), &own.taps, gate.view_mut())?;
    kernels.softmax_parts(heads, gate.view_mut());
    // The heads of the attention move to the front of wider rows.
    value.reset(x.rows(), wide);
    kernels.copy(output.view(), value.view_mut());
    output.reset(x.rows(), 2 * wide);
    let (attended, convolved) = output.view_mut().split_cols(wide);
    kernels.copy(value.view(), attended);
    layer.linear(x, &own.values, value.view_mut())?;
    zeros(up, x.rows(), wide);
    let taps = Taps::OfRows {
        factors: gate.view(),
        heads,
    };
    kernels.add_neighbours(own.kernel, taps, &records, value.view(), up.view_mut());
    kernels.copy(up.view(), convolved);
    Ok(())
}

fn zeros(mat: &mut Mat, rows: usize, columns: usize) {
    mat.reset(rows, columns);
    mat.as_mut_slice().fill(0.0);
}
