//! Blocks of 256 numbers in points of a lattice: eight or four numbers are one entry of a table, with signs beside it.
//!
//! `lattices.bin` has the tables of ggml, a byte a coordinate (`tools/formats/lattices.py`).

use std::sync::LazyLock;

use sli_kernels::Vectors;

use super::block::{Block, half, long, word};

pub(super) struct Iq2Xxs;
pub(super) struct Iq2Xs;
pub(super) struct Iq2S;
pub(super) struct Iq3Xxs;
pub(super) struct Iq3S;
pub(super) struct Iq1S;
pub(super) struct Iq1M;

/// Points of eight coordinates, or of four.
type Points<const N: usize> = Vec<[i8; N]>;

/// The tables, in the order of the file.
struct Tables {
    two_xxs: Points<8>,
    two_xs: Points<8>,
    two_s: Points<8>,
    three_xxs: Points<4>,
    three_s: Points<4>,
    one: Points<8>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut bytes: &[u8] = include_bytes!("lattices.bin");
    Tables {
        two_xxs: points(&mut bytes, 256),
        two_xs: points(&mut bytes, 512),
        two_s: points(&mut bytes, 1024),
        three_xxs: points(&mut bytes, 256),
        three_s: points(&mut bytes, 512),
        one: points(&mut bytes, 2048),
    }
});

fn points<const N: usize>(bytes: &mut &[u8], count: usize) -> Points<N> {
    let (points, rest) = bytes.split_at(count * N);
    *bytes = rest;
    let (points, _) = points.as_chunks::<N>();
    points
        .iter()
        .map(|point| point.map(|byte| byte as i8))
        .collect()
}

/// Eight signs: seven bits, and an eighth that makes the number of minus signs even.
#[inline(always)]
fn signs(seven: u32) -> u8 {
    let seven = seven & 127;
    (seven | (seven.count_ones() & 1) << 7) as u8
}

/// Numbers of a point with signs, from the bit on that `first` says.
#[inline(always)]
fn place<const N: usize>(scale: f32, point: &[i8; N], signs: u8, out: &mut [f32]) {
    for (at, (out, coordinate)) in out.iter_mut().zip(point).enumerate() {
        let sign = if signs >> at & 1 == 0 { 1.0 } else { -1.0 };
        *out = scale * f32::from(*coordinate) * sign;
    }
}

impl Block for Iq2Xxs {
    const NAME: &'static str = "IQ2_XXS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 66;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.two_xxs);
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let at = 2 + 8 * group;
            let bits = long(block, at + 4);
            let scale = scale * (0.5 + (bits >> 28) as f32) * 0.25;
            for (eight, out) in out.chunks_exact_mut(8).enumerate() {
                let point = &points[usize::from(block[at + eight])];
                place(scale, point, signs(bits >> (7 * eight)), out);
            }
        }
    }
}

impl Block for Iq2Xs {
    const NAME: &'static str = "IQ2_XS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 74;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.two_xs);
        for (eight, out) in out.chunks_exact_mut(8).enumerate() {
            let bits = word(block, 2 + 2 * eight);
            let group = eight / 2;
            let four = block[66 + group / 2] >> (group % 2 * 4) & 15;
            let scale = scale * (0.5 + f32::from(four)) * 0.25;
            let point = &points[usize::from(bits & 511)];
            place(scale, point, signs(u32::from(bits >> 9)), out);
        }
    }
}

impl Block for Iq2S {
    const NAME: &'static str = "IQ2_S";
    const NUMBERS: usize = 256;
    const BYTES: usize = 82;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.two_s);
        for (eight, out) in out.chunks_exact_mut(8).enumerate() {
            let upper = block[66 + eight / 4] >> (eight % 4 * 2) & 3;
            let point = usize::from(block[2 + eight]) | usize::from(upper) << 8;
            let group = eight / 2;
            let four = block[74 + group / 2] >> (group % 2 * 4) & 15;
            let scale = scale * (0.5 + f32::from(four)) * 0.25;
            place(scale, &points[point], block[34 + eight], out);
        }
    }
}

impl Block for Iq3Xxs {
    const NAME: &'static str = "IQ3_XXS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 98;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.three_xxs);
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let bits = long(block, 66 + 4 * group);
            let scale = scale * (0.5 + (bits >> 28) as f32) * 0.5;
            for (four, out) in out.chunks_exact_mut(4).enumerate() {
                let point = &points[usize::from(block[2 + 8 * group + four])];
                let signs = signs(bits >> (7 * (four / 2))) >> (four % 2 * 4);
                place(scale, point, signs, out);
            }
        }
    }
}

impl Block for Iq3S {
    const NAME: &'static str = "IQ3_S";
    const NUMBERS: usize = 256;
    const BYTES: usize = 110;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.three_s);
        for (four, out) in out.chunks_exact_mut(4).enumerate() {
            let ninth = block[66 + four / 8] >> (four % 8) & 1;
            let point = usize::from(block[2 + four]) | usize::from(ninth) << 8;
            let signs = block[74 + four / 2] >> (four % 2 * 4);
            let group = four / 8;
            let bits = block[106 + group / 2] >> (group % 2 * 4) & 15;
            let scale = scale * f32::from(1 + 2 * bits);
            place(scale, &points[point], signs, out);
        }
    }
}

/// How far all numbers of a group lie beside their points.
const ASIDE: f32 = 0.125;

#[inline(always)]
fn beside(scale: f32, point: [i8; 8], minus: bool, out: &mut [f32]) {
    let aside = if minus { -ASIDE } else { ASIDE };
    let pairs = out.iter_mut().zip(point);
    pairs.for_each(|(out, coordinate)| *out = scale * (f32::from(coordinate) + aside));
}

impl Block for Iq1S {
    const NAME: &'static str = "IQ1_S";
    const NUMBERS: usize = 256;
    const BYTES: usize = 50;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.one);
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let bits = word(block, 34 + 2 * group);
            let scale = scale * f32::from(2 * (bits >> 12 & 7) + 1);
            for (eight, out) in out.chunks_exact_mut(8).enumerate() {
                let upper = usize::from(bits >> (3 * eight) & 7);
                let point = usize::from(block[2 + 4 * group + eight]) | upper << 8;
                beside(scale, points[point], bits & 0x8000 != 0, out);
            }
        }
    }
}

impl Block for Iq1M {
    const NAME: &'static str = "IQ1_M";
    const NUMBERS: usize = 256;
    const BYTES: usize = 56;

    #[inline(always)]
    fn decode<V: Vectors>(_: V, block: &[u8], out: &mut [f32]) {
        let points = &TABLES.one;
        let words = [48, 50, 52, 54].map(|at| word(block, at));
        // The upper four bits of each make the scale of all.
        let bits =
            words[0] >> 12 | words[1] >> 8 & 0xf0 | words[2] >> 4 & 0xf00 | words[3] & 0xf000;
        let scale = half::f16::from_bits(bits).to_f32();
        for (eight, out) in out.chunks_exact_mut(8).enumerate() {
            let group = eight / 2;
            let three = words[group / 4] >> (group % 4 * 3) & 7;
            let scale = scale * f32::from(2 * three + 1);
            let upper = block[32 + eight / 2] >> (eight % 2 * 4) & 15;
            let point = usize::from(block[eight]) | usize::from(upper & 7) << 8;
            beside(scale, points[point], upper & 8 != 0, out);
        }
    }
}
