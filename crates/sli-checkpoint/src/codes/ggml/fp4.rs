//! Blocks of 4-bit floats (E2M1).

use super::block::Block;

pub(super) struct Mxfp4;
pub(super) struct Nvfp4;

/// Twice what each code is.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of a power of two (E8M0).
fn half_power(bits: u8) -> f32 {
    f32::from_bits(match bits {
        0 | 1 => 0x0020_0000 << bits,
        _ => u32::from(bits - 1) << 23,
    })
}

/// Half of an 8-bit float without sign (E4M3); zero for what would not be a number.
fn half_float(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    match (bits, exponent) {
        (0 | 0x7f, _) => 0.0,
        (_, 0) => mantissa * 2.0_f32.powi(-10),
        _ => (1.0 + mantissa / 8.0) * 2.0_f32.powi(exponent - 8),
    }
}

/// The low halves of the bytes are the first half of the numbers.
fn decode(scale: f32, codes: &[u8], out: &mut [f32]) {
    let (low, high) = out.split_at_mut(codes.len());
    for ((low, high), code) in low.iter_mut().zip(high).zip(codes) {
        *low = scale * f32::from(DOUBLED[usize::from(code & 15)]);
        *high = scale * f32::from(DOUBLED[usize::from(code >> 4)]);
    }
}

impl Block for Mxfp4 {
    const NAME: &'static str = "MXFP4";
    const NUMBERS: usize = 32;
    const BYTES: usize = 17;

    fn decode(block: &[u8], out: &mut [f32]) {
        decode(half_power(block[0]), &block[1..17], out);
    }
}

impl Block for Nvfp4 {
    const NAME: &'static str = "NVFP4";
    const NUMBERS: usize = 64;
    const BYTES: usize = 36;

    fn decode(block: &[u8], out: &mut [f32]) {
        let groups = out.chunks_exact_mut(16).zip(block[4..].chunks_exact(8));
        for ((out, codes), scale) in groups.zip(&block[..4]) {
            decode(half_float(*scale), codes, out);
        }
    }
}
