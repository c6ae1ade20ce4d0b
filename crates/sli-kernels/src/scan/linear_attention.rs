//! Linear attention: heads whose state is a matrix of keys and values, which decays, is corrected and added to
//! row by row (gated delta rule, Kimi delta attention, lightning attention, RWKV 5 to 7).

use std::ops::Range;

use super::convolution::{get, put};
use super::{blocks, runs};
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp};

/// What linear attention reads beside its values `[rows, heads * value_dim]`.
#[derive(Clone, Copy)]
pub struct LinearAttention<'a> {
    /// `[rows, key_heads * key_dim]`.
    pub query: MatRef<'a>,
    /// `[rows, key_heads * key_dim]`.
    pub key: MatRef<'a>,
    /// Heads of queries and keys; each serves as many heads of values that follow each other.
    pub key_heads: usize,
    /// Heads of values.
    pub heads: usize,
    /// What is left of the state.
    pub decay: Decay<'a>,
    /// What is added to it.
    pub update: Update<'a>,
    /// Factor on what is read.
    pub scale: f32,
}

/// Factors on the state.
#[derive(Clone, Copy)]
pub enum Decay<'a> {
    /// Of a head `[rows, heads]`.
    Heads(MatRef<'a>),
    /// Of a feature of a head's keys `[rows, heads * key_dim]`.
    Keys(MatRef<'a>),
    /// Of a head, the same for all rows `[heads]`.
    FixedHeads(&'a [f32]),
    /// Of a feature of a head's keys, the same for all rows `[heads * key_dim]`.
    FixedKeys(&'a [f32]),
}

/// How a row changes the state `S` `[key_dim, value_dim]` of a head, whose decay is `w`, and what it reads of it.
#[derive(Clone, Copy)]
pub enum Update<'a> {
    /// `S = w S + k v`; reads `q S`.
    Add,
    /// `S = w S + k (strength (v - k w S))`; reads `q S`. The strengths are `[rows, heads]`.
    Delta(MatRef<'a>),
    /// `S = w S + k v`; reads `q (S + bonus k v)` of the `S` before. The bonus is `[heads * key_dim]`.
    Bonus(&'a [f32]),
    /// `S = w S + to (from S) + k v`; reads `q S`.
    LowRank {
        /// `[rows, heads * key_dim]`.
        from: MatRef<'a>,
        /// `[rows, heads * key_dim]`.
        to: MatRef<'a>,
    },
}

impl Kernels {
    /// Replaces the values `x` by what is read, row by row within each record.
    ///
    /// `x` is `[rows, heads * value_dim]`, `state` `[heads, key_dim, value_dim]`: what is behind a row. `starts`
    /// are the rows with which records begin, whose state is zero.
    pub fn linear_attention(
        &self,
        attention: LinearAttention,
        starts: &[usize],
        state: &mut [f32],
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Scan);
        let (rows, columns, heads) = (x.rows(), x.cols(), attention.heads);
        if columns == 0 || rows == 0 {
            return;
        }
        let sizes = attention.check(rows, columns);
        assert_eq!(state.len(), heads * sizes.key * sizes.value, "the state");
        let state = SharedSlice::new(state);
        let parts: Vec<Range<usize>> = blocks(0..sizes.value).collect();
        self.tasks(heads * parts.len(), |task| {
            let (head, part) = (task / parts.len(), parts[task % parts.len()].clone());
            let width = part.len().next_multiple_of(crate::simd::MAX_LANES);
            self.with_scratch(sizes.key * (width + 3), |scratch| {
                let (own, rest) =
                    scratch[..sizes.key * (width + 3)].split_at_mut(sizes.key * width);
                let (decay, rest) = rest.split_at_mut(sizes.key);
                let (next, products) = rest.split_at_mut(sizes.key);
                self.isa().run(Columns {
                    attention,
                    sizes,
                    head,
                    part,
                    starts,
                    state: &state,
                    x: &x,
                    own,
                    width,
                    factors: [decay, next, products],
                });
            });
        });
    }
}

/// Features of a head.
#[derive(Clone, Copy)]
struct Sizes {
    key: usize,
    value: usize,
}

impl LinearAttention<'_> {
    /// The sizes of a head of which everything has the shape that it must have.
    fn check(&self, rows: usize, columns: usize) -> Sizes {
        let (heads, key_heads) = (self.heads, self.key_heads);
        assert!(
            heads > 0 && key_heads > 0 && heads.is_multiple_of(key_heads),
            "{heads} heads of {key_heads} heads of keys"
        );
        assert!(
            columns.is_multiple_of(heads),
            "{columns} columns of {heads} heads"
        );
        let sizes = Sizes {
            key: self.key.cols() / key_heads,
            value: columns / heads,
        };
        let shape = |mat: MatRef| (mat.rows(), mat.cols());
        for mat in [self.query, self.key] {
            assert_eq!(
                shape(mat),
                (rows, key_heads * sizes.key),
                "queries and keys"
            );
        }
        let keys = heads * sizes.key;
        match self.decay {
            Decay::Heads(decay) => assert_eq!(shape(decay), (rows, heads), "decays"),
            Decay::Keys(decay) => assert_eq!(shape(decay), (rows, keys), "decays"),
            Decay::FixedHeads(decay) => assert_eq!(decay.len(), heads, "decays"),
            Decay::FixedKeys(decay) => assert_eq!(decay.len(), keys, "decays"),
        }
        match self.update {
            Update::Add => {}
            Update::Delta(strength) => assert_eq!(shape(strength), (rows, heads), "strengths"),
            Update::Bonus(bonus) => assert_eq!(bonus.len(), keys, "the bonus"),
            Update::LowRank { from, to } => {
                for mat in [from, to] {
                    assert_eq!(shape(mat), (rows, keys), "the correction");
                }
            }
        }
        sizes
    }
}

/// Some columns of the values of a head.
struct Columns<'a> {
    attention: LinearAttention<'a>,
    sizes: Sizes,
    head: usize,
    /// Columns of the head.
    part: Range<usize>,
    starts: &'a [usize],
    state: &'a SharedSlice<'a, f32>,
    x: &'a MatMut<'a>,
    /// The state of these columns `[key_dim, width]`.
    own: &'a mut [f32],
    width: usize,
    /// Room for what a row multiplies with: decays, the next row's, and products.
    factors: [&'a mut [f32]; 3],
}

/// Vectors that go along together.
const TOGETHER: usize = 4;

impl SimdOp for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Sizes { key, value } = self.sizes;
        let (head, part, width) = (self.head, self.part.clone(), self.width);
        let state = self.state;
        // SAFETY: tasks have different heads or columns.
        let kept = |row: usize| unsafe {
            let start = (head * key + row) * value + part.start;
            state.part_mut(start..start + part.len())
        };
        self.own.fill(0.0);
        for row in 0..key {
            self.own[row * width..][..part.len()].copy_from_slice(kept(row));
        }
        for (rows, begins) in runs(self.starts, self.x.rows()) {
            if begins {
                self.own.fill(0.0);
            }
            let mut at = 0;
            while at + TOGETHER * S::LANES <= part.len() {
                self.go::<S, TOGETHER>(s, rows.clone(), at);
                at += TOGETHER * S::LANES;
            }
            while at < part.len() {
                self.go::<S, 1>(s, rows.clone(), at);
                at += S::LANES;
            }
        }
        for row in 0..key {
            kept(row).copy_from_slice(&self.own[row * width..][..part.len()]);
        }
    }
}

