//! The vocabulary head in tiles: running log-sum-exp, so that `[tokens, vocabulary]` is never held.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::MatRef;
use crate::rows::maximum;
use crate::simd::{Simd, SimdOp, math};

/// Columns that are summed before the running maximum is brought up to date. Tiles start at
/// multiples of this, which makes the result independent of how the vocabulary is tiled.
pub const LSE_BLOCK: usize = 1024;

/// The running log-sum-exp of one row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LseState {
    /// The largest logit so far.
    pub max: f32,
    /// The sum of `e^(logit - max)` so far.
    pub sum: f64,
}

impl LseState {
    /// Of no logits.
    pub const fn new() -> Self {
        Self {
            max: f32::NEG_INFINITY,
            sum: 0.0,
        }
    }

    /// `ln(sum(e^logit))`; NaN if a logit was NaN.
    pub fn log_sum_exp(&self) -> f64 {
        if self.sum == 0.0 {
            f64::NEG_INFINITY
        } else {
            f64::from(self.max) + self.sum.ln()
        }
    }
}

impl Default for LseState {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernels {
    /// Brings `state`, one a row, up to date with the next tile of `logits` `[rows, columns]`. The
    /// tiles of a row come in order; each but the last has a multiple of [`LSE_BLOCK`] columns.
    pub fn update_lse(&self, logits: MatRef, state: &mut [LseState]) {
        let _lap = self.lap(Stage::Vocabulary);
        assert_eq!(logits.rows(), state.len(), "a state a row");
        let shared = crate::kernels::SharedSlice::new(state);
        self.parallel_rows(logits.rows(), (1 << 14) / logits.cols().max(1), |rows| {
            for row in rows {
                // SAFETY: pieces of the row loop are disjoint.
                let state = unsafe { shared.get_mut(row) };
                for block in logits.row(row).chunks(LSE_BLOCK) {
                    self.isa().run(UpdateLse { block, state });
                }
            }
        });
    }
}

struct UpdateLse<'a> {
    block: &'a [f32],
    state: &'a mut LseState,
}

impl SimdOp for UpdateLse<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let state = self.state;
        let max = maximum(s, self.block).max(state.max);
        if max == f32::NEG_INFINITY {
            // Nothing but negative infinities (or NaN) so far.
            if self.block.iter().any(|x| x.is_nan()) {
                *state = LseState {
                    max: f32::NAN,
                    sum: f64::NAN,
                };
            }
            return;
        }
        let maxima = s.splat(max);
        let mut sum = s.splat(0.0);
        let chunks = self.block.chunks_exact(S::LANES);
        let rest = s.get_part(chunks.remainder(), f32::NEG_INFINITY);
        for chunk in chunks {
            sum = s.add(sum, math::exp(s, s.sub(s.get(chunk), maxima)));
        }
        sum = s.add(sum, math::exp(s, s.sub(rest, maxima)));
        let correction = s.sum(s.mul(
            s.get_part(&[1.0], 0.0),
            math::exp(s, s.splat(state.max - max)),
        ));
        state.sum = state.sum * f64::from(correction) + f64::from(s.sum(sum));
        state.max = max;
    }
}
