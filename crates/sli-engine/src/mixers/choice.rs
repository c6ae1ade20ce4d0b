//! Which keys queries choose by the scores of an indexer: `sum_h weight_h(i) * relu(q_h(i) k(j) * scale)`, and the best
//! stay. A key may stand for several tokens of the record, which are chosen together.

use std::ops::Range;

use sli_kernels::{BiasSite, Kernels, Mat, MatRef, PackedKind, PackedWeights, Segment, Store};

use super::top_keys::select;

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
}

/// What is scored: rows of a chunk, and the keys.
#[derive(Clone, Copy)]
pub(super) struct Scored<'a> {
    /// Records.
    pub segments: &'a [Segment],
    /// `[rows, heads * dim]`.
    pub queries: &'a [f32],
    /// `[rows, heads]`.
    pub weights: MatRef<'a>,
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
        } = self;
        let kind = PackedKind::for_weights(sli_kernels::Element::F32, kernels.compute());
        let mut packed = PackedWeights::new(0, 0, kind);
        let mut start = 0;
        for segment in of.segments {
            let tokens = segment.k.len();
            let count = self.keys(tokens);
            let keys = &of.keys[start * dim..(start + count) * dim];
            start += count;
            if count <= top_k {
                continue;
            }
            packed.reset(count, dim, kind);
            packed.pack_rows_f32(0, keys);
            let block = (SCORES / (heads * count)).max(1);
            // A query that sees no more keys than it may choose attends to all of them.
            let mut query = (top_k + 1) * rate - 1;
            while query < tokens {
                let queries = query..(query + block).min(tokens);
                let from = (segment.q.start + queries.start) * heads * dim;
                let rows = queries.len() * heads;
                let values = &of.queries[from..from + rows * dim];
                let values = MatRef::from_slice(values, rows, dim);
                scores.reset(rows, count);
                kernels.gemm(values, &packed, None, Store::Set, scores.view_mut());
                for query in queries.clone() {
                    let row = segment.q.start + query;
                    let place = query - queries.start;
                    let visible = (query + 1) / rate;
                    let products = (&*scores, place * heads);
                    let weights = of.weights.row(row);
                    self.choose_for(
                        products,
                        weights,
                        (visible, count),
                        chosen.row_mut(first + row),
                    );
                }
                query += block;
            }
        }
    }

    /// Chooses among the first `visible` of `count` keys.
    fn choose_for(
        self,
        (scores, first): (&Mat, usize),
        weights: &[f32],
        (visible, count): (usize, usize),
        chosen: &mut [f32],
    ) {
        let scale = (self.dim as f32).powf(-0.5);
        // What lies ahead takes part, as the worst there is: it decides about the order among equals.
        let mut scored: Vec<(f32, u32)> = (0..count)
            .map(|key| (f32::NEG_INFINITY, key as u32))
            .collect();
        for scored in &mut scored[..visible] {
            scored.0 = 0.0;
        }
        for (head, &weight) in weights.iter().enumerate() {
            let products = scores.row(first + head);
            for (scored, product) in scored[..visible].iter_mut().zip(products) {
                scored.0 += weight * (product * scale).max(0.0);
            }
        }
        select(&mut scored, self.top_k);
        chosen.fill(NONE);
        for (chosen, scored) in chosen.iter_mut().zip(&scored[..self.top_k]) {
            *chosen = scored.1 as f32;
        }
        chosen.sort_unstable_by(f32::total_cmp);
    }
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

/// Masks the tokens of keys that a query did not choose, where keys stand for `rate` tokens; those behind the last
/// whole key are seen.
pub(super) fn mask_tokens(
    (chosen, first): (&Mat, usize),
    segments: &[Segment],
    rate: usize,
    site: &BiasSite,
    logits: &mut [f32],
) {
    let chosen = chosen.row(row_of(segments, first, site));
    let tail = (rate > 1).then_some((site.query + 1) / rate);
    mask_row(chosen, rate, tail, site.keys.clone(), logits);
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
