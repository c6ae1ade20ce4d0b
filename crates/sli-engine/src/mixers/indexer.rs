//! The lightning indexer (DeepSeek-V3.2): which keys a query attends to.

use std::ops::Range;

use sli_kernels::{BiasSite, Mat, MatRef, Segment, Windows};
use sli_spec::{Indexer, KeyPool, KeySelection};

use super::attention::warm_heads;
use super::buffers::{Buffer, Buffers};
use super::choice::{Choice, SCORES, Scored, mask_tokens};
use super::rotation::{HeadSpan, rotate};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch};

/// The buffers of a choice: the packed keys and the scored keys of a query lie beside the keys.
pub(crate) fn buffers(indexer: &Indexer) -> Buffers {
    // Queries of the layer's input are of its normed form, which lies where the keys come.
    let input = indexer
        .query_norm
        .as_ref()
        .map_or(0, |_| indexer.query.in_features);
    let buffers = Buffers::default()
        .rows(Buffer::Key, input.max(2 * indexer.head_dim + 2))
        .rows(Buffer::Value, indexer.heads)
        .rows(Buffer::Heads, indexer.heads)
        .fixed(Buffer::Heads, SCORES)
        .rows(Buffer::Up, indexer.heads * indexer.head_dim);
    match indexer.pool {
        Some(_) => buffers
            .rows(Buffer::Value, indexer.head_dim)
            .rows(Buffer::Gate, indexer.head_dim),
        None => buffers,
    }
}

/// Chooses keys for the chunk's queries. `latent` is the normed query latent `[rows, q_rank]` or what queries are of in
/// its place, x the layer's input `[rows, hidden]`; the choice goes to the rows of `scratch.selection`, ascending.
pub(crate) fn choose(
    layer: &BoundLayer<'_>,
    indexer: &Indexer,
    latent: MatRef<'_>,
    x: MatRef<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (count, heads, dim) = (x.rows(), indexer.heads, indexer.head_dim);
    let choice = Choice {
        heads,
        dim,
        top_k: indexer.top_k,
        rate: indexer.pools().size,
        with_later: true,
    };
    let segments = rows.batch.segments(rows.chunk).own;
    Choice::clear(&mut scratch.selection, rows.chunk.rows.clone());
    if choice.is_idle(&segments) {
        return Ok(());
    }
    scratch.up.reset(count, heads * dim);
    match &indexer.query_norm {
        Some(norm) => {
            let normed = &mut scratch.key;
            normed.reset(count, latent.cols());
            layer.norm(norm, latent, normed.view_mut())?;
            layer.linear(normed.view(), &indexer.query, scratch.up.view_mut())?;
        }
        None => layer.linear(latent, &indexer.query, scratch.up.view_mut())?,
    }
    if let Some(temperature) = indexer.head_temperature {
        let Scratch { up, value, .. } = scratch;
        warm_heads(layer, temperature, rows, value, up)?;
    }
    scratch.key.reset(count, dim);
    layer.linear(x, &indexer.key, scratch.key.view_mut())?;
    layer.norm_in_place(&indexer.key_norm, scratch.key.view_mut())?;
    if let Some(rope) = &indexer.rope {
        let span = |heads| HeadSpan::of(rope, heads, dim);
        rotate(layer, rope, rows, span(heads), scratch.up.view_mut());
        rotate(layer, rope, rows, span(1), scratch.key.view_mut());
    }
    if let Some(pool) = &indexer.pool {
        pool_keys(layer, pool, x, &segments, scratch)?;
    }
    scratch.value.reset(count, heads);
    layer.linear(x, &indexer.weights, scratch.value.view_mut())?;
    let share = (heads as f32).powf(-0.5);
    layer
        .kernels
        .scale_in_place(share, scratch.value.view_mut());
    let scored = Scored {
        segments: &segments,
        queries: scratch.up.as_slice(),
        weights: Some(scratch.value.view()),
        keys: scratch.key.as_slice(),
    };
    let chosen = (&mut scratch.selection, rows.chunk.rows.start);
    choice.choose(layer.kernels, scored, &mut scratch.heads, chosen);
    Ok(())
}

/// `scratch.key` becomes the keys that stand for pools.
fn pool_keys(
    layer: &BoundLayer<'_>,
    pool: &KeyPool,
    x: MatRef<'_>,
    segments: &[Segment],
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let gates = &mut scratch.gate;
    gates.reset(x.rows(), pool.gate.out_features);
    layer.linear(x, &pool.gate, gates.view_mut())?;
    let records: Vec<Range<usize>> = segments.iter().map(|segment| segment.k.clone()).collect();
    let bias = layer.vector(pool.bias)?;
    let form = Windows {
        rate: pool.pools.size,
        overlaps: false,
        bias: &bias,
        records: &records,
    };
    scratch.value.reset(form.count(), pool.gate.out_features);
    let pooled = scratch.value.view_mut();
    layer
        .kernels
        .pool_windows(form, scratch.key.view(), gates.view(), pooled);
    // Not swapped: buffers are counted by what each of them holds at most.
    scratch
        .key
        .reset(scratch.value.rows(), pool.gate.out_features);
    layer
        .kernels
        .copy(scratch.value.view(), scratch.key.view_mut());
    Ok(())
}

/// Masks the keys that a query does not see. `first` is the row of the batch that the segments'
/// row 0 is.
pub(crate) fn mask(
    selection: &KeySelection,
    chosen: (&Mat, usize),
    segments: &[Segment],
    site: &BiasSite,
    logits: &mut [f32],
) {
    mask_tokens(chosen, segments, selection.pools(), site, logits);
}
