//! Blocks of 32 numbers with one scale.

use super::block::{Block, half, long};

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Iq4Nl;

/// The sixteen values of IQ4.
pub(super) const UNEVEN: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Sixteen bytes: the low halves are the first sixteen numbers, the high halves the others.
fn nibbles(codes: &[u8], out: &mut [f32], number: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), code) in low.iter_mut().zip(high).zip(codes) {
        *low = number(code & 15);
        *high = number(code >> 4);
    }
}

/// The same with a fifth bit for each number.
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

    fn decode(block: &[u8], out: &mut [f32]) {
        let scale = half(block, 0);
        nibbles(&block[2..18], out, |code| scale * f32::from(code as i8 - 8));
    }
}

impl Block for Q4_1 {
    const NAME: &'static str = "Q4_1";
    const NUMBERS: usize = 32;
    const BYTES: usize = 20;

    fn decode(block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block, 0), half(block, 2));
        nibbles(&block[4..20], out, |code| scale * f32::from(code) + least);
    }
}

impl Block for Q5_0 {
    const NAME: &'static str = "Q5_0";
    const NUMBERS: usize = 32;
    const BYTES: usize = 22;

    fn decode(block: &[u8], out: &mut [f32]) {
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

    fn decode(block: &[u8], out: &mut [f32]) {
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

    fn decode(block: &[u8], out: &mut [f32]) {
        let scale = half(block, 0);
        let pairs = out.iter_mut().zip(&block[2..34]);
        pairs.for_each(|(out, code)| *out = scale * f32::from(*code as i8));
    }
}

impl Block for Iq4Nl {
    const NAME: &'static str = "IQ4_NL";
    const NUMBERS: usize = 32;
    const BYTES: usize = 18;

    fn decode(block: &[u8], out: &mut [f32]) {
        let scale = half(block, 0);
        nibbles(&block[2..18], out, |code| {
            scale * f32::from(UNEVEN[usize::from(code & 15)])
        });
    }
}
