//! Lightning attention by blocks of a record, with tables of decays: rows of a block meet each other, and a summary
//! of the blocks before.

use std::ops::Range;

use super::convolution::{get, put};
use super::runs;
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp};

/// What attention by blocks reads beside its values `[rows, heads * value_dim]`.
#[derive(Clone, Copy)]
pub struct BlockAttention<'a> {
    /// `[rows, heads * key_dim]`.
    pub query: MatRef<'a>,
    /// `[rows, heads * key_dim]`.
    pub key: MatRef<'a>,
    /// Heads.
    pub heads: usize,
    /// Rows of a block.
    pub block: usize,
    /// Factors on what a row of a block reads of the summary `[heads, block]`.
    pub of_query: &'a [f32],
    /// Factors on what a row of a block adds to the next summary `[heads, block]`.
    pub of_key: &'a [f32],
    /// Factors on what a row reads of a row of its block up to itself `[heads, block, block]`.
    pub of_pair: &'a [f32],
    /// What is left of a summary behind a block `[heads]`.
    pub of_block: &'a [f32],
}

impl BlockAttention<'_> {
    /// Values of what is known of a record in front of a row: for each head the summary `[key_dim, value_dim]`, and of
    /// the open block's rows the keys `[key_dim, block]` and the values `[block, value_dim]`; then how many rows these are.
    pub const fn state_values(heads: usize, key: usize, value: usize, block: usize) -> usize {
        heads * (key * value + key * block + block * value) + 1
    }
}

impl Kernels {
    /// Replaces the values `x` by what is read. With `f` rows of its block in front of a row:
    /// `y = of_query[f] q S + sum_j of_pair[f, j] (q . k_j) v_j` over the rows `j <= f` of the block, and behind the last one
    /// `S = of_block S + sum_j of_key[j] k_j v_j`.
    ///
    /// `x` is `[rows, heads * value_dim]`, `state` what is known in front of the rows and then behind them
    /// ([`BlockAttention::state_values`]). `starts` are the rows with which records begin, about which nothing is known.
    pub fn block_attention(
        &self,
        attention: BlockAttention,
        starts: &[usize],
        state: &mut [f32],
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Scan);
        let BlockAttention { heads, block, .. } = attention;
        if x.cols() == 0 || x.rows() == 0 {
            return;
        }
        let sizes = attention.check(x.rows(), x.cols());
        let values = BlockAttention::state_values(heads, sizes.key, sizes.value, block);
        assert_eq!(state.len(), values, "the state");
        let (state, open) = state.split_at_mut(values - 1);
        let carried = open[0] as usize;
        assert!(carried < block, "{carried} rows of a block of {block}");
        let of_head = state.len() / heads;
        let shared = SharedSlice::new(state);
        self.tasks(heads, |head| {
            self.with_scratch(TOGETHER * block, |weights| {
                // SAFETY: tasks have different heads.
                let own = unsafe { shared.part_mut(head * of_head..(head + 1) * of_head) };
                let (summary, own) = own.split_at_mut(sizes.key * sizes.value);
                let (keys, values) = own.split_at_mut(sizes.key * block);
                self.isa().run(HeadRows {
                    attention: &attention,
                    sizes,
                    head,
                    starts,
                    carried,
                    x: &x,
                    summary,
                    keys,
                    values,
                    weights,
                });
            });
        });
        let last = runs(starts, x.rows()).last();
        let behind = last.map_or(0, |(rows, begins)| {
            (rows.len() + if begins { 0 } else { carried }) % block
        });
        open[0] = behind as f32;
    }
}

/// Features of a head.
#[derive(Clone, Copy)]
struct Sizes {
    key: usize,
    value: usize,
}

impl BlockAttention<'_> {
    /// The sizes of a head of which everything has the shape that it must have.
    fn check(&self, rows: usize, columns: usize) -> Sizes {
        let (heads, block) = (self.heads, self.block);
        assert!(heads > 0 && block > 0, "heads and rows of a block");
        let keys = self.key.cols();
        assert!(
            columns.is_multiple_of(heads) && keys.is_multiple_of(heads),
            "{keys} and {columns} columns of {heads} heads"
        );
        for mat in [self.query, self.key] {
            assert_eq!((mat.rows(), mat.cols()), (rows, keys), "queries and keys");
        }
        let lengths = [self.of_query, self.of_key, self.of_pair, self.of_block].map(<[f32]>::len);
        let expected = [heads * block, heads * block, heads * block * block, heads];
        assert_eq!(lengths, expected, "tables of factors");
        Sizes {
            key: keys / heads,
            value: columns / heads,
        }
    }
}