impl Columns<'_> {
    /// The rows of a record, for some vectors of columns.
    #[inline(always)]
    fn go<S: Simd, const V: usize>(&mut self, s: S, rows: Range<usize>, at: usize) {
        match self.attention.update {
            Update::Add => self.along::<S, V, false, false, false>(s, rows, at),
            Update::Bonus(_) => self.along::<S, V, false, false, true>(s, rows, at),
            Update::Delta(_) => self.along::<S, V, true, false, false>(s, rows, at),
            Update::LowRank { .. } => self.along::<S, V, true, true, false>(s, rows, at),
        }
    }

    /// [`Self::go`] for a kind of update. What the state gives a row for its correction (`READS`) is summed up
    /// while the row before it changes the state.
    #[inline(always)]
    fn along<
        S: Simd,
        const V: usize,
        const READS: bool,
        const LOW_RANK: bool,
        const BONUS: bool,
    >(
        &mut self,
        s: S,
        rows: Range<usize>,
        at: usize,
    ) {
        let Self {
            attention,
            sizes: Sizes { key: dim, value },
            head,
            part,
            x,
            own,
            width,
            factors: [decay, next, products],
            ..
        } = self;
        let (dim, width, head) = (*dim, *width, *head);
        let own_head = head * dim..(head + 1) * dim;
        let key_head = head / (attention.heads / attention.key_heads);
        let key_head = key_head * dim..(key_head + 1) * dim;
        let columns = head * *value + part.start + at..head * *value + part.end;
        let columns = columns.start..columns.end.min(columns.start + V * S::LANES);
        let mut corrections = [s.splat(0.0); V];
        if READS {
            decays(attention.decay, rows.start, head, &own_head, decay);
            read_with(
                attention,
                rows.start,
                (&own_head, &key_head),
                decay,
                products,
            );
            for (state, &read) in own.chunks_exact(width).zip(&**products) {
                let read = s.splat(read);
                for (vector, sum) in corrections.iter_mut().enumerate() {
                    let state = s.get(&state[at + vector * S::LANES..]);
                    *sum = s.mul_add(read, state, *sum);
                }
            }
        } else {
            decays(attention.decay, rows.start, head, &own_head, decay);
        }
        for row in rows.clone() {
            let following = row + 1;
            if following < rows.end {
                decays(attention.decay, following, head, &own_head, next);
                if READS {
                    let places = (&own_head, &key_head);
                    read_with(attention, following, places, next, products);
                }
            }
            let query = &attention.query.row(row)[key_head.clone()];
            let key = &attention.key.row(row)[key_head.clone()];
            let to = match attention.update {
                Update::LowRank { to, .. } => &to.row(row)[own_head.clone()],
                Update::Bonus(bonus) => &bonus[own_head.clone()],
                Update::Add | Update::Delta(_) => key,
            };
            // SAFETY: tasks have different heads or columns.
            let x = unsafe { x.shared_part(row, columns.clone()) };
            let mut values: [S::F; V] = std::array::from_fn(|vector| {
                let end = x.len().min((vector + 1) * S::LANES);
                get(s, &x[vector * S::LANES..end])
            });
            if let Update::Delta(strength) = attention.update {
                let strength = s.splat(strength.row(row)[head]);
                for (value, correction) in values.iter_mut().zip(corrections) {
                    *value = s.mul(strength, s.sub(*value, correction));
                }
            }
            let mut read = [s.splat(0.0); V];
            let mut reads = [s.splat(0.0); V];
            for index in 0..dim {
                let (decay, key) = (s.splat(decay[index]), s.splat(key[index]));
                let (query, to) = (s.splat(query[index]), s.splat(to[index]));
                let product = s.splat(products[index]);
                let state = &mut own[index * width + at..][..V * S::LANES];
                for vector in 0..V {
                    let state = &mut state[vector * S::LANES..][..S::LANES];
                    let old = s.get(state);
                    if BONUS {
                        let with = s.mul_add(s.mul(to, key), values[vector], old);
                        read[vector] = s.mul_add(query, with, read[vector]);
                    }
                    let mut new = s.mul(decay, old);
                    if LOW_RANK {
                        new = s.mul_add(to, corrections[vector], new);
                    }
                    new = s.mul_add(key, values[vector], new);
                    s.put(state, new);
                    if !BONUS {
                        read[vector] = s.mul_add(query, new, read[vector]);
                    }
                    if READS {
                        reads[vector] = s.mul_add(product, new, reads[vector]);
                    }
                }
            }
            let scale = s.splat(attention.scale);
            for (vector, &read) in read.iter().enumerate() {
                let end = x.len().min((vector + 1) * S::LANES);
                put(s, &mut x[vector * S::LANES..end], s.mul(scale, read));
            }
            corrections = reads;
            std::mem::swap(decay, next);
        }
    }
}

/// The factors of a row on the features of a head's keys.
#[inline(always)]
fn decays(decay: Decay<'_>, row: usize, head: usize, own_head: &Range<usize>, to: &mut [f32]) {
    match decay {
        Decay::Heads(decay) => to.fill(decay.row(row)[head]),
        Decay::Keys(decay) => to.copy_from_slice(&decay.row(row)[own_head.clone()]),
        Decay::FixedHeads(decay) => to.fill(decay[head]),
        Decay::FixedKeys(decay) => to.copy_from_slice(&decay[own_head.clone()]),
    }
}

/// What a row multiplies the state in front of it with for its correction; its decays are given.
#[inline(always)]
fn read_with(
    attention: &LinearAttention<'_>,
    row: usize,
    (own_head, key_head): (&Range<usize>, &Range<usize>),
    decay: &[f32],
    to: &mut [f32],
) {
    if let Update::LowRank { from, .. } = attention.update {
        to.copy_from_slice(&from.row(row)[own_head.clone()]);
    } else {
        let key = &attention.key.row(row)[key_head.clone()];
        for ((to, decay), key) in to.iter_mut().zip(decay).zip(key) {
            *to = decay * key;
        }
    }
}
