//! Blocks of keys that queries choose (MiniMax-M3): those whose largest score is largest.

use sli_kernels::{BiasSite, Mat, MatRef, PackedKind, PackedWeights, Segment, Store};
use sli_spec::BlockChoice;

use super::buffers::{Buffer, Buffers};
use super::choice::{ALL, NONE, SCORES, mask_row};
use super::rotation::{HeadSpan, rotate};
use super::top_keys::select;
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch};

/// The buffers of a choice: the packed keys and the scored blocks of a query lie beside the keys.
pub(super) fn buffers(choice: &BlockChoice) -> Buffers {
    Buffers::default()
        .rows(Buffer::Up, choice.heads * choice.head_dim)
        .rows(Buffer::Inner, 2 * choice.head_dim + 2)
        .rows(Buffer::Gate, choice.heads * choice.top_k)
        .fixed(Buffer::Heads, SCORES)
}

/// The blocks that the queries of a chunk chose: `[rows, heads * top_k]`.
pub(super) struct Chosen<'a> {
    choice: &'a BlockChoice,
    blocks: Mat,
    segments: Vec<Segment>,
    /// Query heads that share a choice.
    shared: usize,
}

/// Chooses for all queries of a chunk; x is the layer's input. Takes `scratch.gate`, which [`Chosen::release`] gives
/// back.
pub(super) fn choose<'a>(
    layer: &BoundLayer<'_>,
    choice: &'a BlockChoice,
    query_heads: usize,
    x: MatRef<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<Option<Chosen<'a>>, EngineError> {
    let segments = rows.batch.segments(rows.chunk).own;
    let reach = choice.size.saturating_mul(choice.top_k);
    if segments.iter().all(|segment| segment.k.len() <= reach) {
        return Ok(None);
    }
    let (count, heads, dim) = (x.rows(), choice.heads, choice.head_dim);
    let (queries, keys) = (&mut scratch.up, &mut scratch.inner);
    queries.reset(count, heads * dim);
    layer.linear(x, &choice.query, queries.view_mut())?;
    layer.norm_parts(&choice.query_norm, heads, queries.view_mut())?;
    keys.reset(count, dim);
    layer.linear(x, &choice.key, keys.view_mut())?;
    layer.norm_in_place(&choice.key_norm, keys.view_mut())?;
    if let Some(rope) = &choice.rope {
        let span = |heads| HeadSpan {
            heads,
            dim,
            offset: rope.offset,
        };
        rotate(layer, rope, rows, span(heads), queries.view_mut());
        rotate(layer, rope, rows, span(1), keys.view_mut());
    }
    let mut blocks = std::mem::take(&mut scratch.gate);
    blocks.reset(count, heads * choice.top_k);
    let kind = PackedKind::for_weights(sli_kernels::Element::F32, layer.kernels.compute());
    let mut packed = PackedWeights::new(0, 0, kind);
    for segment in &segments {
        let tokens = segment.k.len();
        for row in segment.q.clone() {
            for chosen in blocks.row_mut(row).chunks_exact_mut(choice.top_k) {
                chosen[0] = ALL;
            }
        }
        if tokens <= reach {
            continue;
        }
        packed.reset(tokens, dim, kind);
        let range = segment.k.start * dim..segment.k.end * dim;
        packed.pack_rows_f32(0, &keys.as_slice()[range]);
        let step = (SCORES / (heads * tokens)).max(1);
        // Earlier queries see no more blocks than they may choose.
        let mut query = reach;
        while query < tokens {
            let some = query..(query + step).min(tokens);
            let from = (segment.q.start + some.start) * heads * dim;
            let products = some.len() * heads;
            let values = &queries.as_slice()[from..from + products * dim];
            let values = MatRef::from_slice(values, products, dim);
            scratch.heads.reset(products, tokens);
            layer
                .kernels
                .gemm(values, &packed, None, Store::Set, scratch.heads.view_mut());
            for query in some.clone() {
                let row = blocks.row_mut(segment.q.start + query);
                let first = (query - some.start) * heads;
                for (head, chosen) in row.chunks_exact_mut(choice.top_k).enumerate() {
                    let scores = scratch.heads.row(first + head);
                    choose_for(choice, &scores[..=query], tokens, chosen);
                }
            }
            query += step;
        }
    }
    Ok(Some(Chosen {
        choice,
        blocks,
        segments,
        shared: query_heads / heads.max(1),
    }))
}

/// Chooses for a query and a head of the indexer, of the scores of the keys that the query sees.
fn choose_for(choice: &BlockChoice, scores: &[f32], tokens: usize, chosen: &mut [f32]) {
    let count = tokens.div_ceil(choice.size);
    // What lies ahead takes part, as the worst there is: it decides about the order among equals.
    let mut scored: Vec<(f32, u32)> = (0..count)
        .map(|block| (f32::NEG_INFINITY, block as u32))
        .collect();
    for (scored, block) in scored.iter_mut().zip(scores.chunks(choice.size)) {
        scored.0 = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    }
    let own = (scores.len() - 1) / choice.size;
    for back in 0..choice.local {
        scored[own.saturating_sub(back)].0 = f32::INFINITY;
    }
    select(&mut scored, choice.top_k);
    chosen.fill(NONE);
    let seen = scored[..choice.top_k.min(count)]
        .iter()
        .filter(|scored| scored.0 > f32::NEG_INFINITY);
    for (chosen, scored) in chosen.iter_mut().zip(seen) {
        *chosen = scored.1 as f32;
    }
    chosen.sort_unstable_by(f32::total_cmp);
}

impl Chosen<'_> {
    /// Masks the keys of blocks that a query's head did not choose.
    pub fn mask(&self, site: &BiasSite, logits: &mut [f32]) {
        let row = self.segments[site.segment].q.start + site.query;
        let top_k = self.choice.top_k;
        let head = site.head / self.shared;
        let chosen = &self.blocks.row(row)[head * top_k..(head + 1) * top_k];
        mask_row(chosen, self.choice.size, None, site.keys.clone(), logits);
    }

    /// Gives the memory back.
    pub fn release(self, scratch: &mut Scratch) {
        scratch.gate = self.blocks;
    }
}