/// Rows, or features of keys, that go along together.
const TOGETHER: usize = 4;
/// Vectors of their values that do.
const VECTORS: usize = 4;

/// One head.
struct HeadRows<'a> {
    attention: &'a BlockAttention<'a>,
    sizes: Sizes,
    head: usize,
    starts: &'a [usize],
    /// Rows of the open block in front of the first row.
    carried: usize,
    x: &'a MatMut<'a>,
    /// `[key_dim, value_dim]`.
    summary: &'a mut [f32],
    /// `[key_dim, block]`.
    keys: &'a mut [f32],
    /// `[block, value_dim]`.
    values: &'a mut [f32],
    /// Room for what each of some rows takes of each of its block `[TOGETHER, block]`.
    weights: &'a mut [f32],
}

impl SimdOp for HeadRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let block = self.attention.block;
        let mut open = self.carried;
        for (rows, begins) in runs(self.starts, self.x.rows()) {
            if begins {
                self.summary.fill(0.0);
                open = 0;
            }
            let mut row = rows.start;
            while row < rows.end {
                let count = TOGETHER.min(rows.end - row).min(block - open);
                if count == TOGETHER {
                    self.go::<S, TOGETHER>(s, row, open);
                    (row, open) = (row + TOGETHER, open + TOGETHER);
                } else {
                    self.go::<S, 1>(s, row, open);
                    (row, open) = (row + 1, open + 1);
                }
                if open == block {
                    self.close(s);
                    open = 0;
                }
            }
        }
    }
}

