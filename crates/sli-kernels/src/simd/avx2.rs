//! AVX2 with FMA and F16C.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_LT_OQ, _CMP_UNORD_Q, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT,
    _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadl_epi64,
    _mm_loadu_si128, _mm_max_ps, _mm_max_ss, _mm_movehl_ps, _mm_prefetch, _mm_shuffle_ps,
    _mm_storeu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_andnot_ps,
    _mm256_blendv_epi8, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_cvtps_epi32, _mm256_div_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_or_si256,
    _mm256_packus_epi32, _mm256_permute2x128_si256, _mm256_permute4x64_epi64,
    _mm256_permutevar8x32_ps, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_sqrt_ps, _mm256_srai_epi32, _mm256_srli_epi32,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi32, _mm256_sub_ps, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use super::{Panel, Simd, SimdOp, Tile};
use crate::gemm::tile;

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, if the machine has the instructions.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run<O: SimdOp>(token: Avx2, op: O) -> O::Output {
    op.run(token)
}

/// # Safety
///
/// As for [`tile::compute`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn compute<B: Panel, const R: usize, const P: usize>(token: Avx2, args: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { tile::compute::<_, B, R, P, 4>(token, args) }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 3;
    const REGISTERS: usize = 16;
    const TILE_SUMS: usize = 12;
    const NEAR_STEPS: usize = 128;

    type F = __m256;
    type Pairs = __m256i;
    type Mask = __m256;

    #[inline(always)]
    fn vectorize<O: SimdOp>(self, op: O) -> O::Output {
        // SAFETY: the token proves that the instructions exist.
        unsafe { run(self, op) }
    }

    #[inline(always)]
    unsafe fn tile<B: Panel, const R: usize, const P: usize>(self, args: &Tile) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { compute::<B, R, P>(self, args) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::F {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::F) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            _mm256_storeu_ps(to, x);
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Self::F {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
                _mm_loadu_si128(from.cast()),
            )))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: Self::F) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let high = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            // Packing works within 128-bit halves: bring the two quarters that count together.
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(high, high));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Self::F {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, from: *const u32) -> Self::Pairs {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, to: *mut u32, x: Self::Pairs) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), x) }
    }

    #[inline(always)]
    fn round_pairs(self, low: Self::F, high: Self::F) -> Self::Pairs {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let round = |x| {
                let bits = _mm256_castps_si256(x);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let rounded =
                    _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                _mm256_blendv_epi8(rounded, quiet, nan)
            };
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            _mm256_or_si256(
                _mm256_srli_epi32::<16>(round(low)),
                _mm256_and_si256(round(high), mask),
            )
        }
    }

    #[inline(always)]
    fn splat_pair(self, x: u32) -> Self::Pairs {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_set1_epi32(x as i32) }
    }

    #[inline(always)]
    fn low_of_pairs(self, x: Self::Pairs) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)) }
    }

    #[inline(always)]
    fn high_of_pairs(self, x: Self::Pairs) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            _mm256_castsi256_ps(_mm256_and_si256(x, mask))
        }
    }

    #[inline(always)]
    fn dot_pairs(self, sum: Self::F, a: Self::Pairs, b: Self::Pairs) -> Self::F {
        let sum = self.mul_add(self.low_of_pairs(a), self.low_of_pairs(b), sum);
        self.mul_add(self.high_of_pairs(a), self.high_of_pairs(b), sum)
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn scale_pow2(self, a: Self::F, n: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            // In two factors, each within the exponent range.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let pow2 = |n| {
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                    n,
                    _mm256_set1_epi32(127),
                )))
            };
            _mm256_mul_ps(
                _mm256_mul_ps(a, pow2(half)),
                pow2(_mm256_sub_epi32(n, half)),
            )
        }
    }

    #[inline(always)]
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
    }

    #[inline(always)]
    fn select(self, mask: Self::Mask, yes: Self::F, no: Self::F) -> Self::F {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_blendv_ps(no, yes, mask) }
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn maximum(self, a: Self::F) -> f32 {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const u8, stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: the token proves that the instructions exist; memory by the caller's promise.
        unsafe {
            let row = |i: usize| _mm256_loadu_si256(from.add(i * stride).cast());
            // Rows 4 i .. 4 i + 4 become four vectors of columns, a 4 x 4 square in each 128 bits.
            let mut squares = [[_mm256_setzero_si256(); 4]; 2];
            for (i, square) in squares.iter_mut().enumerate() {
                let (a, b, c, d) = (row(4 * i), row(4 * i + 1), row(4 * i + 2), row(4 * i + 3));
                let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                *square = [
                    _mm256_unpacklo_epi64(ab_low, cd_low),
                    _mm256_unpackhi_epi64(ab_low, cd_low),
                    _mm256_unpacklo_epi64(ab_high, cd_high),
                    _mm256_unpackhi_epi64(ab_high, cd_high),
                ];
            }
            let [first, second] = squares;
            for (column, (a, b)) in first.into_iter().zip(second).enumerate() {
                let (low, high) = (
                    _mm256_permute2x128_si256::<0x20>(a, b),
                    _mm256_permute2x128_si256::<0x31>(a, b),
                );
                _mm256_storeu_si256(to.add(column * to_stride).cast(), low);
                _mm256_storeu_si256(to.add((4 + column) * to_stride).cast(), high);
            }
        }
    }

    #[inline(always)]
    fn look_up(self, table: &[f32; 16], codes: &[u8; 16], first: usize) -> Self::F {
        let codes = &codes[first..first + 8];
        // SAFETY: the token proves that the instructions exist; the slice has eight bytes, the table two vectors.
        unsafe {
            let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.as_ptr().cast()));
            let half = |at: usize| _mm256_loadu_ps(table.as_ptr().add(at));
            // The permutation reads three bits; the fourth, brought to the top, chooses between the halves.
            let low = _mm256_permutevar8x32_ps(half(0), codes);
            let high = _mm256_permutevar8x32_ps(half(8), codes);
            _mm256_blendv_ps(
                low,
                high,
                _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes)),
            )
        }
    }

    #[inline(always)]
    fn widen(self, integers: &[i8; 16], first: usize) -> Self::F {
        let integers = &integers[first..first + 8];
        // SAFETY: the token proves that the instructions exist; the slice has eight bytes.
        unsafe {
            let integers = _mm_loadl_epi64(integers.as_ptr().cast());
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(integers))
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
