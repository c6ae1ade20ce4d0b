//! Which keys queries choose by the scores of an indexer: `sum_h weight_h(i) * relu(q_h(i) k(j) * scale)`, and the best
//! stay. A key may stand for several tokens of the record, which are chosen together.

use std::ops::Range;

use sli_kernels::{
    BiasSite, Element, Kernels, Mat, MatRef, PackedKind, PackedWeights, Segment, Store,
};
use sli_spec::Pools;

use super::top_keys::{Entry, largest_first};

/// Scores `[queries * heads, keys]` that are computed at a time, at most, in elements.
pub(super) const SCORES: usize = 1 << 20;

/// In the first place of a row: the query sees no more keys than it may choose.
pub(super) const ALL: f32 = -1.0;

/// In the last places of a row that has fewer.
pub(super) const NONE: f32 = f32::MAX;

/// How queries choose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// Heads of queries.
    pub heads: usize,
    /// Features of a head.
    pub dim: usize,
    /// Keys a query, at most.
    pub top_k: usize,
    /// Tokens that a key stands for. Those of the last key that is not whole are none's.
    pub rate: usize,
    /// What lies ahead of a query takes part: it decides about the order among equals.
    pub with_later: bool,
}

/// What is scored: rows of a chunk, and the keys.
#[derive(Clone, Copy)]
pub(super) struct Scored<'a> {
    /// Records.
    pub segments: &'a [Segment],
    /// `[rows, heads * dim]`.
    pub queries: &'a [f32],
    /// `[rows, heads]`; `None`: all are one.
    pub weights: Option<MatRef<'a>>,
    /// `[keys, dim]`, one record's after the other's.
    pub keys: &'a [f32],
}

impl Choice {
    /// Keys of a record of so many tokens.
    pub fn keys(self, tokens: usize) -> usize {
        tokens / self.rate
    }

    /// Whether no query of these records has to choose.
    pub fn is_idle(self, segments: &[Segment]) -> bool {
        let mut segments = segments.iter();
        segments.all(|segment| self.keys(segment.k.len()) <= self.top_k)
    }

    /// Says of every row from `first` on that it sees all keys.
    pub fn clear(chosen: &mut Mat, rows: Range<usize>) {
        for row in rows {
            if let Some(place) = chosen.row_mut(row).first_mut() {
                *place = ALL;
            }
        }
    }

    /// Chooses for the queries of all records; the choice of a row of the chunk goes to row `first` and its number of
    /// `chosen` `[rows, top_k or more]`, ascending. `scores` is room.
    pub fn choose(
        self,
        kernels: &Kernels,
        of: Scored<'_>,
        scores: &mut Mat,
        (chosen, first): (&mut Mat, usize),
    ) {
        let Self {
            heads,
            dim,
            top_k,
            rate,
            with_later,
        } = self;
        let mut packed = PackedWeights::new(0, 0, PackedKind::F32);
        let mut scored = Vec::new();
        let mut start = 0;
        for segment in of.segments {
            let tokens = segment.k.len();
            let count = self.keys(tokens);
            let keys = &of.keys[start * dim..(start + count) * dim];
            start += count;
            if count <= top_k {
                continue;
            }
            // A query that sees no more keys than it may choose attends to all of them.
            let some = (top_k + 1) * rate - 1..tokens;
            let first_row = segment.q.start;
            let queries = (&of.queries[first_row * heads * dim..], some);
            let room = (&mut packed, &mut *scores);
            products(
                kernels,
                [heads, dim],
                queries,
                keys,
                room,
                |query, products| {
                    let row = first_row + query;
                    let visible = (query + 1) / rate;
                    candidates(&mut scored, if with_later { count } else { visible });
                    let weights = of.weights.as_ref().map(|weights| weights.row(row));
                    self.score(products, weights, &mut scored[..visible]);
                    choose_best(&mut scored, top_k, chosen.row_mut(first + row));
                },
            );
        }
    }

    /// Scores the keys that a query sees.
    fn score(self, products: MatRef<'_>, weights: Option<&[f32]>, scored: &mut [Entry]) {
        let scale = (self.dim as f32).powf(-0.5);
        for scored in &mut *scored {
            scored.0 = 0.0;
        }
        for head in 0..self.heads {
            let weight = weights.map_or(1.0, |weights| weights[head]);
            let products = products.row(head);
            for (scored, product) in scored.iter_mut().zip(products) {
                scored.0 += weight * (product * scale).max(0.0);
            }
        }
    }
}

