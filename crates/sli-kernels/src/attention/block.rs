//! Attention of one block of queries, for the heads that share a key head.
//!
//! A row is one query of one head; rows are ordered by query, then head, so that the rows that see a
//! block of keys are consecutive.

use std::ops::Range;

use super::arguments::{AttentionArgs, KEY_BLOCK, Running, Segment};
use super::pack::{Layout, prefetch_ahead, row_words};
use super::softmax::{Row, finish_row, scale_row, softmax_row};
use crate::gemm::tile::{
    BLOCK_ROW_BYTES, BLOCK_STEPS, RowTiles, Widths, dispatch, panels_per_tile,
};
use crate::mat::MatMut;
use crate::simd::{PANEL, Panel, Simd, SimdOp, Tile};

const KEY_PANELS: usize = KEY_BLOCK / PANEL;

/// Words of scratch memory for `rows` rows.
pub(super) fn scratch_len(layout: &Layout, rows: usize) -> usize {
    let queries = layout.qk_steps.div_ceil(BLOCK_STEPS) * BLOCK_STEPS;
    // Queries, logits, probabilities, sums of values, running softmax.
    rows * (queries + KEY_BLOCK + BLOCK_STEPS + layout.v_panels * PANEL) + 2 * rows
}

pub(super) struct QueryBlock<'a, B> {
    pub args: &'a AttentionArgs<'a>,
    /// Index of the sequence.
    pub segment: usize,
    /// Query heads.
    pub heads: Range<usize>,
    /// Queries of the sequence.
    pub queries: Range<usize>,
    pub layout: Layout,
    /// Packed keys and values.
    pub packed: &'a [u32],
    /// [`scratch_len`] words.
    pub scratch: &'a mut [f32],
    pub out: &'a MatMut<'a>,
    pub of: B,
}

