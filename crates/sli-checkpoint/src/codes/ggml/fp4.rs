//! Blocks of 4-bit floats (E2M1).

use sli_kernels::Vectors;

use super::block::Block;
use super::legacy::look_up;

pub(super) struct Mxfp4;
pub(super) struct Nvfp4;

/// Twice what each code is.
const DOUBLED: [f32; 16] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0,
];

/// Half of a power of two (E8M0).
#[inline(always)]
fn half_power(bits: u8) -> f32 {
    f32::from_bits(match bits {
        0 | 1 => 0x0020_0000 << bits,
        _ => u32::from(bits - 1) << 23,
    })
}

/// Half of an 8-bit float without sign (E4M3); zero for what would not be a number.
#[inline(always)]
fn half_float(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    match (bits, exponent) {
        (0 | 0x7f, _) => 0.0,
        (_, 0) => mantissa * 2.0_f32.powi(-10),
        _ => (1.0 + mantissa / 8.0) * 2.0_f32.powi(exponent - 8),
    }
}

impl Block for Mxfp4 {
    const NAME: &'static str = "MXFP4";
    const NUMBERS: usize = 32;
    const BYTES: usize = 17;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        look_up(vectors, &DOUBLED, &block[1..17], half_power(block[0]), out);
    }
}

impl Block for Nvfp4 {
    const NAME: &'static str = "NVFP4";
    const NUMBERS: usize = 64;
    const BYTES: usize = 36;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let groups = out.chunks_exact_mut(16).zip(block[4..].chunks_exact(8));
        for ((out, codes), scale) in groups.zip(&block[..4]) {
            let (Some(out), Some(codes)) = (out.first_chunk_mut(), codes.first_chunk::<8>()) else {
                return;
            };
            // The low halves of the bytes are the first half of the numbers.
            let code = |at: usize| codes[at % 8] >> (at / 8 * 4);
            let codes = std::array::from_fn(code);
            vectors.look_up(&DOUBLED, codes, half_float(*scale), out);
        }
    }
}
