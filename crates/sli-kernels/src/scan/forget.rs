//! Forget gates: factors on a state, of numbers that are projected.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::MatMut;
use crate::simd::{Simd, SimdOp, math};

use super::convolution::{get, put};

/// How much is left of a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Forget {
    /// `exp(-rate softplus(x + bias))`.
    Softplus,
    /// `exp(-rate exp(x + bias))`.
    Exponential,
    /// `exp(bound sigmoid(rate (x + bias)))`.
    Bounded(f32),
}

impl Kernels {
    /// `x` becomes what is left of a state; `rates` and `bias` have `x.cols()` elements.
    pub fn forget(&self, form: Forget, rates: &[f32], bias: &[f32], x: MatMut) {
        let _lap = self.lap(Stage::Activation);
        assert_eq!(rates.len(), x.cols(), "a rate a column");
        assert_eq!(bias.len(), x.cols(), "an addend a column");
        self.each_row_mut(&x, |_, row| {
            self.isa().run(Row {
                form,
                rates,
                bias,
                x: row,
            });
        });
    }
}

/// One row.
struct Row<'a> {
    form: Forget,
    rates: &'a [f32],
    bias: &'a [f32],
    x: &'a mut [f32],
}

impl SimdOp for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(S::LANES) {
            let end = self.x.len().min(at + S::LANES);
            let x = s.add(get(s, &self.x[at..end]), get(s, &self.bias[at..end]));
            let rate = get(s, &self.rates[at..end]);
            let logarithm = match self.form {
                Forget::Softplus => s.mul(s.sub(s.splat(0.0), rate), math::softplus(s, x)),
                Forget::Exponential => s.mul(s.sub(s.splat(0.0), rate), math::exp(s, x)),
                Forget::Bounded(bound) => s.mul(s.splat(bound), math::sigmoid(s, s.mul(rate, x))),
            };
            put(s, &mut self.x[at..end], math::exp(s, logarithm));
        }
    }
}
