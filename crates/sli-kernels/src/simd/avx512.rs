//! AVX-512, with or without native bf16 dot products.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, __mmask16, _CMP_LT_OQ, _CMP_UNORD_Q,
    _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _MM_HINT_T1, _mm_loadu_si128,
    _mm_prefetch, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_abs_ps, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_cvtph_ps, _mm512_div_ps, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_epi32,
    _mm512_mask_blend_ps, _mm512_mask_loadu_ps, _mm512_mask_storeu_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_ps, _mm512_reduce_add_ps,
    _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_sqrt_ps,
    _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::{Panel, Simd, SimdOp, Tile};
use crate::gemm::tile;

/// Proof that the machine has AVX-512 F, BW, DQ and VL and, if `NATIVE`, BF16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const NATIVE: bool>(());

impl<const NATIVE: bool> Avx512<NATIVE> {
    /// The token, if the machine has the instructions.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!NATIVE || is_x86_feature_detected!("avx512bf16"));
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn run<O: SimdOp>(token: Avx512<false>, op: O) -> O::Output {
    op.run(token)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512bf16")]
fn run_native<O: SimdOp>(token: Avx512<true>, op: O) -> O::Output {
    op.run(token)
}

/// # Safety
///
/// As for [`tile::compute`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn compute<B: Panel, const R: usize, const P: usize>(token: Avx512<false>, args: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { tile::compute::<_, B, R, P, 2>(token, args) }
}

/// # Safety
///
/// As for [`tile::compute`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,avx512bf16")]
unsafe fn compute_native<B: Panel, const R: usize, const P: usize>(
    token: Avx512<true>,
    args: &Tile,
) {
    // SAFETY: the caller's promise.
    unsafe { tile::compute::<_, B, R, P, 2>(token, args) }
}

/// A mask of the first `count` lanes, fewer than a vector.
#[inline(always)]
fn lanes(count: usize) -> __mmask16 {
    assert!(count < 16);
    (1 << count) - 1
}

impl<const NATIVE: bool> Simd for Avx512<NATIVE> {
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;
    const REGISTERS: usize = 32;
    const TILE_SUMS: usize = 28;
    const NEAR_STEPS: usize = tile::BLOCK_STEPS;

    type F = __m512;
    type Pairs = __m512i;
    type Mask = __mmask16;

    #[inline(always)]
    fn vectorize<O: SimdOp>(self, op: O) -> O::Output {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            if NATIVE {
                run_native(Avx512(()), op)
            } else {
                run(Avx512(()), op)
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<B: Panel, const R: usize, const P: usize>(self, args: &Tile) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            if NATIVE {
                compute_native::<B, R, P>(Avx512(()), args);
            } else {
                compute::<B, R, P>(Avx512(()), args);
            }
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::F) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            _mm512_storeu_ps(to, x);
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Self::F {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                _mm256_loadu_si256(from.cast()),
            )))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: Self::F) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            if NATIVE {
                _mm256_storeu_si256(
                    to.cast(),
                    transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)),
                );
            } else {
                let bits = _mm512_castps_si512(x);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded =
                    _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
                let chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
                _mm256_storeu_si256(
                    to.cast(),
                    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(chosen)),
                );
            }
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Self::F {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, from: *const u32) -> Self::Pairs {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u32, x: Self::Pairs) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }

    #[inline(always)]
    fn round_pairs(self, low: Self::F, high: Self::F) -> Self::Pairs {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let round = |x| {
                let bits = _mm512_castps_si512(x);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded =
                    _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
                _mm512_mask_blend_epi32(nan, rounded, quiet)
            };
            let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_or_si512(
                _mm512_srli_epi32::<16>(round(low)),
                _mm512_and_si512(round(high), mask),
            )
        }
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::Pairs {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_set1_epi32(x as i32) }
    }

    #[inline(always)]
    fn low_of_pairs(self, x: Self::Pairs) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x)) }
    }

    #[inline(always)]
    fn high_of_pairs(self, x: Self::Pairs) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(x, mask))
        }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: Self::F, a: Self::Pairs, b: Self::Pairs) -> Self::F {
        if NATIVE {
            // SAFETY: the token proves that the instructions exist.
            return unsafe {
                _mm512_dpbf16_ps(
                    sum,
                    transmute::<__m512i, __m512bh>(a),
                    transmute::<__m512i, __m512bh>(b),
                )
            };
        }
        let sum = self.mul_add(self.low_of_pairs(a), self.low_of_pairs(b), sum);
        self.mul_add(self.high_of_pairs(a), self.high_of_pairs(b), sum)
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn scale_pow2(self, a: Self::F, n: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }

    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Self::F, no: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_reduce_add_ps(a) }
    }

    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    fn get_part(self, from: &[f32], fill: f32) -> Self::F {
        // SAFETY: the token proves that the instructions exist; the mask keeps to the slice.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), lanes(from.len()), from.as_ptr()) }
    }

    #[inline(always)]
    fn put_part(self, to: &mut [f32], x: Self::F) {
        // SAFETY: the token proves that the instructions exist; the mask keeps to the slice.
        unsafe {
            _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len()), x);
        }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const u8, stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            let row = |i: usize| _mm512_loadu_si512(from.add(i * stride).cast());
            // Rows 4 i .. 4 i + 4 become four vectors of columns, a 4 x 4 square in each 128 bits.
            let mut squares = [[_mm512_setzero_si512(); 4]; 4];
            for (i, square) in squares.iter_mut().enumerate() {
                let (a, b, c, d) = (row(4 * i), row(4 * i + 1), row(4 * i + 2), row(4 * i + 3));
                let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                *square = [
                    _mm512_unpacklo_epi64(ab_low, cd_low),
                    _mm512_unpackhi_epi64(ab_low, cd_low),
                    _mm512_unpacklo_epi64(ab_high, cd_high),
                    _mm512_unpackhi_epi64(ab_high, cd_high),
                ];
            }
            let [first, second, third, fourth] = squares;
            for (column, (((a, b), c), d)) in first
                .into_iter()
                .zip(second)
                .zip(third)
                .zip(fourth)
                .enumerate()
            {
                let (ab_even, ab_odd) = (
                    _mm512_shuffle_i32x4::<0x88>(a, b),
                    _mm512_shuffle_i32x4::<0xdd>(a, b),
                );
                let (cd_even, cd_odd) = (
                    _mm512_shuffle_i32x4::<0x88>(c, d),
                    _mm512_shuffle_i32x4::<0xdd>(c, d),
                );
                let out = [
                    _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even),
                    _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd),
                    _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even),
                    _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd),
                ];
                for (i, x) in out.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add((4 * i + column) * to_stride).cast(), x);
                }
            }
        }
    }

    #[inline(always)]
    fn look_up(self, table: &[f32; 16], codes: &[u8; 16], first: usize) -> Self::F {
        debug_assert_eq!(first, 0, "sixteen lanes");
        // SAFETY: the token proves that the instructions exist; codes and table are a vector each.
        unsafe {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            _mm512_permutexvar_ps(codes, _mm512_loadu_ps(table.as_ptr()))
        }
    }

    #[inline(always)]
    fn widen(self, integers: &[i8; 16], first: usize) -> Self::F {
        debug_assert_eq!(first, 0, "sixteen lanes");
        // SAFETY: the token proves that the instructions exist; the integers are a vector of bytes.
        unsafe {
            let integers = _mm_loadu_si128(integers.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(integers))
        }
    }

    #[inline(always)]
    fn prefetch_near(self, at: *const u8) {
        // SAFETY: a prefetch reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a prefetch reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(at.cast());
        }
    }
}
