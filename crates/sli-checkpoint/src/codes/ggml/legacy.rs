//! Blocks of 32 numbers with one scale.

use sli_kernels::Vectors;

use super::block::{Block, NOTHING, below, each, half, long, sixteen};

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Iq4Nl;

/// Codes of four bits less eight.
const CENTRED: [f32; 16] = [
    -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
];

/// The sixteen values of IQ4.
pub(super) const UNEVEN: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// Sixteen bytes: the low halves are the codes of the first sixteen numbers, the high halves those of the others.
#[inline(always)]
pub(super) fn look_up<V: Vectors>(
    vectors: V,
    table: &[f32; 16],
    codes: &[u8],
    scale: f32,
    out: &mut [f32],
) {
    let (Some(codes), (first, second)) = (codes.first_chunk::<16>(), out.split_at_mut(16)) else {
        return;
    };
    if let (Some(first), Some(second)) = (first.first_chunk_mut(), second.first_chunk_mut()) {
        vectors.look_up(table, *codes, scale, first);
        vectors.look_up(table, codes.map(|code| code >> 4), scale, second);
    }
}

/// Sixteen bytes: the low halves are the first sixteen numbers, the high halves the others, with a fifth bit for each.
#[inline(always)]
fn five_bits(codes: &[u8], fifth: u32, out: &mut [f32], number: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    let pairs = low.iter_mut().zip(high);
    for (at, ((low, high), code)) in (0..).zip(pairs.zip(codes)) {
        let bit = |at: u32| ((fifth >> at & 1) << 4) as u8;
        *low = number(code & 15 | bit(at));
        *high = number(code >> 4 | bit(at + 16));
    }
}

impl Block for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const NUMBERS: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        look_up(vectors, &CENTRED, &block[2..18], half(block, 0), out);
    }
}

impl Block for Q4_1 {
    const NAME: &'static str = "Q4_1";
    const NUMBERS: usize = 32;
    const BYTES: usize = 20;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block, 0), half(block, 2));
        let codes = sixteen(block, 4);
        for (out, codes) in out.as_chunks_mut().0.iter_mut().zip([codes, codes >> 4]) {
            vectors.scaled(below(codes & each(15), 0), scale, least, out);
        }
    }
}

impl Block for Q5_0 {
    const NAME: &'static str = "Q5_0";
    const NUMBERS: usize = 32;
    const BYTES: usize = 22;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let scale = half(block, 0);
        five_bits(&block[6..22], long(block, 2), out, |code| {
            scale * f32::from(code as i8 - 16)
        });
    }
}

impl Block for Q5_1 {
    const NAME: &'static str = "Q5_1";
    const NUMBERS: usize = 32;
    const BYTES: usize = 24;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block, 0), half(block, 2));
        five_bits(&block[8..24], long(block, 4), out, |code| {
            scale * f32::from(code) + least
        });
    }
}

impl Block for Q8_0 {
    const NAME: &'static str = "Q8_0";
    const NUMBERS: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let scale = half(block, 0);
        let (codes, _) = block[2..34].as_chunks::<16>();
        for (out, codes) in out.as_chunks_mut().0.iter_mut().zip(codes) {
            vectors.scaled(codes.map(|code| code as i8), scale, NOTHING, out);
        }
    }
}

impl Block for Iq4Nl {
    const NAME: &'static str = "IQ4_NL";
    const NUMBERS: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let scale = half(block, 0);
        look_up(vectors, &UNEVEN, &block[2..18], scale, out);
    }
}
