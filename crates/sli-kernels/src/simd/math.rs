//! Elementary functions on vectors: a few units in the last place from the true value.

use super::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, the first exact when multiplied by a small integer.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;

/// Evaluates a polynomial, highest coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut sum = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = s.mul_add(sum, x, s.splat(c));
    }
    sum
}

/// `e^x`; 0 below -104, infinite above 88.8.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.min(s.splat(90.0), s.max(s.splat(-110.0), x));
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    // Taylor terms adjusted for |r| <= ln 2 / 2 (Cephes, expf).
    let p = polynomial(
        s,
        r,
        [
            1.987_569_1e-4,
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            0.166_666_66,
            0.5,
            1.0,
            1.0,
        ],
    );
    s.scale_pow2(p, n)
}

/// `e^x - 1`, accurate near zero.
#[inline(always)]
pub(crate) fn exp_m1<S: Simd>(s: S, x: S::F) -> S::F {
    let near = polynomial(
        s,
        x,
        [
            1.0 / 40320.0,
            1.0 / 5040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            0.0,
        ],
    );
    let far = s.sub(exp(s, x), s.splat(1.0));
    s.select(s.less(s.abs(x), s.splat(0.5)), near, far)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// The hyperbolic tangent (Cephes, tanhf).
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let magnitude = s.abs(x);
    let z = s.mul(x, x);
    let p = polynomial(
        s,
        z,
        [
            -5.704_988_7e-3,
            2.063_908_8e-2,
            -5.373_971_6e-2,
            0.133_314_42,
            -0.333_332_8,
        ],
    );
    let near = s.mul_add(s.mul(p, z), x, x);
    let e = exp(s, s.add(magnitude, magnitude));
    let far = s.sub(one, s.div(s.splat(2.0), s.add(e, one)));
    let far = s.select(s.less(x, s.splat(0.0)), s.sub(s.splat(0.0), far), far);
    s.select(s.less(s.splat(0.625), magnitude), far, near)
}

/// `ln(erfc(t))` for `t > 0.92`, after N. Juffa's `erff`.
#[inline(always)]
fn log_erfc<S: Simd>(s: S, t: S::F) -> S::F {
    let z = s.mul(t, t);
    let r = s.mul_add(s.splat(-1.728_534_7e-5), t, s.splat(3.831_971_3e-4));
    let u = s.mul_add(s.splat(-3.883_964_4e-3), t, s.splat(2.425_462_2e-2));
    let r = s.mul_add(r, z, u);
    let r = s.mul_add(r, t, s.splat(-0.106_777_88));
    let r = s.mul_add(r, t, s.splat(-0.634_846_7));
    let r = s.mul_add(r, t, s.splat(-0.128_717_51));
    s.mul_add(r, t, s.sub(s.splat(0.0), t))
}

/// `x * Phi(x)`, the exact GELU: `0.5 x (1 + erf(x / sqrt 2))` without the cancellation for negative
/// `x`. The error is below 2e-8 times `x` or a few units in the last place, whichever is more.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let z = s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let square = s.mul(z, z);
    let p = polynomial(
        s,
        square,
        [
            -5.967_617e-4,
            4.991_194_2e-3,
            -2.676_813_5e-2,
            0.112_819_925,
            -0.376_125_34,
            0.128_379_17,
        ],
    );
    let near = s.add(s.splat(1.0), s.mul_add(p, z, z));
    let t = s.min(s.splat(10.5), s.abs(z));
    let tail = exp(s, log_erfc(s, t));
    let far = s.select(s.less(z, s.splat(0.0)), tail, s.sub(s.splat(2.0), tail));
    let factor = s.select(s.less(s.splat(0.927_734_4), t), far, near);
    s.mul(s.mul(s.splat(0.5), x), factor)
}

/// `erf(x)`, after N. Juffa's `erff`.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let square = s.mul(x, x);
    let p = polynomial(
        s,
        square,
        [
            -5.967_617e-4,
            4.991_194_2e-3,
            -2.676_813_5e-2,
            0.112_819_925,
            -0.376_125_34,
            0.128_379_17,
        ],
    );
    let near = s.mul_add(p, x, x);
    let t = s.min(s.splat(10.5), s.abs(x));
    let far = s.sub(s.splat(1.0), exp(s, log_erfc(s, t)));
    let far = s.select(s.less(x, s.splat(0.0)), s.sub(s.splat(0.0), far), far);
    s.select(s.less(s.splat(0.927_734_4), t), far, near)
}

/// `ln(1 + u)` for `u` in 0..=1, through `2 atanh(u / (2 + u))`.
#[inline(always)]
fn ln_1p_unit<S: Simd>(s: S, u: S::F) -> S::F {
    let q = s.div(u, s.add(s.splat(2.0), u));
    let z = s.mul(q, q);
    let p = polynomial(
        s,
        z,
        [
            1.0 / 17.0,
            1.0 / 15.0,
            1.0 / 13.0,
            1.0 / 11.0,
            1.0 / 9.0,
            1.0 / 7.0,
            0.2,
            1.0 / 3.0,
            1.0,
        ],
    );
    s.mul(s.add(q, q), p)
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(s: S, x: S::F) -> S::F {
    let zero = s.splat(0.0);
    let small = exp(s, s.sub(zero, s.abs(x)));
    s.add(s.max(zero, x), ln_1p_unit(s, small))
}