impl<B: Panel> SimdOp for QueryBlock<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let _ = self.of;
        let Self {
            args,
            layout,
            ref heads,
            ref queries,
            packed,
            out,
            ..
        } = self;
        let segment = &args.segments[self.segment];
        let rows = queries.len() * heads.len();
        let q_blocks = layout.qk_steps.div_ceil(BLOCK_STEPS);
        let (q, rest) = self.scratch.split_at_mut(q_blocks * rows * BLOCK_STEPS);
        let (logits, rest) = rest.split_at_mut(rows * KEY_BLOCK);
        let (probabilities, rest) = rest.split_at_mut(rows * BLOCK_STEPS);
        let (sums, rest) = rest.split_at_mut(rows * layout.v_panels * PANEL);
        let (maxima, rest) = rest.split_at_mut(rows);
        let totals = &mut rest[..rows];

        pack_queries(s, args, segment, heads, queries, layout.per_word, q);
        // Where the sums of a row wait between calls.
        let place = |row: usize| {
            (
                segment.q.start + queries.start + row / heads.len(),
                heads.start + row % heads.len(),
            )
        };
        match args.running.filter(|running| !running.begins) {
            Some(running) => {
                for row in 0..rows {
                    let (query, head) = place(row);
                    let waiting = waiting(running, &layout, query, head);
                    (maxima[row], totals[row]) = (waiting[0], waiting[1]);
                    for (panel, kept) in waiting[2..].chunks_exact(PANEL).enumerate() {
                        sums[(panel * rows + row) * PANEL..][..PANEL].copy_from_slice(kept);
                    }
                }
            }
            None => {
                sums.fill(0.0);
                for row in 0..rows {
                    let (query, head) = place(row);
                    let sink = args.sinks.map(|sinks| sinks.of(query, head));
                    maxima[row] = sink.unwrap_or(f32::NEG_INFINITY);
                    totals[row] = if sink.is_some() { 1.0 } else { 0.0 };
                }
            }
        }

        // Positions of keys are counted from the first one of this call.
        let first_key = args.first_key();
        let visible = |query: usize| {
            let seen = args.visible(segment, query);
            seen.start.saturating_sub(first_key)..seen.end.saturating_sub(first_key)
        };
        let seen = queries
            .clone()
            .map(visible)
            .fold((usize::MAX, 0), |(start, end), range| {
                (start.min(range.start), end.max(range.end.min(layout.keys)))
            });
        let mut x = [0.0; KEY_BLOCK];
        let mut block = seen.0 / KEY_BLOCK * KEY_BLOCK;
        while block < seen.1 {
            let keys = block..layout.keys.min(block + KEY_BLOCK);
            let sees = |query: &usize| {
                let range = visible(*query);
                range.start < keys.end && range.end > keys.start
            };
            if let Some(first) = queries.clone().find(sees) {
                let last = queries.clone().rfind(sees).unwrap_or(first);
                let first_row = (first - queries.start) * heads.len();
                let end_row = (last + 1 - queries.start) * heads.len();
                for (row, count) in RowTiles::new(first_row..end_row, S::TILE_ROWS) {
                    let query_of = |row: usize| queries.start + row / heads.len();
                    // Keys that any row of the tile sees, relative to the block.
                    let (start, _) = within(&visible(query_of(row)), &keys);
                    let (_, end) = within(&visible(query_of(row + count - 1)), &keys);
                    let products = Products {
                        layout: &layout,
                        packed,
                        rows,
                        row,
                        count,
                    };
                    products.logits::<S, B>(s, q, keys.start, start..end, logits);
                    for index in row..row + count {
                        let query = query_of(index);
                        let (from, to) = within(&visible(query), &keys);
                        let row = Row {
                            args,
                            segment: self.segment,
                            head: heads.start + index % heads.len(),
                            query: segment.q_start + query,
                            block: first_key + keys.start,
                            seen: from..to,
                            tile: start..end,
                        };
                        let p = &mut probabilities[index * BLOCK_STEPS..(index + 1) * BLOCK_STEPS];
                        let max = &mut maxima[index];
                        let correction = softmax_row::<S, B>(
                            s,
                            &row,
                            logits,
                            index,
                            rows,
                            &mut x,
                            p,
                            max,
                            &mut totals[index],
                        );
                        scale_row(s, correction, index, rows, sums);
                    }
                    products.values::<S, B>(s, probabilities, keys.start, start..end, sums);
                }
            }
            block += KEY_BLOCK;
        }

        if let Some(running) = args.running.filter(|running| !running.ends) {
            for row in 0..rows {
                let (query, head) = place(row);
                let waiting = waiting(running, &layout, query, head);
                (waiting[0], waiting[1]) = (maxima[row], totals[row]);
                for (panel, kept) in waiting[2..].chunks_exact_mut(PANEL).enumerate() {
                    kept.copy_from_slice(&sums[(panel * rows + row) * PANEL..][..PANEL]);
                }
            }
            return;
        }
        for query in queries.clone() {
            for head in heads.clone() {
                let row = (query - queries.start) * heads.len() + head - heads.start;
                let columns = head * args.v_dim..(head + 1) * args.v_dim;
                // SAFETY: tasks have different queries or heads.
                let out = unsafe { out.shared_part(segment.q.start + query, columns) };
                finish_row(s, totals[row], row, rows, sums, out);
            }
        }
    }
}

/// Maximum, total and sums of a query of one head between calls.
#[inline(always)]
fn waiting<'a>(running: Running<'a>, layout: &Layout, query: usize, head: usize) -> &'a mut [f32] {
    let width = layout.v_panels * PANEL + 2;
    // SAFETY: tasks have different queries or heads, and a task has one of these at a time.
    unsafe {
        running
            .sums
            .shared_part(query, head * width..(head + 1) * width)
    }
}

/// The part of `keys` that is visible, relative to its start. Both ends are monotonic in the query
/// for every mask and with what joins it, so the rows of a tile see no key outside of the first row's start and the last
/// row's end.
#[inline(always)]
fn within(visible: &Range<usize>, keys: &Range<usize>) -> (usize, usize) {
    let start = visible.start.clamp(keys.start, keys.end) - keys.start;
    let end = visible.end.clamp(keys.start, keys.end) - keys.start;
    (start, end.max(start))
}

/// Puts the rows into the layout of packed activations.
#[inline(always)]
fn pack_queries<S: Simd>(
    s: S,
    args: &AttentionArgs,
    segment: &Segment,
    heads: &Range<usize>,
    queries: &Range<usize>,
    per_word: usize,
    q: &mut [f32],
) {
    let rows = queries.len() * heads.len();
    for query in queries.clone() {
        let row = args.q.row(segment.q.start + query);
        for head in heads.clone() {
            let index = (query - queries.start) * heads.len() + head - heads.start;
            let part = &row[head * args.qk_dim..(head + 1) * args.qk_dim];
            for (block, part) in part.chunks(BLOCK_STEPS * per_word).enumerate() {
                prefetch_ahead(s, part, args.q.stride());
                let to = &mut q[(block * rows + index) * BLOCK_STEPS..][..BLOCK_STEPS];
                row_words(s, part, per_word, bytemuck::cast_slice_mut(to));
            }
        }
    }
}

