//! Portable code: eight lanes that the compiler maps to whatever the target has.

use super::{Panel, Simd, SimdOp, Tile};
use crate::gemm::tile;

const LANES: usize = 8;

/// The portable instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

/// `a * b + c`, fused only where that is one instruction.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[inline(always)]
fn halves(pair: u32) -> (f32, f32) {
    (
        f32::from_bits(pair << 16),
        f32::from_bits(pair & 0xffff_0000),
    )
}

impl Simd for Plain {
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 3;
    const REGISTERS: usize = 16;
    const TILE_SUMS: usize = 12;
    const NEAR_STEPS: usize = 128;

    type F = [f32; LANES];
    type Pairs = [u32; LANES];
    type Mask = [bool; LANES];

    #[inline(always)]
    fn vectorize<O: SimdOp>(self, op: O) -> O::Output {
        op.run(self)
    }

    unsafe fn tile<B: Panel, const R: usize, const P: usize>(self, args: &Tile) {
        // SAFETY: the caller's promise.
        unsafe { tile::compute::<Self, B, R, P, 4>(self, args) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::F>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::F) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::F>().write_unaligned(x) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Self::F {
        // SAFETY: the caller's promise.
        let raw = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        raw.map(|x| f32::from_bits(u32::from(x) << 16))
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: Self::F) {
        let rounded = x.map(|x| half::bf16::from_f32(x).to_bits());
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(rounded) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Self::F {
        // SAFETY: the caller's promise.
        let raw = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        raw.map(|x| half::f16::from_bits(x).to_f32_const())
    }

    #[inline(always)]
    unsafe fn load_pairs(self, from: *const u32) -> Self::Pairs {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Pairs>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u32, x: Self::Pairs) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Pairs>().write_unaligned(x) }
    }

    #[inline(always)]
    fn round_pairs(self, low: Self::F, high: Self::F) -> Self::Pairs {
        let mut out = [0; LANES];
        for i in 0..LANES {
            let half = |x| u32::from(half::bf16::from_f32(x).to_bits());
            out[i] = half(low[i]) | (half(high[i]) << 16);
        }
        out
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::Pairs {
        [x; LANES]
    }

    #[inline(always)]
    fn low_of_pairs(self, x: Self::Pairs) -> Self::F {
        x.map(|x| halves(x).0)
    }

    #[inline(always)]
    fn high_of_pairs(self, x: Self::Pairs) -> Self::F {
        x.map(|x| halves(x).1)
    }

    #[inline(always)]
    fn dot_pairs(self, sum: Self::F, a: Self::Pairs, b: Self::Pairs) -> Self::F {
        let mut out = sum;
        for i in 0..LANES {
            let ((a_low, a_high), (b_low, b_high)) = (halves(a[i]), halves(b[i]));
            out[i] = mul_add(a_high, b_high, mul_add(a_low, b_low, out[i]));
        }
        out
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        a.map(f32::sqrt)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let mut out = c;
        for i in 0..LANES {
            out[i] = mul_add(a[i], b[i], c[i]);
        }
        out
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // Adding 1.5 * 2^23 leaves no bits for a fraction.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|x| (x + MAGIC) - MAGIC)
    }

    #[inline(always)]
    fn scale_pow2(self, a: Self::F, n: Self::F) -> Self::F {
        zip(a, n, |a, n| {
            let n = n as i32;
            let half = n >> 1;
            let pow2 = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
            a * pow2(half) * pow2(n - half)
        })
    }

    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask {
        let mut out = [false; LANES];
        for i in 0..LANES {
            out[i] = a[i] < b[i];
        }
        out
    }

    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Self::F, no: Self::F) -> Self::F {
        let mut out = no;
        for i in 0..LANES {
            out[i] = if mask[i] { yes[i] } else { no[i] };
        }
        out
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }

    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
