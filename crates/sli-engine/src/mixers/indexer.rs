//! The lightning indexer (DeepSeek-V3.2): which keys a query attends to.

use std::ops::Range;

use sli_kernels::{BiasSite, Mat, MatRef, PackedKind, PackedWeights, Segment, Store};
use sli_spec::Indexer;

use super::attention::{HeadSpan, rotate};
use super::buffers::{Buffer, Buffers};
use super::top_keys::select;
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch};

/// Scores `[queries * heads, keys]` that are computed at a time, at most, in elements.
const SCORES: usize = 1 << 20;

/// In the first place of a row: the query attends to all keys it sees.
const ALL: f32 = -1.0;

/// The buffers of a choice: the packed keys and the scored keys of a query lie beside the keys.
pub(crate) fn buffers(indexer: &Indexer) -> Buffers {
    Buffers::default()
        .rows(Buffer::Key, 2 * indexer.head_dim + 2)
        .rows(Buffer::Value, indexer.heads)
        .rows(Buffer::Heads, indexer.heads)
        .fixed(Buffer::Heads, SCORES)
        .rows(Buffer::Up, indexer.heads * indexer.head_dim)
}

/// Chooses keys for the chunk's queries. `latent` is the normed query latent `[rows, q_rank]`, x the
/// layer's input `[rows, hidden]`; the choice goes to the rows of `scratch.selection`, ascending.
pub(crate) fn choose(
    layer: &BoundLayer<'_>,
    indexer: &Indexer,
    latent: MatRef<'_>,
    x: MatRef<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let first = rows.chunk.rows.start;
    let segments = rows.batch.segments(rows.chunk).own;
    for row in rows.chunk.rows.clone() {
        if let Some(place) = scratch.selection.row_mut(row).first_mut() {
            *place = ALL;
        }
    }
    if segments
        .iter()
        .all(|segment| segment.k.len() <= indexer.top_k)
    {
        return Ok(());
    }
    let (count, heads, dim) = (x.rows(), indexer.heads, indexer.head_dim);
    scratch.up.reset(count, heads * dim);
    layer.linear(latent, &indexer.query, scratch.up.view_mut())?;
    scratch.key.reset(count, dim);
    layer.linear(x, &indexer.key, scratch.key.view_mut())?;
    layer.norm_in_place(&indexer.key_norm, scratch.key.view_mut())?;
    if let Some(rope) = &indexer.rope {
        let span = |heads| HeadSpan {
            heads,
            dim,
            offset: 0,
        };
        rotate(layer, rope, rows, span(heads), scratch.up.view_mut());
        rotate(layer, rope, rows, span(1), scratch.key.view_mut());
    }
    scratch.value.reset(count, heads);
    layer.linear(x, &indexer.weights, scratch.value.view_mut())?;
    let share = (heads as f32).powf(-0.5);
    layer
        .kernels
        .scale_in_place(share, scratch.value.view_mut());

    let kind = PackedKind::for_weights(sli_kernels::Element::F32, layer.kernels.compute());
    let mut keys = PackedWeights::new(0, 0, kind);
    for segment in &segments {
        let length = segment.k.len();
        if length <= indexer.top_k {
            continue;
        }
        keys.reset(length, dim, kind);
        let range = segment.k.start * dim..segment.k.end * dim;
        keys.pack_rows_f32(0, &scratch.key.as_slice()[range]);
        let block = (SCORES / (heads * length)).max(1);
        // A query that sees no more keys than it may choose attends to all of them.
        let mut query = indexer.top_k;
        while query < length {
            let queries = query..(query + block).min(length);
            score(layer, indexer, segment, &keys, queries.clone(), scratch);
            for query in queries {
                let base = first + segment.q.start + query;
                choose_for(indexer, segment, query, base, block, scratch);
            }
            query += block;
        }
    }
    Ok(())
}

/// `scratch.heads = q k` for some queries of a segment: `[queries * heads, keys]`.
fn score(
    layer: &BoundLayer<'_>,
    indexer: &Indexer,
    segment: &Segment,
    keys: &PackedWeights,
    queries: Range<usize>,
    scratch: &mut Scratch,
) {
    let (heads, dim) = (indexer.heads, indexer.head_dim);
    let start = (segment.q.start + queries.start) * heads * dim;
    let rows = queries.len() * heads;
    let values = &scratch.up.as_slice()[start..start + rows * dim];
    scratch.heads.reset(rows, keys.n());
    layer.kernels.gemm(
        MatRef::from_slice(values, rows, dim),
        keys,
        None,
        Store::Set,
        scratch.heads.view_mut(),
    );
}

/// Chooses the keys of one query, whose scores are in `scratch.heads`; its row of the choice is `row`.
fn choose_for(
    indexer: &Indexer,
    segment: &Segment,
    query: usize,
    row: usize,
    block: usize,
    scratch: &mut Scratch,
) {
    let (heads, length) = (indexer.heads, segment.k.len());
    let scale = (indexer.head_dim as f32).powf(-0.5);
    let place = (query - indexer.top_k) % block;
    let weights = scratch.value.row(segment.q.start + query);
    // What lies ahead takes part, as the worst there is: it decides about the order among equals.
    let mut scored: Vec<(f32, u32)> = (0..length)
        .map(|key| (f32::NEG_INFINITY, key as u32))
        .collect();
    for scored in &mut scored[..=query] {
        scored.0 = 0.0;
    }
    for (head, &weight) in weights.iter().enumerate() {
        let products = scratch.heads.row(place * heads + head);
        for (scored, product) in scored[..=query].iter_mut().zip(products) {
            scored.0 += weight * (product * scale).max(0.0);
        }
    }
    select(&mut scored, indexer.top_k);
    let chosen = scratch.selection.row_mut(row);
    for (chosen, scored) in chosen.iter_mut().zip(&scored[..indexer.top_k]) {
        *chosen = scored.1 as f32;
    }
    chosen.sort_unstable_by(f32::total_cmp);
}

/// Masks the keys that a query did not choose. `first` is the row of the batch that the segments'
/// row 0 is.
pub(crate) fn mask(
    selection: &Mat,
    segments: &[Segment],
    first: usize,
    site: &BiasSite,
    logits: &mut [f32],
) {
    let segment = &segments[site.segment];
    let row = first + segment.q.start + site.query - segment.q_start;
    let chosen = selection.row(row);
    if chosen.first().is_none_or(|&key| key == ALL) {
        return;
    }
    let start = chosen.partition_point(|&key| (key as usize) < site.keys.start);
    let mut chosen = chosen[start..].iter().map(|&key| key as usize).peekable();
    for (key, logit) in site.keys.clone().zip(logits) {
        if chosen.next_if_eq(&key).is_none() {
            *logit = f32::NEG_INFINITY;
        }
    }
}