/// The two products of a tile of rows with a block of keys.
struct Products<'a> {
    layout: &'a Layout,
    packed: &'a [u32],
    rows: usize,
    row: usize,
    count: usize,
}

impl Products<'_> {
    /// Logits of the keys `seen` (relative to `block`), `[key panel, row, 32]`.
    #[inline(always)]
    fn logits<S: Simd, B: Panel>(
        &self,
        s: S,
        q: &[f32],
        block: usize,
        seen: Range<usize>,
        logits: &mut [f32],
    ) {
        let Layout { qk_steps, .. } = *self.layout;
        let panels = seen.start / PANEL..seen.end.div_ceil(PANEL);
        assert!(panels.end <= KEY_PANELS);
        for (panel, width) in Widths::new(panels, panels_per_tile::<S>(self.count)) {
            let b = &self.packed[(block + panel * PANEL) * qk_steps..][..width * PANEL * qk_steps];
            let c = &mut logits[(panel * self.rows + self.row) * PANEL..];
            let c = &mut c[..((width - 1) * self.rows + self.count) * PANEL];
            for first in (0..qk_steps).step_by(BLOCK_STEPS) {
                let a = &q[(first / BLOCK_STEPS * self.rows + self.row) * BLOCK_STEPS..];
                let a = &a[..self.count * BLOCK_STEPS];
                let b = b[first * PANEL..].as_ptr().cast::<u8>();
                let tile = Tile {
                    a: a.as_ptr().cast(),
                    b,
                    b_stride: qk_steps * B::STEP_BYTES,
                    steps: BLOCK_STEPS.min(qk_steps - first),
                    c: c.as_mut_ptr(),
                    c_stride: self.rows * PANEL,
                    b_ahead: b,
                    a_ahead: a.as_ptr().cast(),
                    fresh: first == 0,
                };
                // SAFETY: `a`, `b` and `c` are what the tile covers.
                unsafe { dispatch::<S, B>(s, self.count, width, &tile) };
            }
        }
    }

    /// Adds probabilities times values of the keys `seen` to `sums`, `[value panel, row, 32]`.
    #[inline(always)]
    fn values<S: Simd, B: Panel>(
        &self,
        s: S,
        probabilities: &[f32],
        block: usize,
        seen: Range<usize>,
        sums: &mut [f32],
    ) {
        let Layout {
            per_word,
            key_steps,
            v_panels,
            ..
        } = *self.layout;
        let (first, end) = (seen.start / per_word, seen.end.div_ceil(per_word));
        if first == end {
            return;
        }
        let values = &self.packed[self.layout.key_words()..];
        let a = &probabilities[self.row * BLOCK_STEPS..(self.row + self.count) * BLOCK_STEPS];
        for (panel, width) in Widths::new(0..v_panels, panels_per_tile::<S>(self.count)) {
            let at = (panel * key_steps + block / per_word + first) * PANEL;
            let b = &values[at..at + ((width - 1) * key_steps + end - first) * PANEL];
            let c = &mut sums[(panel * self.rows + self.row) * PANEL..];
            let c = &mut c[..((width - 1) * self.rows + self.count) * PANEL];
            let tile = Tile {
                a: a[first..].as_ptr().cast(),
                b: b.as_ptr().cast(),
                b_stride: key_steps * B::STEP_BYTES,
                steps: end - first,
                c: c.as_mut_ptr(),
                c_stride: self.rows * PANEL,
                b_ahead: b.as_ptr().cast(),
                a_ahead: a.as_ptr().cast(),
                fresh: false,
            };
            // SAFETY: `a` from step `first` on, `b` and `c` are what the tile covers.
            unsafe { dispatch::<S, B>(s, self.count, width, &tile) };
        }
    }
}

const _: () = assert!(KEY_BLOCK <= BLOCK_STEPS && BLOCK_ROW_BYTES == BLOCK_STEPS * 4);