impl HeadRows<'_> {
    /// Some rows, in front of which are `open` rows of their block.
    #[inline(always)]
    fn go<S: Simd, const R: usize>(&mut self, s: S, row: usize, open: usize) {
        let Sizes { key: dim, value } = self.sizes;
        let (attention, head) = (self.attention, self.head);
        let block = attention.block;
        let keys = head * dim..(head + 1) * dim;
        let queries: [&[f32]; R] =
            std::array::from_fn(|index| &attention.query.row(row + index)[keys.clone()]);
        let x: [&mut [f32]; R] = std::array::from_fn(|index| {
            // SAFETY: tasks have different heads, and these are different rows.
            unsafe {
                self.x
                    .shared_part(row + index, head * value..(head + 1) * value)
            }
        });
        for (index, x) in x.iter().enumerate() {
            let key = &attention.key.row(row + index)[keys.clone()];
            for (to, &key) in self.keys.chunks_exact_mut(block).zip(key) {
                to[open + index] = key;
            }
            self.values[(open + index) * value..][..value].copy_from_slice(x);
        }
        for at in (0..open + R).step_by(S::LANES) {
            let end = block.min(at + S::LANES);
            let mut sums = [s.splat(0.0); R];
            for (index, keys) in self.keys.chunks_exact(block).enumerate() {
                let keys = get(s, &keys[at..end]);
                for (sum, query) in sums.iter_mut().zip(queries) {
                    *sum = s.mul_add(s.splat(query[index]), keys, *sum);
                }
            }
            for (index, sum) in sums.into_iter().enumerate() {
                let of_pair = &attention.of_pair[(head * block + open + index) * block..][at..end];
                let weights = &mut self.weights[index * block..][at..end];
                put(s, weights, s.mul(sum, get(s, of_pair)));
            }
        }
        let of_query: [f32; R] =
            std::array::from_fn(|index| attention.of_query[head * block + open + index]);
        let mut at = 0;
        let mut x = x;
        while at + VECTORS * S::LANES <= value {
            let columns = at..at + VECTORS * S::LANES;
            self.read::<S, R, VECTORS>(s, (&queries, of_query), open, columns, &mut x);
            at += VECTORS * S::LANES;
        }
        while at < value {
            let columns = at..value.min(at + S::LANES);
            self.read::<S, R, 1>(s, (&queries, of_query), open, columns, &mut x);
            at += S::LANES;
        }
    }

    /// Some columns of what these rows read.
    #[inline(always)]
    fn read<S: Simd, const R: usize, const V: usize>(
        &mut self,
        s: S,
        (queries, of_query): (&[&[f32]; R], [f32; R]),
        open: usize,
        columns: Range<usize>,
        x: &mut [&mut [f32]; R],
    ) {
        let Sizes { key: _, value } = self.sizes;
        let block = self.attention.block;
        let vectors = |from: &[f32]| -> [S::F; V] {
            let own = &from[columns.clone()];
            std::array::from_fn(|vector| {
                let end = own.len().min((vector + 1) * S::LANES);
                get(s, &own[vector * S::LANES..end])
            })
        };
        let mut sums = [[s.splat(0.0); V]; R];
        for (index, summary) in self.summary.chunks_exact(value).enumerate() {
            let summary = vectors(summary);
            for ((sums, query), factor) in sums.iter_mut().zip(queries).zip(of_query) {
                let query = s.splat(query[index] * factor);
                for (sum, summary) in sums.iter_mut().zip(summary) {
                    *sum = s.mul_add(query, summary, *sum);
                }
            }
        }
        let mut seen = self.values.chunks_exact(value).enumerate();
        for (other, values) in seen.by_ref().take(open + 1) {
            let values = vectors(values);
            for (index, sums) in sums.iter_mut().enumerate() {
                let weight = s.splat(self.weights[index * block + other]);
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = s.mul_add(weight, values, *sum);
                }
            }
        }
        // Each of these rows is seen by itself and those behind it.
        for (first, (other, values)) in (1..R).zip(seen) {
            let values = vectors(values);
            for (index, sums) in sums.iter_mut().enumerate() {
                if index >= first {
                    let weight = s.splat(self.weights[index * block + other]);
                    for (sum, values) in sums.iter_mut().zip(values) {
                        *sum = s.mul_add(weight, values, *sum);
                    }
                }
            }
        }
        for (x, sums) in x.iter_mut().zip(sums) {
            let x = &mut x[columns.clone()];
            for (vector, sum) in sums.into_iter().enumerate() {
                let end = x.len().min((vector + 1) * S::LANES);
                put(s, &mut x[vector * S::LANES..end], sum);
            }
        }
    }

    /// The summary behind a whole block.
    #[inline(always)]
    fn close<S: Simd>(&mut self, s: S) {
        let Sizes { key: dim, value } = self.sizes;
        let block = self.attention.block;
        let of_key = &self.attention.of_key[self.head * block..][..block];
        for keys in self.keys.chunks_exact_mut(block) {
            for (key, factor) in keys.iter_mut().zip(of_key) {
                *key *= factor;
            }
        }
        let mut at = 0;
        while at < value {
            let vectors = if at + VECTORS * S::LANES <= value {
                VECTORS
            } else {
                1
            };
            let columns = at..value.min(at + vectors * S::LANES);
            let whole = dim / TOGETHER * TOGETHER;
            for feature in (0..whole).step_by(TOGETHER) {
                if vectors == VECTORS {
                    self.sum_up::<S, TOGETHER, VECTORS>(s, feature, columns.clone());
                } else {
                    self.sum_up::<S, TOGETHER, 1>(s, feature, columns.clone());
                }
            }
            for feature in whole..dim {
                if vectors == VECTORS {
                    self.sum_up::<S, 1, VECTORS>(s, feature, columns.clone());
                } else {
                    self.sum_up::<S, 1, 1>(s, feature, columns.clone());
                }
            }
            at = columns.end;
        }
    }

    /// Some columns of the summary of some features of keys, behind a whole block, whose keys are scaled.
    #[inline(always)]
    fn sum_up<S: Simd, const R: usize, const V: usize>(
        &mut self,
        s: S,
        feature: usize,
        columns: Range<usize>,
    ) {
        let Sizes { key: _, value } = self.sizes;
        let block = self.attention.block;
        let ends = |vector: usize| columns.len().min((vector + 1) * S::LANES);
        let mut sums = [[s.splat(0.0); V]; R];
        for (other, values) in self.values.chunks_exact(value).enumerate() {
            let values = &values[columns.clone()];
            let values: [S::F; V] =
                std::array::from_fn(|vector| get(s, &values[vector * S::LANES..ends(vector)]));
            for (index, sums) in sums.iter_mut().enumerate() {
                let key = s.splat(self.keys[(feature + index) * block + other]);
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = s.mul_add(key, values, *sum);
                }
            }
        }
        let left = s.splat(self.attention.of_block[self.head]);
        for (index, sums) in sums.into_iter().enumerate() {
            let summary = &mut self.summary[(feature + index) * value..][columns.clone()];
            for (vector, sum) in sums.into_iter().enumerate() {
                let summary = &mut summary[vector * S::LANES..ends(vector)];
                let new = s.mul_add(left, get(s, summary), sum);
                put(s, summary, new);
            }
        }
    }
}
