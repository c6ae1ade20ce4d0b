//! Multi-head, grouped-query and multi-query attention over packed records.

use half::bf16;
use sli_kernels::{
    AttentionArgs, AttentionMask, BiasFn, BiasSite, Mat, MatMut, MatRef, RotaryShape, RotaryStyle,
};
use sli_spec::rope::Rope;
use sli_spec::{Alibi, Attention, KeyValue, Mask, Position, QueryTemperature};

use super::{differential, dynamic_mask, kernel, relative_buckets};
use crate::error::EngineError;
use crate::exec::{KeptKeys, Layer, Rows, Scratch, values};
use crate::weights::Part;

/// `output = attention(x)`; x is `[rows, hidden]`.
pub(crate) fn run(
    layer: &Layer<'_>,
    attention: &Attention,
    x: MatRef<'_>,
    rows: Rows<'_>,
    (output, kept): (&mut Mat, &mut [KeptKeys]),
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let count = x.rows();
    let (heads, kv_heads) = (attention.heads, attention.kv_heads);
    scratch.query.reset(count, heads * attention.head_dim);
    layer.linear(x, &attention.query, scratch.query.view_mut())?;
    match &attention.key_value {
        KeyValue::Own { key, value } => {
            scratch.key.reset(count, kv_heads * attention.head_dim);
            layer.linear(x, key, scratch.key.view_mut())?;
            scratch.value.reset(count, kv_heads * attention.value_dim);
            match value {
                Some(value) => layer.linear(x, value, scratch.value.view_mut())?,
                None => {
                    scratch
                        .value
                        .as_mut_slice()
                        .copy_from_slice(scratch.key.as_slice());
                }
            }
        }
        // Finished when the other layer ran.
        KeyValue::OfLayer(_) => {
            scratch.key.reset(0, kv_heads * attention.head_dim);
            scratch.value.reset(0, kv_heads * attention.value_dim);
        }
    }
    let norms = [
        (&attention.query_norm, heads, &mut scratch.query),
        (&attention.key_norm, kv_heads, &mut scratch.key),
        (&attention.value_norm, kv_heads, &mut scratch.value),
    ];
    for (norm, heads, mat) in norms {
        if let Some(norm) = norm.as_ref().filter(|norm| !norm.after_rotation) {
            layer.head_norm(norm, heads, mat.view_mut())?;
        }
    }
    if let Some(limit) = attention.clip {
        for mat in [&mut scratch.query, &mut scratch.key, &mut scratch.value] {
            let limit = limit as f32;
            mat.as_mut_slice()
                .iter_mut()
                .for_each(|value| *value = value.clamp(-limit, limit));
        }
    }
    let mut slopes: Option<Vec<f32>> = None;
    let mut rounded: Option<Vec<bf16>> = None;
    let mut buckets = None;
    for position in &attention.positions {
        match position {
            Position::Rope(rope) => {
                for (heads, mat) in [(heads, &mut scratch.query), (kv_heads, &mut scratch.key)] {
                    if mat.rows() == 0 {
                        continue;
                    }
                    let span = HeadSpan {
                        heads,
                        dim: attention.head_dim,
                        offset: rope.offset,
                    };
                    rotate(layer, rope, rows, span, mat.view_mut());
                }
            }
            Position::Alibi(Alibi {
                slopes: values,
                rounded_to_bf16: false,
            }) => {
                slopes = Some(values.iter().map(|&slope| slope as f32).collect());
            }
            Position::Alibi(Alibi {
                slopes: values,
                rounded_to_bf16: true,
            }) => {
                rounded = Some(values.iter().map(|&slope| bf16::from_f64(slope)).collect());
            }
            Position::Buckets(rule) => {
                let addends = relative_buckets::Addends::new(layer, rule, attention, rows)?;
                buckets = Some(addends);
            }
        }
    }
    for (norm, heads, mat) in [
        (&attention.query_norm, heads, &mut scratch.query),
        (&attention.key_norm, kv_heads, &mut scratch.key),
    ] {
        if let Some(norm) = norm.as_ref().filter(|norm| norm.after_rotation) {
            layer.head_norm(norm, heads, mat.view_mut())?;
        }
    }
    if let Some(own) = kept
        .iter_mut()
        .find(|kept| layer.part == Part::Layer(kept.layer))
    {
        for (row, token) in rows.chunk.rows.clone().enumerate() {
            own.key.row_mut(token).copy_from_slice(scratch.key.row(row));
            own.value
                .row_mut(token)
                .copy_from_slice(scratch.value.row(row));
        }
    }
    if let Some(temperature) = &attention.query_temperature {
        warm(*temperature, rows, &mut scratch.query);
    }
    let sinks = layer.vector(attention.sinks)?;
    let segments = match attention.key_value {
        KeyValue::Own { .. } => rows.batch.segments(rows.chunk),
        KeyValue::OfLayer(_) => rows.batch.segments_of_all(rows.chunk),
    };
    let dynamic = match &attention.dynamic_mask {
        Some(dynamic) => Some(dynamic_mask::choose(
            layer,
            dynamic,
            attention,
            &segments.own,
            scratch,
        )?),
        None => None,
    };
    let limit = attention.clamp.map(|limit| limit as f32);
    let scale = attention.scale as f32;
    let change = |site: &BiasSite, logits: &mut [f32]| {
        if let Some(limit) = limit {
            for logit in &mut *logits {
                *logit = logit.clamp(-limit, limit);
            }
        }
        if let Some(chosen) = &dynamic {
            chosen.add(site, logits);
        }
        if let Some(addends) = &buckets {
            addends.add(site, logits);
        }
        if let Some(slopes) = &rounded {
            for (logit, key) in logits.iter_mut().zip(site.keys.clone()) {
                *logit += rounded_alibi(slopes[site.head], key) * scale;
            }
        }
    };
    let mut value_dim = attention.value_dim;
    if attention.differential.is_some() {
        differential::pair_values(kv_heads, value_dim, scratch);
        value_dim *= 2;
    }
    scratch.heads.reset(count, heads * value_dim);
    let (key, value) = match attention.key_value {
        KeyValue::Own { .. } => (scratch.key.view(), scratch.value.view()),
        KeyValue::OfLayer(source) => {
            let Some(kept) = kept.iter().find(|kept| kept.layer == source) else {
                let message = format!("layer {source} keeps no keys and values");
                return Err(EngineError::Internal(message));
            };
            (kept.key.view(), kept.value.view())
        }
    };
    let mixer = attention.output.weight;
    let columns = (key.cols(), value.cols());
    let earlier = scratch.carried.of(mixer, rows.chunk, columns);
    layer.kernels.attention(
        &AttentionArgs {
            q: scratch.query.view(),
            k: key,
            v: value,
            heads,
            kv_heads,
            qk_dim: attention.head_dim,
            v_dim: value_dim,
            segments: &segments.own,
            common: segments.common(earlier),
            mask: mask(attention.mask),
            scale,
            softcap: attention.softcap.map(|cap| cap as f32),
            sinks: values(sinks.as_ref()),
            alibi: slopes.as_deref(),
            bias: (limit.is_some() || dynamic.is_some() || rounded.is_some() || buckets.is_some())
                .then_some(&change as &BiasFn<'_>),
        },
        scratch.heads.view_mut(),
    );
    if matches!(attention.key_value, KeyValue::Own { .. }) {
        let Scratch {
            carried,
            key,
            value,
            ..
        } = scratch;
        carried.keep(mixer, rows.chunk, key, value);
    }
    if let Some(chosen) = dynamic {
        chosen.release(scratch);
    }
    if let Some(differential) = &attention.differential {
        differential::subtract(layer, differential, heads, value_dim, scratch)?;
    }
    if let Some(gate) = &attention.gate {
        scratch.gate.reset(count, gate.projection.out_features);
        layer.linear(x, &gate.projection, scratch.gate.view_mut())?;
        let bias = layer.vector(gate.head_bias)?;
        if let Some(bias) = values(bias.as_ref()) {
            for row in 0..count {
                let heads = scratch
                    .gate
                    .row_mut(row)
                    .chunks_exact_mut(attention.value_dim);
                for (head, bias) in heads.zip(bias) {
                    for value in head {
                        *value += bias;
                    }
                }
            }
        }
        layer
            .kernels
            .activation(kernel(gate.activation), scratch.gate.view_mut());
        apply_gate(
            &scratch.gate,
            attention.value_dim,
            gate.per_head,
            &mut scratch.heads,
        );
    }
    if let Some(norm) = &attention.output_norm {
        layer.norm_in_place(norm, scratch.heads.view_mut())?;
    }
    output.reset(count, attention.output.out_features);
    layer.linear(scratch.heads.view(), &attention.output, output.view_mut())
}

/// Falcon's `slope * position`, every number of it in bf16.
fn rounded_alibi(slope: bf16, key: usize) -> f32 {
    bf16::from_f32(slope.to_f32() * bf16::from_f64(key as f64).to_f32()).to_f32()
}

/// The kernels' mask.
pub(crate) fn mask(mask: Mask) -> AttentionMask {
    match mask {
        // The addends of a record mask its padding.
        Mask::Full | Mask::FullButPadding(_) => AttentionMask::Full,
        // The segments say where the context ends.
        Mask::Causal | Mask::CausalAfterContext => AttentionMask::Causal,
        Mask::CausalWindow(window) => AttentionMask::Window {
            left: window,
            right: None,
        },
        Mask::Window(distance) => AttentionMask::Window {
            left: distance + 1,
            right: Some(distance),
        },
        Mask::CausalChunk(length) => AttentionMask::Chunk(length),
    }
}

/// Which features of `[rows, heads * dim]` rotate: in every head, from `offset` on.
#[derive(Clone, Copy)]
pub(crate) struct HeadSpan {
    pub heads: usize,
    pub dim: usize,
    pub offset: usize,
}

/// Rotates queries or keys by the positions of the chunk's rows.
pub(crate) fn rotate(
    layer: &Layer<'_>,
    rope: &Rope,
    rows: Rows<'_>,
    span: HeadSpan,
    x: MatMut<'_>,
) {
    let Some((cos, sin)) = rows.batch.rotation(rope) else {
        return;
    };
    let range = rows.chunk.rows.clone();
    let style = if rope.interleaved {
        RotaryStyle::Interleaved
    } else {
        RotaryStyle::Half
    };
    let (cos, sin) = (cos.rows_view(range.clone()), sin.rows_view(range));
    let shape = RotaryShape {
        heads: span.heads,
        head_dim: span.dim,
        rotary_dim: rope.dims,
        offset: span.offset,
        style,
    };
    layer.kernels.rotary_rows(shape, cos, sin, x);
}

/// Multiplies queries by a factor that depends on their position.
pub(crate) fn warm(temperature: QueryTemperature, rows: Rows<'_>, query: &mut Mat) {
    for (row, index) in rows.chunk.rows.clone().enumerate() {
        let position = f64::from(rows.batch.positions[index]);
        let factor = match temperature {
            QueryTemperature::Llama4 {
                beta,
                original,
                shift,
            } => 1.0 + beta * (1.0 + ((position + shift) / original).floor()).ln(),
            QueryTemperature::Power { original, exponent } => {
                (1.0 + (position + 1.0) / original).powf(exponent)
            }
            QueryTemperature::LogN { trained } => ((position + 1.0).ln() / trained.ln()).max(1.0),
        };
        if factor != 1.0 {
            query
                .row_mut(row)
                .iter_mut()
                .for_each(|value| *value *= factor as f32);
        }
    }
}

/// Multiplies the heads' outputs `[rows, heads * dim]` by their gates.
fn apply_gate(gate: &Mat, dim: usize, per_head: bool, heads: &mut Mat) {
    for row in 0..heads.rows() {
        let gates = gate.row(row);
        if per_head {
            for (head, factor) in heads.row_mut(row).chunks_exact_mut(dim).zip(gates) {
                for value in head {
                    *value *= factor;
                }
            }
        } else {
            for (value, factor) in heads.row_mut(row).iter_mut().zip(gates) {
                *value *= factor;
            }
        }
    }
}