/// Hands on the products `[heads, keys]` of some queries of a record with its keys; `queries` `[tokens, heads * dim]`, `keys`
/// `[keys, dim]`. They are computed some at a time, in `scores`.
pub(super) fn products(
    kernels: &Kernels,
    [heads, dim]: [usize; 2],
    (queries, some): (&[f32], Range<usize>),
    keys: &[f32],
    (packed, scores): (&mut PackedWeights, &mut Mat),
    mut each: impl FnMut(usize, MatRef<'_>),
) {
    let count = keys.len() / dim;
    let kind = PackedKind::for_weights(Element::F32, kernels.compute());
    packed.reset(count, dim, kind);
    packed.pack_rows_f32(0, keys);
    let block = (SCORES / (heads * count)).max(1);
    for first in some.clone().step_by(block) {
        let block = first..some.end.min(first + block);
        let rows = block.len() * heads;
        let values = &queries[first * heads * dim..][..rows * dim];
        let values = MatRef::from_slice(values, rows, dim);
        scores.reset(rows, count);
        kernels.gemm(values, packed, None, Store::Set, scores.view_mut());
        for query in block {
            let own = (query - first) * heads;
            each(query, scores.rows_view(own..own + heads));
        }
    }
}

/// All that a query could choose, as the worst there is, which what lies ahead of it stays.
pub(super) fn candidates(scored: &mut Vec<Entry>, count: usize) {
    scored.clear();
    scored.extend((0..count).map(|place| (f32::NEG_INFINITY, place as u32)));
}

/// Writes the places of the best `top_k`, ascending. What lies ahead is never among them.
pub(super) fn choose_best(scored: &mut [Entry], top_k: usize, chosen: &mut [f32]) {
    largest_first(scored, top_k);
    chosen.fill(NONE);
    let best = scored.iter().take(top_k);
    let seen = best.filter(|scored| scored.0 > f32::NEG_INFINITY);
    for (chosen, scored) in chosen.iter_mut().zip(seen) {
        *chosen = scored.1 as f32;
    }
    chosen.sort_unstable_by(f32::total_cmp);
}

/// The row of a query in what was chosen. `first` is the row that the segments' row 0 is.
fn row_of(segments: &[Segment], first: usize, site: &BiasSite) -> usize {
    let segment = &segments[site.segment];
    first + segment.q.start + site.query - segment.q_start
}

/// The keys that a row chose from `start` on; `None`: all.
fn chosen_from(chosen: &[f32], start: usize) -> Option<impl Iterator<Item = usize> + '_> {
    if chosen.first().is_none_or(|&key| key == ALL) {
        return None;
    }
    let from = chosen.partition_point(|&key| (key as usize) < start);
    let own = chosen[from..].iter().take_while(|&&key| key < NONE);
    Some(own.map(|&key| key as usize))
}

/// Masks the tokens that a query does not see, where keys stand for a pool of them.
pub(super) fn mask_tokens(
    (chosen, first): (&Mat, usize),
    segments: &[Segment],
    pools: Pools,
    site: &BiasSite,
    logits: &mut [f32],
) {
    let chosen = chosen.row(row_of(segments, first, site));
    let whole = (site.query + 1) / pools.size;
    if !pools.tail {
        // Also where the query had nothing to choose.
        let behind = (whole * pools.size).saturating_sub(site.keys.start);
        if let Some(behind) = logits.get_mut(behind..) {
            behind.fill(f32::NEG_INFINITY);
        }
    }
    let tail = pools.tail.then_some(whole);
    mask_row(chosen, pools.size, tail, site.keys.clone(), logits);
}

/// Masks the tokens of keys that are not chosen; `tail`: a key that is seen all the same.
pub(super) fn mask_row(
    chosen: &[f32],
    rate: usize,
    tail: Option<usize>,
    tokens: Range<usize>,
    logits: &mut [f32],
) {
    let Some(chosen) = chosen_from(chosen, tokens.start / rate) else {
        return;
    };
    let mut chosen = chosen.peekable();
    for (token, logit) in tokens.zip(logits) {
        let key = token / rate;
        while chosen.next_if(|&chosen| chosen < key).is_some() {}
        if chosen.peek() != Some(&key) && tail != Some(key) {
            *logit = f32::NEG_INFINITY;
        }
    }
}
