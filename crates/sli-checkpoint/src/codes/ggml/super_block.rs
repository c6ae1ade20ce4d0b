//! Blocks of 256 numbers in groups of 16 or 32, whose scales are numbers of a few bits.

use sli_kernels::Vectors;

use super::block::{Block, NOTHING, below, each, half, sixteen, word};
use super::legacy::{UNEVEN, look_up};

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;
pub(super) struct Iq4Xs;

/// Eight scales and eight least numbers of six bits in twelve bytes.
#[inline(always)]
fn scales_and_least(packed: &[u8]) -> [[f32; 8]; 2] {
    let mut all = [[0.0; 8]; 2];
    for at in 0..4 {
        let (scale, least, upper) = (packed[at], packed[at + 4], packed[at + 8]);
        all[0][at] = f32::from(scale & 63);
        all[1][at] = f32::from(least & 63);
        all[0][at + 4] = f32::from(upper & 0xf | scale >> 2 & 0x30);
        all[1][at + 4] = f32::from(upper >> 4 | least >> 2 & 0x30);
    }
    all
}

impl Block for Q2K {
    const NAME: &'static str = "Q2_K";
    const NUMBERS: usize = 256;
    const BYTES: usize = 84;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scales, codes) = (&block[..16], &block[16..80]);
        let (scale, least) = (half(block, 80), half(block, 82));
        // Groups of 16; two halves of 32 bytes hold four numbers a byte, 32 apart.
        for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let (of_half, within) = (group / 8, group % 8);
            let first = of_half * 32 + within % 2 * 16;
            let shift = within / 2 * 2;
            let wide = scale * f32::from(scales[group] & 15);
            let low = least * f32::from(scales[group] >> 4);
            let codes = sixteen(codes, first) >> shift & each(3);
            vectors.scaled(below(codes, 0), wide, -low, out);
        }
    }
}

impl Block for Q3K {
    const NAME: &'static str = "Q3_K";
    const NUMBERS: usize = 256;
    const BYTES: usize = 110;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (third, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
        let scale = half(block, 108);
        for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let (of_half, within) = (group / 8, group % 8);
            let (low, upper) = (scales[group % 8], scales[8 + group % 4]);
            let bits = low >> (group / 8 * 4) & 15 | (upper >> (group / 4 * 2) & 3) << 4;
            let wide = scale * f32::from(bits as i8 - 32);
            let column = within % 2 * 16;
            let shift = within / 2 * 2;
            let bit = of_half * 4 + within / 2;
            let first = of_half * 32 + column;
            // The third bit is there where four is not taken off.
            let off = (!sixteen(third, column) >> bit & each(1)) << 2;
            let codes = sixteen(codes, first) >> shift & each(3);
            vectors.scaled(below(codes, off), wide, NOTHING, out);
        }
    }
}

impl Block for Q4K {
    const NAME: &'static str = "Q4_K";
    const NUMBERS: usize = 256;
    const BYTES: usize = 144;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block, 0), half(block, 2));
        let [scales, leasts] = scales_and_least(&block[4..16]);
        // 64 numbers in 32 bytes: those of the low halves, then those of the high ones.
        let pairs = out.chunks_exact_mut(64).zip(block[16..].chunks_exact(32));
        for (group, (out, codes)) in pairs.enumerate() {
            let wide = [0, 1].map(|half| scale * scales[2 * group + half]);
            let low = [0, 1].map(|half| least * leasts[2 * group + half]);
            let (first, second) = out.split_at_mut(32);
            for ((first, second), code) in first.iter_mut().zip(second).zip(codes) {
                *first = wide[0] * f32::from(code & 15) - low[0];
                *second = wide[1] * f32::from(code >> 4) - low[1];
            }
        }
    }
}

impl Block for Q5K {
    const NAME: &'static str = "Q5_K";
    const NUMBERS: usize = 256;
    const BYTES: usize = 176;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block, 0), half(block, 2));
        let [scales, leasts] = scales_and_least(&block[4..16]);
        let fifth = &block[16..48];
        let pairs = out.chunks_exact_mut(64).zip(block[48..].chunks_exact(32));
        for (group, (out, codes)) in pairs.enumerate() {
            let wide = [0, 1].map(|half| scale * scales[2 * group + half]);
            let low = [0, 1].map(|half| least * leasts[2 * group + half]);
            let bit = 2 * group;
            let (first, second) = out.split_at_mut(32);
            let outs = first.iter_mut().zip(second);
            for ((first, second), (code, fifth)) in outs.zip(codes.iter().zip(fifth)) {
                let fifth = fifth >> bit;
                *first = wide[0] * f32::from(code & 15 | (fifth & 1) << 4) - low[0];
                *second = wide[1] * f32::from(code >> 4 | (fifth & 2) << 3) - low[1];
            }
        }
    }
}

impl Block for Q6K {
    const NAME: &'static str = "Q6_K";
    const NUMBERS: usize = 256;
    const BYTES: usize = 210;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (lows, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
        let scale = half(block, 208);
        // Groups of 32 numbers: two of the low halves and two of the high ones in 64 bytes.
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let (of_half, within) = (group / 4, group % 4);
            let first = of_half * 64 + within % 2 * 32;
            let (shift, upper) = (within / 2 * 4, within * 2);
            for (at, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                let wide = scale * f32::from(scales[2 * group + at] as i8);
                let low = sixteen(lows, first + 16 * at) >> shift & each(15);
                let high = sixteen(highs, of_half * 32 + 16 * at) >> upper & each(3);
                vectors.scaled(below(low | high << 4, each(32)), wide, NOTHING, out);
            }
        }
    }
}

impl Block for Iq4Xs {
    const NAME: &'static str = "IQ4_XS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 136;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, upper, lower) = (half(block, 0), word(block, 2), &block[4..8]);
        let pairs = out.chunks_exact_mut(32).zip(block[8..].chunks_exact(16));
        for (group, (out, codes)) in pairs.enumerate() {
            let low = lower[group / 2] >> (group % 2 * 4) & 15;
            let bits = low | ((upper >> (2 * group) & 3) << 4) as u8;
            let wide = scale * f32::from(bits as i8 - 32);
            look_up(vectors, &UNEVEN, codes, wide, out);
        }
    }
}
