//! Blocks of keys that queries choose: those whose largest score is largest (MiniMax-M3), or the score of whose mean is (Qwen4-Exp).

use sli_kernels::{BiasSite, Mat, MatRef, PackedKind, PackedWeights, Segment};
use sli_spec::{BlockChoice, BlockScore, Pools};

use super::buffers::{Buffer, Buffers};
use super::choice::{
    ALL, Choice, SCORES, Scored, candidates, choose_best, mask_row, mask_tokens, products,
};
use super::rotation::{HeadSpan, rotate, rotate_cut};
use super::top_keys::Entry;
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
    if choice.by == BlockScore::MeanKey {
        average(choice, &segments, keys);
    }
    layer.norm_in_place(&choice.key_norm, keys.view_mut())?;
    if let Some(rope) = &choice.rope {
        let span = |heads| HeadSpan::of(rope, heads, dim);
        if dim < rope.dims {
            rotate_cut(layer, rope, rows, dim, queries.view_mut());
            rotate_cut(layer, rope, rows, dim, keys.view_mut());
        } else {
            rotate(layer, rope, rows, span(heads), queries.view_mut());
            rotate(layer, rope, rows, span(1), keys.view_mut());
        }
    }
    let mut blocks = std::mem::take(&mut scratch.gate);
    let BlockScore::LargestProduct { local } = choice.by else {
        blocks.reset(count, choice.top_k);
        choose_by_mean(layer, choice, &segments, (scratch, &mut blocks));
        return Ok(Some(Chosen {
            choice,
            blocks,
            segments,
            shared: query_heads,
        }));
    };
    blocks.reset(count, heads * choice.top_k);
    let mut packed = PackedWeights::new(0, 0, PackedKind::F32);
    let mut scored = Vec::new();
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
        let own = segment.k.start * dim..segment.k.end * dim;
        let keys = &keys.as_slice()[own];
        // Earlier queries see no more blocks than they may choose.
        let some = reach..tokens;
        let of = (&queries.as_slice()[segment.q.start * heads * dim..], some);
        let room = (&mut packed, &mut scratch.heads);
        products(
            layer.kernels,
            [heads, dim],
            of,
            keys,
            room,
            |query, products| {
                let row = blocks.row_mut(segment.q.start + query);
                for (head, chosen) in row.chunks_exact_mut(choice.top_k).enumerate() {
                    candidates(&mut scored, tokens.div_ceil(choice.size));
                    score((choice, local), &products.row(head)[..=query], &mut scored);
                    choose_best(&mut scored, choice.top_k, chosen);
                }
            },
        );
    }
    Ok(Some(Chosen {
        choice,
        blocks,
        segments,
        shared: query_heads / heads.max(1),
    }))
}

/// The mean of every whole block of keys goes to its first row.
fn average(choice: &BlockChoice, segments: &[Segment], keys: &mut Mat) {
    for segment in segments {
        let last = segment.k.len() / choice.size * choice.size;
        let firsts = segment.k.start..segment.k.start + last;
        for first in firsts.step_by(choice.size) {
            for column in 0..choice.head_dim {
                let of_block = (first..first + choice.size).map(|row| keys.row(row)[column]);
                let sum: f32 = of_block.sum();
                keys.row_mut(first)[column] = sum / choice.size as f32;
            }
        }
    }
}

/// Chooses for all queries, by the keys in the first row of every block, which are normed and rotated.
fn choose_by_mean(
    layer: &BoundLayer<'_>,
    choice: &BlockChoice,
    segments: &[Segment],
    (scratch, blocks): (&mut Scratch, &mut Mat),
) {
    let dim = choice.head_dim;
    let mut kept = 0;
    for segment in segments {
        for block in 0..segment.k.len() / choice.size {
            let first = (segment.k.start + block * choice.size) * dim;
            let all = scratch.inner.as_mut_slice();
            all.copy_within(first..first + dim, kept * dim);
            kept += 1;
        }
    }
    let by = Choice {
        heads: choice.heads,
        dim,
        top_k: choice.top_k,
        rate: choice.size,
        with_later: false,
    };
    Choice::clear(blocks, 0..blocks.rows());
    let scored = Scored {
        segments,
        queries: scratch.up.as_slice(),
        weights: None,
        keys: scratch.inner.as_slice(),
    };
    by.choose(layer.kernels, scored, &mut scratch.heads, (blocks, 0));
}

/// Scores the blocks of the keys that a query sees, by the scores of these: a block as its best, those around the query above
/// all.
fn score((choice, local): (&BlockChoice, usize), keys: &[f32], blocks: &mut [Entry]) {
    for (scored, keys) in blocks.iter_mut().zip(keys.chunks(choice.size)) {
        scored.0 = keys.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    }
    let own = (keys.len() - 1) / choice.size;
    for back in 0..local {
        blocks[own.saturating_sub(back)].0 = f32::INFINITY;
    }
}

impl Chosen<'_> {
    /// Masks the keys of blocks that a query's head did not choose.
    pub fn mask(&self, site: &BiasSite, logits: &mut [f32]) {
        if self.choice.by == BlockScore::MeanKey {
            let chosen = (&self.blocks, 0);
            let blocks = Pools {
                size: self.choice.size,
                tail: true,
            };
            mask_tokens(chosen, &self.segments, blocks, site, logits);
            return;
        }
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
