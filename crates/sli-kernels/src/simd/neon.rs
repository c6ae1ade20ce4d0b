//! NEON, which every 64-bit Arm has.

use std::arch::aarch64::{
    float32x4_t, uint32x4_t, vabsq_f32, vaddq_f32, vaddq_s32, vaddq_u32, vaddvq_f32, vandq_u32,
    vbslq_f32, vbslq_u32, vceqq_f32, vcgtq_f32, vcltq_f32, vcvtq_s32_f32, vdivq_f32, vdupq_n_f32,
    vdupq_n_s32, vdupq_n_u32, vfmaq_f32, vld1_u16, vld1q_f32, vld1q_u32, vmaxvq_f32, vmulq_f32,
    vorrq_u32, vreinterpretq_f32_s32, vreinterpretq_f32_u32, vreinterpretq_u32_f32, vrndnq_f32,
    vshll_n_u16, vshlq_n_s32, vshlq_n_u32, vshrn_n_u32, vshrq_n_s32, vshrq_n_u32, vsqrtq_f32,
    vst1_u16, vst1q_f32, vst1q_u32, vsubq_f32, vsubq_s32,
};

use super::{Panel, Simd, SimdOp, Tile};
use crate::gemm::tile;

/// The instruction set of 64-bit Arm.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    const LANES: usize = 4;
    const TILE_ROWS: usize = 3;
    const REGISTERS: usize = 32;
    const TILE_SUMS: usize = 24;
    const NEAR_STEPS: usize = tile::BLOCK_STEPS;

    type F = float32x4_t;
    type Pairs = uint32x4_t;
    type Mask = uint32x4_t;

    #[inline(always)]
    fn vectorize<O: SimdOp>(self, op: O) -> O::Output {
        op.run(self)
    }

    unsafe fn tile<B: Panel, const R: usize, const P: usize>(self, args: &Tile) {
        // SAFETY: the caller's promise.
        unsafe { tile::compute::<_, B, R, P, 8>(self, args) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm; memory by the caller's promise.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::F) {
        // SAFETY: NEON is part of every 64-bit Arm; memory by the caller's promise.
        unsafe {
            vst1q_f32(to, x);
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm; memory by the caller's promise.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: Self::F) {
        // SAFETY: NEON is part of every 64-bit Arm; memory by the caller's promise.
        unsafe {
            let bits = vreinterpretq_u32_f32(x);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
            let chosen = vbslq_u32(vceqq_f32(x, x), rounded, quiet);
            vst1_u16(to, vshrn_n_u32::<16>(chosen));
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Self::F {
        // SAFETY: memory by the caller's promise.
        let wide = unsafe { from.cast::<[u16; 4]>().read_unaligned() }
            .map(|x| half::f16::from_bits(x).to_f32());
        self.get(&wide)
    }

    #[inline(always)]
    unsafe fn load_pairs(self, from: *const u32) -> Self::Pairs {
        // SAFETY: NEON is part of every 64-bit Arm; memory by the caller's promise.
        unsafe { vld1q_u32(from) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u32, x: Self::Pairs) {
        // SAFETY: NEON is part of every 64-bit Arm; memory by the caller's promise.
        unsafe {
            vst1q_u32(to, x);
        }
    }

    #[inline(always)]
    fn round_pairs(self, low: Self::F, high: Self::F) -> Self::Pairs {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let round = |x| {
                let bits = vreinterpretq_u32_f32(x);
                let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
                let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
                vbslq_u32(
                    vceqq_f32(x, x),
                    rounded,
                    vorrq_u32(bits, vdupq_n_u32(0x0040_0000)),
                )
            };
            vorrq_u32(
                vshrq_n_u32::<16>(round(low)),
                vandq_u32(round(high), vdupq_n_u32(0xffff_0000)),
            )
        }
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::Pairs {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_u32(x) }
    }

    #[inline(always)]
    fn low_of_pairs(self, x: Self::Pairs) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(x)) }
    }

    #[inline(always)]
    fn high_of_pairs(self, x: Self::Pairs) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff_0000))) }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: Self::F, a: Self::Pairs, b: Self::Pairs) -> Self::F {
        let sum = self.mul_add(self.low_of_pairs(a), self.low_of_pairs(b), sum);
        self.mul_add(self.high_of_pairs(a), self.high_of_pairs(b), sum)
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vsqrtq_f32(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vabsq_f32(a) }
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vrndnq_f32(a) }
    }

    #[inline(always)]
    fn scale_pow2(self, a: Self::F, n: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            // In two factors, each within the exponent range.
            let n = vcvtq_s32_f32(n);
            let half = vshrq_n_s32::<1>(n);
            let pow2 = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
            vmulq_f32(vmulq_f32(a, pow2(half)), pow2(vsubq_s32(n, half)))
        }
    }

    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vcltq_f32(a, b) }
    }

    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Self::F, no: Self::F) -> Self::F {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vbslq_f32(mask, yes, no) }
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vaddvq_f32(a) }
    }

    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vmaxvq_f32(a) }
    }
}
