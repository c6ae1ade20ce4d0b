//! Blocks of 256 numbers that are -1, 0 or 1 times a scale.

use sli_kernels::Vectors;

use super::block::{Block, half};

pub(super) struct Tq1;
pub(super) struct Tq2;

/// The powers of three that bring a number of a byte to its top.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

impl Block for Tq1 {
    const NAME: &'static str = "TQ1_0";
    const NUMBERS: usize = 256;
    const BYTES: usize = 54;

    /// A byte is a fraction in base three of five numbers.
    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let scale = half(block, 52);
        let (first, rest) = out.split_at_mut(160);
        let (second, third) = rest.split_at_mut(80);
        let parts = [
            (first, &block[..32]),
            (second, &block[32..48]),
            (third, &block[48..52]),
        ];
        for (out, codes) in parts {
            for (out, power) in out.chunks_exact_mut(codes.len()).zip(POWERS) {
                for (out, code) in out.iter_mut().zip(codes) {
                    let top = (u16::from(code.wrapping_mul(power)) * 3) >> 8;
                    *out = scale * f32::from(top as i16 - 1);
                }
            }
        }
    }
}

impl Block for Tq2 {
    const NAME: &'static str = "TQ2_0";
    const NUMBERS: usize = 256;
    const BYTES: usize = 66;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let scale = half(block, 64);
        for (of_half, out) in out.chunks_exact_mut(128).enumerate() {
            let codes = &block[of_half * 32..of_half * 32 + 32];
            for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
                let shift = 2 * quarter;
                let pairs = out.iter_mut().zip(codes);
                pairs.for_each(|(out, code)| {
                    *out = scale * f32::from((code >> shift & 3) as i8 - 1);
                });
            }
        }
    }
}
