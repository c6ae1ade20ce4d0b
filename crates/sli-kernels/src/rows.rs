//! Element-wise row operations: addition, scaling, bounding, and the row loop they share.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Stage;
use crate::element;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::simd::{MAX_LANES, Simd, SimdOp, math};

impl Kernels {
    /// Runs `f` on each row, in parallel.
    pub(crate) fn each_row_mut(&self, x: &MatMut, f: impl Fn(usize, &mut [f32]) + Sync) {
        if x.cols() == 0 {
            return;
        }
        self.parallel_rows(x.rows(), (1 << 14) / x.cols(), |rows| {
            for row in rows {
                // SAFETY: pieces of the row loop are disjoint.
                f(row, unsafe { x.shared_row(row) });
            }
        });
    }

    /// `out += scale * x`.
    pub fn add(&self, x: MatRef, scale: f32, out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!(
            (x.rows(), x.cols()),
            (out.rows(), out.cols()),
            "terms of a sum"
        );
        self.each_row_mut(&out, |index, out| {
            self.isa().run(Each {
                row: out,
                other: Some(x.row(index)),
                f: AddScaled(scale),
            });
        });
    }

    /// Adds `bias`, of `x.cols()` elements, to every row.
    pub fn add_bias(&self, bias: &[f32], x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!(bias.len(), x.cols(), "a bias element a column");
        self.each_row_mut(&x, |_, row| {
            self.isa().run(Each {
                row,
                other: Some(bias),
                f: AddScaled(1.0),
            });
        });
    }

    /// `out *= x`, element by element.
    pub fn multiply(&self, x: MatRef, out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()), "factors");
        self.each_row_mut(&out, |index, out| {
            self.isa().run(Each {
                row: out,
                other: Some(x.row(index)),
                f: Multiply,
            });
        });
    }

    /// Multiplies every row by `factors`, of `x.cols()` elements.
    pub fn scale_columns(&self, factors: &[f32], x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!(factors.len(), x.cols(), "a factor a column");
        self.each_row_mut(&x, |_, row| {
            self.isa().run(Each {
                row,
                other: Some(factors),
                f: Multiply,
            });
        });
    }

    /// `x *= scale`.
    pub fn scale_in_place(&self, scale: f32, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        self.each_row_mut(&x, |_, row| {
            self.isa().run(Each {
                row,
                other: None,
                f: Scale(scale),
            });
        });
    }

    /// `x = min(max(x, low), high)`.
    pub fn clamp_in_place(&self, low: f32, high: f32, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        self.each_row_mut(&x, |_, row| {
            self.isa().run(Each {
                row,
                other: None,
                f: Clamp(low, high),
            });
        });
    }

    /// `x = cap * tanh(x / cap)`.
    pub fn softcap_in_place(&self, cap: f32, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        self.each_row_mut(&x, |_, row| {
            self.isa().run(Each {
                row,
                other: None,
                f: Softcap(cap),
            });
        });
    }

    /// Whether every value is finite.
    pub fn all_finite(&self, x: MatRef) -> bool {
        let _lap = self.lap(Stage::Elementwise);
        let finite = AtomicBool::new(true);
        self.parallel_rows(x.rows(), (1 << 14) / x.cols().max(1), |mut rows| {
            if !rows.all(|row| element::all_finite(x.row(row))) {
                finite.store(false, Ordering::Relaxed);
            }
        });
        finite.into_inner()
    }
}

/// A function of an element and the element beside it.
pub(crate) trait Elementwise: Copy {
    fn apply<S: Simd>(self, s: S, x: S::F, other: S::F) -> S::F;
}

#[derive(Clone, Copy)]
struct AddScaled(f32);

impl Elementwise for AddScaled {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F, other: S::F) -> S::F {
        s.mul_add(s.splat(self.0), other, x)
    }
}

/// The product is rounded before it is added.
#[derive(Clone, Copy)]
pub(crate) struct AddProduct(pub f32);

impl Elementwise for AddProduct {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F, other: S::F) -> S::F {
        s.add(x, s.mul(s.splat(self.0), other))
    }
}

#[derive(Clone, Copy)]
struct Multiply;

impl Elementwise for Multiply {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F, other: S::F) -> S::F {
        s.mul(x, other)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Scale(pub f32);

impl Elementwise for Scale {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F, _: S::F) -> S::F {
        s.mul(x, s.splat(self.0))
    }
}

#[derive(Clone, Copy)]
struct Clamp(f32, f32);

impl Elementwise for Clamp {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F, _: S::F) -> S::F {
        s.min(s.splat(self.1), s.max(s.splat(self.0), x))
    }
}

#[derive(Clone, Copy)]
struct Softcap(f32);

impl Elementwise for Softcap {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F, _: S::F) -> S::F {
        s.mul(math::tanh(s, s.div(x, s.splat(self.0))), s.splat(self.0))
    }
}

pub(crate) struct Each<'a, E> {
    pub row: &'a mut [f32],
    pub other: Option<&'a [f32]>,
    pub f: E,
}

impl<E: Elementwise> SimdOp for Each<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.row.len() / S::LANES * S::LANES;
        let (body, rest) = self.row.split_at_mut(whole);
        if let Some(other) = self.other {
            for (x, y) in body
                .chunks_exact_mut(S::LANES)
                .zip(other.chunks_exact(S::LANES))
            {
                s.put(x, self.f.apply(s, s.get(x), s.get(y)));
            }
            let other = s.get_part(&other[whole..], 0.0);
            s.put_part(rest, self.f.apply(s, s.get_part(rest, 0.0), other));
        } else {
            let zero = s.splat(0.0);
            for x in body.chunks_exact_mut(S::LANES) {
                s.put(x, self.f.apply(s, s.get(x), zero));
            }
            s.put_part(rest, self.f.apply(s, s.get_part(rest, 0.0), zero));
        }
    }
}

/// The largest element; negative infinity of none. NaN elements may be passed over.
#[inline(always)]
pub(crate) fn maximum<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut max = s.splat(f32::NEG_INFINITY);
    let chunks = row.chunks_exact(S::LANES);
    let rest = s.get_part(chunks.remainder(), f32::NEG_INFINITY);
    for chunk in chunks {
        max = s.max(s.get(chunk), max);
    }
    s.maximum(s.max(rest, max))
}

const _: () = assert!(MAX_LANES >= 16);

/// The softmax of a few numbers, in place: sums in their order.
pub fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    for value in values {
        *value /= sum;
    }
}
