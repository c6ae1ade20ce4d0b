//! The real-gated linear recurrent unit of Griffin (De et al. 2024): every channel has one value as state.

use std::ops::Range;

use super::convolution::{get, put};
use super::runs;
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

/// What the unit reads beside its input `[rows, channels]`.
#[derive(Clone, Copy)]
pub struct GatedLru<'a> {
    /// Of the input, in front of the sigmoid `[rows, channels]`.
    pub input_gate: MatRef<'a>,
    /// Of the state, in front of the sigmoid `[rows, channels]`.
    pub state_gate: MatRef<'a>,
    /// Factors on the state's gate, which make it the logarithm of what is forgotten `[channels]`.
    pub rates: &'a [f32],
}

impl Kernels {
    /// With `a = exp(-rate sigmoid(state gate))`:
    /// `h = a h + sqrt(1 - a^2) sigmoid(input gate) x`, `x = h`, row by row within each record, whose first row
    /// enters as it is.
    ///
    /// `x` is `[rows, channels]`, `state` `[channels]`: what is behind a row. `starts` are the rows with which records
    /// begin, whose state is zero.
    pub fn gated_lru(&self, unit: GatedLru, starts: &[usize], state: &mut [f32], x: MatMut) {
        let _lap = self.lap(Stage::Scan);
        let (rows, channels) = (x.rows(), x.cols());
        if channels == 0 || rows == 0 {
            return;
        }
        assert_eq!(state.len(), channels, "the state");
        assert_eq!(unit.rates.len(), channels, "a rate a channel");
        for gate in [unit.input_gate, unit.state_gate] {
            assert_eq!((gate.rows(), gate.cols()), (rows, channels), "gates");
        }
        let state = SharedSlice::new(state);
        self.column_tasks(channels, |block| {
            self.isa().run(SomeChannels {
                unit,
                starts,
                state: &state,
                x: &x,
                block,
            });
        });
    }
}

/// The channels of one block.
struct SomeChannels<'a> {
    unit: GatedLru<'a>,
    starts: &'a [usize],
    state: &'a SharedSlice<'a, f32>,
    x: &'a MatMut<'a>,
    block: Range<usize>,
}

impl SimdOp for SomeChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            unit,
            starts,
            state,
            x,
            block,
        } = self;
        // SAFETY: tasks have different channels.
        let state = unsafe { state.part_mut(block.clone()) };
        let one = s.splat(1.0);
        for (rows, begins) in runs(starts, x.rows()) {
            for row in rows.clone() {
                let input_gate = &unit.input_gate.row(row)[block.clone()];
                let state_gate = &unit.state_gate.row(row)[block.clone()];
                // SAFETY: tasks have different channels.
                let x = unsafe { x.shared_part(row, block.clone()) };
                for at in (0..x.len()).step_by(S::LANES) {
                    let end = x.len().min(at + S::LANES);
                    let gate = math::sigmoid(s, get(s, &input_gate[at..end]));
                    let entered = s.mul(gate, get(s, &x[at..end]));
                    let new = if begins && row == rows.start {
                        entered
                    } else {
                        let rate = get(s, &unit.rates[block.start..][at..end]);
                        let gate = math::sigmoid(s, get(s, &state_gate[at..end]));
                        let forgotten = s.sub(s.splat(0.0), s.mul(rate, gate));
                        let left = math::exp(s, forgotten);
                        let square = math::exp(s, s.add(forgotten, forgotten));
                        let share = s.sqrt(s.sub(one, square));
                        s.mul_add(left, get(s, &state[at..end]), s.mul(share, entered))
                    };
                    put(s, &mut state[at..end], new);
                    put(s, &mut x[at..end], new);
                }
            }
        }
    }
}
