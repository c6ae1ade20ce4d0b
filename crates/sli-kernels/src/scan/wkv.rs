//! The weighted mean of RWKV 4 (Peng et al. 2023): every channel has a sum of values, a sum of weights and the
//! exponent that both are relative to.

use std::ops::Range;

use super::convolution::{get, put};
use super::runs;
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

/// The exponent in front of a record.
const NOTHING: f32 = -1e38;

impl Kernels {
    /// `x = (sum of exp(key) x of earlier rows, decayed by exp(decay) a row, + exp(first + key) x) / (the same without x)`,
    /// row by row within each record.
    ///
    /// `x` (the values) and `key` are `[rows, channels]`, `decay` and `first` `[channels]`, `state` `[3, channels]`: sum of values,
    /// sum of weights, exponent. `starts` are the rows with which records begin.
    pub fn weighted_key_values(
        &self,
        [decay, first]: [&[f32]; 2],
        key: MatRef,
        starts: &[usize],
        state: &mut [f32],
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Scan);
        let (rows, channels) = (x.rows(), x.cols());
        if channels == 0 || rows == 0 {
            return;
        }
        assert_eq!(state.len(), 3 * channels, "the state");
        assert_eq!((decay.len(), first.len()), (channels, channels), "decays");
        assert_eq!((key.rows(), key.cols()), (rows, channels), "keys");
        let state = SharedSlice::new(state);
        self.column_tasks(channels, |block| {
            self.isa().run(SomeChannels {
                decay: &decay[block.clone()],
                first: &first[block.clone()],
                key,
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
    decay: &'a [f32],
    first: &'a [f32],
    key: MatRef<'a>,
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
            decay,
            first,
            key,
            starts,
            state,
            x,
            block,
        } = self;
        let channels = x.cols();
        // SAFETY: tasks have different channels.
        let [values, weights, exponents] = [0, 1, 2].map(|part| unsafe {
            let start = part * channels + block.start;
            state.part_mut(start..start + block.len())
        });
        for (rows, begins) in runs(starts, x.rows()) {
            if begins {
                values.fill(0.0);
                weights.fill(0.0);
                exponents.fill(NOTHING);
            }
            for row in rows {
                let key = &key.row(row)[block.clone()];
                // SAFETY: tasks have different channels.
                let x = unsafe { x.shared_part(row, block.clone()) };
                for at in (0..x.len()).step_by(S::LANES) {
                    let end = x.len().min(at + S::LANES);
                    let (key, value) = (get(s, &key[at..end]), get(s, &x[at..end]));
                    let (sum, weight) = (get(s, &values[at..end]), get(s, &weights[at..end]));
                    let exponent = get(s, &exponents[at..end]);
                    let own = s.add(key, get(s, &first[at..end]));
                    let [mean, all, _] = joined(s, [sum, weight, exponent], own, value);
                    put(s, &mut x[at..end], s.div(mean, all));
                    let decayed = s.add(exponent, get(s, &decay[at..end]));
                    let [sum, weight, exponent] = joined(s, [sum, weight, decayed], key, value);
                    put(s, &mut values[at..end], sum);
                    put(s, &mut weights[at..end], weight);
                    put(s, &mut exponents[at..end], exponent);
                }
            }
        }
    }
}

/// Two sums of values and weights as one: those given, and a value with the weight `exp(key)`.
#[inline(always)]
fn joined<S: Simd>(s: S, [sum, weight, exponent]: [S::F; 3], key: S::F, value: S::F) -> [S::F; 3] {
    let most = s.max(exponent, key);
    let before = math::exp(s, s.sub(exponent, most));
    let own = math::exp(s, s.sub(key, most));
    [
        s.mul_add(before, sum, s.mul(own, value)),
        s.mul_add(before, weight, own),
        most,
    ]
}
