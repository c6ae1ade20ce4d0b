//! The exponential gates of xLSTM (Beck et al. 2024): every head has the largest exponent so far, which all of its state
//! is relative to.

use super::convolution::{get, put};
use super::runs;
use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

impl Kernels {
    /// With `m = max(ln sigmoid(forget) + m, input)`, row by row within each record: `forget` becomes
    /// `exp(ln sigmoid(forget) + m_before - m)`, `input` `exp(input - m)`, and `floor` `exp(-m)`.
    ///
    /// All are `[rows, heads]`, `state` is `[heads]`: `m` behind a row. `starts` are the rows with which records begin,
    /// in front of which it is zero.
    pub fn exponential_gates(
        &self,
        starts: &[usize],
        state: &mut [f32],
        [input, forget, floor]: [MatMut; 3],
    ) {
        let _lap = self.lap(Stage::Scan);
        let (rows, heads) = (input.rows(), input.cols());
        assert_eq!(state.len(), heads, "an exponent a head");
        for gate in [&forget, &floor] {
            assert_eq!((gate.rows(), gate.cols()), (rows, heads), "gates");
        }
        if rows > 0 && heads > 0 {
            self.isa().run(Gates {
                starts,
                state,
                of_rows: [input, forget, floor],
            });
        }
    }

    /// `x = sums / (max(|weights|, floor) + epsilon)` for every head: `read` is `[rows, heads * (dim + 1)]`, of every head
    /// its sums and then its weight; x is `[rows, heads * dim]`, `floor` `[rows, heads]`.
    pub fn divide_by_weights(&self, epsilon: f32, read: MatRef, floor: MatRef, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        let heads = floor.cols();
        assert!(heads > 0 && x.cols().is_multiple_of(heads), "equal heads");
        let dim = x.cols() / heads;
        assert_eq!(read.cols(), x.cols() + heads, "a weight a head");
        assert_eq!((read.rows(), floor.rows()), (x.rows(), x.rows()), "rows");
        if dim == 0 {
            return;
        }
        self.each_row_mut(&x, |row, out| {
            let heads = read.row(row).chunks_exact(dim + 1).zip(floor.row(row));
            for (out, (read, floor)) in out.chunks_exact_mut(dim).zip(heads) {
                let (sums, weight) = read.split_at(dim);
                let divisor = weight[0].abs().max(*floor) + epsilon;
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum / divisor;
                }
            }
        });
    }
}

/// All heads.
struct Gates<'a> {
    starts: &'a [usize],
    state: &'a mut [f32],
    of_rows: [MatMut<'a>; 3],
}

impl SimdOp for Gates<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            starts,
            state,
            of_rows: [mut input, mut forget, mut floor],
        } = self;
        let zero = s.splat(0.0);
        for (rows, begins) in runs(starts, input.rows()) {
            if begins {
                state.fill(0.0);
            }
            for row in rows {
                let (input, forget) = (input.row_mut(row), forget.row_mut(row));
                let floor = floor.row_mut(row);
                for at in (0..state.len()).step_by(S::LANES) {
                    let end = state.len().min(at + S::LANES);
                    // The logarithm of a sigmoid.
                    let negative = s.sub(zero, get(s, &forget[at..end]));
                    let left = s.sub(zero, math::softplus(s, negative));
                    let left = s.add(left, get(s, &state[at..end]));
                    let own = get(s, &input[at..end]);
                    let most = s.max(left, own);
                    put(s, &mut forget[at..end], math::exp(s, s.sub(left, most)));
                    put(s, &mut input[at..end], math::exp(s, s.sub(own, most)));
                    put(s, &mut floor[at..end], math::exp(s, s.sub(zero, most)));
                    put(s, &mut state[at..end], most);
                }
            }
        }
    }
}
