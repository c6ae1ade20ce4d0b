//! Multi-head latent attention (DeepSeek-V2): keys and values are expanded from a shared latent.

use sli_kernels::{AttentionArgs, BiasFn, BiasSite, Mat, MatRef};
use sli_spec::{KeySelection, LatentAttention};

use super::attention::{HeadSpan, mask, rotate, warm};
use super::indexer;
use crate::error::EngineError;
use crate::exec::{Layer, Rows, Scratch};

/// `output = attention(x)`; x is `[rows, hidden]`.
pub(crate) fn run(
    layer: &Layer<'_>,
    attention: &LatentAttention,
    x: MatRef<'_>,
    rows: Rows<'_>,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let count = x.rows();
    let (heads, nope, rope_dim) = (attention.heads, attention.nope_dim, attention.rope_dim);
    let (dim, value_dim) = (nope + rope_dim, attention.value_dim);

    scratch.query.reset(count, heads * dim);
    match &attention.query_down {
        Some((down, norm)) => {
            scratch.inner.reset(count, down.out_features);
            layer.linear(x, down, scratch.inner.view_mut())?;
            layer.norm_in_place(norm, scratch.inner.view_mut())?;
            if attention.query_latent_scale != 1.0 {
                let scale = attention.query_latent_scale as f32;
                layer
                    .kernels
                    .scale_in_place(scale, scratch.inner.view_mut());
            }
            layer.linear(
                scratch.inner.view(),
                &attention.query,
                scratch.query.view_mut(),
            )?;
        }
        None => layer.linear(x, &attention.query, scratch.query.view_mut())?,
    }

    match &attention.selection {
        Some(KeySelection::Indexer(indexer)) => {
            let latent = std::mem::take(&mut scratch.inner);
            indexer::choose(layer, indexer, latent.view(), x, rows, scratch)?;
            scratch.inner = latent;
        }
        Some(KeySelection::Previous { .. }) | None => {}
    }

    // The latent and, behind it, the rotated key that all heads share.
    let rank = attention.kv_rank;
    scratch.gate.reset(count, rank + rope_dim);
    layer.linear(x, &attention.key_value_down, scratch.gate.view_mut())?;
    let latent = scratch.gate.view_mut().cols_range(0..rank);
    layer.norm_in_place(&attention.key_value_norm, latent)?;
    if attention.key_value_latent_scale != 1.0 {
        let latent = scratch.gate.view_mut().cols_range(0..rank);
        layer
            .kernels
            .scale_in_place(attention.key_value_latent_scale as f32, latent);
    }
    scratch.up.reset(count, heads * (nope + value_dim));
    let latent = scratch.gate.view().cols_range(0..rank);
    layer.linear(latent, &attention.key_value_up, scratch.up.view_mut())?;

    if let Some(rope) = &attention.rope {
        let span = HeadSpan {
            heads,
            dim,
            offset: nope,
        };
        rotate(layer, rope, rows, span, scratch.query.view_mut());
        let shared = scratch.gate.view_mut().cols_range(rank..rank + rope_dim);
        rotate(
            layer,
            rope,
            rows,
            HeadSpan {
                heads: 1,
                dim: rope_dim,
                offset: 0,
            },
            shared,
        );
    }
    if let Some(temperature) = &attention.query_temperature {
        warm(*temperature, rows, &mut scratch.query);
    }

    scratch.key.reset(count, heads * dim);
    scratch.value.reset(count, heads * value_dim);
    for row in 0..count {
        let shared = &scratch.gate.row(row)[rank..];
        let expanded = scratch.up.row(row).chunks_exact(nope + value_dim);
        let keys = scratch.key.row_mut(row).chunks_exact_mut(dim);
        let values = scratch.value.row_mut(row).chunks_exact_mut(value_dim);
        for ((expanded, key), value) in expanded.zip(keys).zip(values) {
            key[..nope].copy_from_slice(&expanded[..nope]);
            key[nope..].copy_from_slice(shared);
            value.copy_from_slice(&expanded[nope..]);
        }
    }

    let segments = rows.batch.segments(rows.chunk);
    let (selection, first) = (&scratch.selection, rows.chunk.rows.start);
    let masked = |site: &BiasSite, logits: &mut [f32]| {
        indexer::mask(selection, &segments, first, site, logits);
    };
    scratch.heads.reset(count, heads * value_dim);
    layer.kernels.attention(
        &AttentionArgs {
            q: scratch.query.view(),
            k: scratch.key.view(),
            v: scratch.value.view(),
            heads,
            kv_heads: heads,
            qk_dim: dim,
            v_dim: value_dim,
            segments: &segments,
            common: None,
            mask: mask(attention.mask),
            scale: attention.scale as f32,
            softcap: None,
            sinks: None,
            alibi: None,
            bias: attention
                .selection
                .is_some()
                .then_some(&masked as &BiasFn<'_>),
        },
        scratch.heads.view_mut(),
    );
    output.reset(count, attention.output.out_features);
    layer.linear(scratch.heads.view(), &attention.output, output.view_mut())
}
