//! The scan of Mamba-2 (Dao and Gu 2024): heads of several features that decay together.

use std::ops::Range;

use super::convolution::{get, put};
use super::runs;
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

/// What the scan reads beside its input `[rows, heads * head_dim]`.
#[derive(Clone, Copy)]
pub struct StateSpaceDual<'a> {
    /// Time steps `[rows, heads]`, after softplus and limits.
    pub time_steps: MatRef<'a>,
    /// What a row writes into the state, `[rows, groups * state]`.
    pub b: MatRef<'a>,
    /// What a row reads of it, `[rows, groups * state]`.
    pub c: MatRef<'a>,
    /// Groups of as many heads that share `b` and `c`.
    pub groups: usize,
    /// `ln(-A)` `[heads]`.
    pub a_log: &'a [f32],
    /// `D` of every head, or of every feature.
    pub skip: &'a [f32],
}

impl Kernels {
    /// `h = exp(dt A) h + dt B x^T`, `x = h^T C + D x` for every head, row by row within each record, with
    /// `A = -exp(a_log)`.
    ///
    /// `x` is `[rows, heads * head_dim]`, `state` `[heads, state, head_dim]`: what is behind a row.
    /// `starts` are the rows with which records begin, whose state is zero.
    pub fn state_space_dual(
        &self,
        scan: StateSpaceDual,
        starts: &[usize],
        state: &mut [f32],
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Scan);
        let (rows, columns, heads) = (x.rows(), x.cols(), scan.a_log.len());
        if columns == 0 || rows == 0 {
            return;
        }
        assert!(
            heads > 0 && columns.is_multiple_of(heads),
            "{columns} columns of {heads} heads"
        );
        assert!(
            scan.groups > 0 && heads.is_multiple_of(scan.groups),
            "{heads} heads in {} groups",
            scan.groups
        );
        let size = scan.b.cols() / scan.groups;
        assert_eq!(state.len(), size * columns, "the state");
        assert!(
            scan.skip.len() == heads || scan.skip.len() == columns,
            "a factor a head or feature"
        );
        let steps = (scan.time_steps.rows(), scan.time_steps.cols());
        assert_eq!(steps, (rows, heads), "time steps");
        for selected in [scan.b, scan.c] {
            let shape = (selected.rows(), selected.cols());
            assert_eq!(shape, (rows, scan.groups * size), "B and C");
        }
        let (state, dim) = (SharedSlice::new(state), columns / heads);
        self.tasks(heads, |head| {
            let values = head * size * dim..(head + 1) * size * dim;
            // SAFETY: tasks have different heads.
            let state = unsafe { state.part_mut(values) };
            let group = head / (heads / scan.groups);
            self.isa().run(OneHead {
                scan,
                head,
                selected: group * size..(group + 1) * size,
                columns: head * dim..(head + 1) * dim,
                starts,
                state,
                x: &x,
            });
        });
    }
}

/// One head.
struct OneHead<'a> {
    scan: StateSpaceDual<'a>,
    head: usize,
    /// The columns of its group in `b` and `c`.
    selected: Range<usize>,
    /// Its columns in `x`.
    columns: Range<usize>,
    starts: &'a [usize],
    /// `[state, head_dim]`.
    state: &'a mut [f32],
    x: &'a MatMut<'a>,
}

/// Vectors of a head that go along together.
const TOGETHER: usize = 4;

impl SimdOp for OneHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dim = self.columns.len();
        let zero = s.splat(0.0);
        let rate = s.sub(zero, math::exp(s, s.splat(self.scan.a_log[self.head])));
        for (rows, begins) in runs(self.starts, self.x.rows()) {
            if begins {
                self.state.fill(0.0);
            }
            for row in rows {
                let step = s.splat(self.scan.time_steps.row(row)[self.head]);
                let at = Row {
                    step,
                    decay: math::exp(s, s.mul(rate, step)),
                    b: &self.scan.b.row(row)[self.selected.clone()],
                    c: &self.scan.c.row(row)[self.selected.clone()],
                };
                // SAFETY: tasks have different heads.
                let x = unsafe { self.x.shared_part(row, self.columns.clone()) };
                let skip = |column: usize, end: usize| {
                    if self.scan.skip.len() == self.scan.a_log.len() {
                        s.splat(self.scan.skip[self.head])
                    } else {
                        get(s, &self.scan.skip[self.columns.start..][column..end])
                    }
                };
                let mut column = 0;
                while column + TOGETHER * S::LANES <= dim {
                    let skips = std::array::from_fn(|vector| {
                        let column = column + vector * S::LANES;
                        skip(column, column + S::LANES)
                    });
                    at.whole::<S, TOGETHER>(s, skips, column, self.state, x);
                    column += TOGETHER * S::LANES;
                }
                while column + S::LANES <= dim {
                    let skips = [skip(column, column + S::LANES)];
                    at.whole::<S, 1>(s, skips, column, self.state, x);
                    column += S::LANES;
                }
                if column < dim {
                    at.rest(s, skip(column, dim), column, self.state, x);
                }
            }
        }
    }
}

/// What a row is for a head.
struct Row<'a, F> {
    step: F,
    decay: F,
    b: &'a [f32],
    c: &'a [f32],
}

impl<F: Copy> Row<'_, F> {
    /// `V` vectors of `x` from a column on.
    #[inline(always)]
    fn whole<S: Simd<F = F>, const V: usize>(
        &self,
        s: S,
        skips: [F; V],
        column: usize,
        state: &mut [f32],
        x: &mut [f32],
    ) {
        let dim = x.len();
        let inputs: [F; V] = std::array::from_fn(|vector| s.get(&x[column + vector * S::LANES..]));
        let written = inputs.map(|input| s.mul(self.step, input));
        let mut sums = [s.splat(0.0); V];
        let values = state.chunks_exact_mut(dim);
        for ((state, &b), &c) in values.zip(self.b).zip(self.c) {
            let (b, c) = (s.splat(b), s.splat(c));
            let own = &mut state[column..column + V * S::LANES];
            for (vector, own) in own.chunks_exact_mut(S::LANES).enumerate() {
                let new = s.mul_add(self.decay, s.get(own), s.mul(written[vector], b));
                s.put(own, new);
                sums[vector] = s.mul_add(new, c, sums[vector]);
            }
        }
        for vector in 0..V {
            let sum = s.mul_add(skips[vector], inputs[vector], sums[vector]);
            s.put(&mut x[column + vector * S::LANES..], sum);
        }
    }

    /// Less than a vector, from a column on.
    #[inline(always)]
    fn rest<S: Simd<F = F>>(&self, s: S, skip: F, column: usize, state: &mut [f32], x: &mut [f32]) {
        let input = get(s, &x[column..]);
        let written = s.mul(self.step, input);
        let mut sum = s.splat(0.0);
        let values = state.chunks_exact_mut(x.len());
        for ((state, &b), &c) in values.zip(self.b).zip(self.c) {
            let own = &mut state[column..];
            let new = s.mul_add(self.decay, get(s, own), s.mul(written, s.splat(b)));
            put(s, own, new);
            sum = s.mul_add(new, s.splat(c), sum);
        }
        put(s, &mut x[column..], s.mul_add(skip, input, sum));
    }
}
