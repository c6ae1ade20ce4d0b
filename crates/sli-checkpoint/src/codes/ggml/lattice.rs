//! Blocks of 256 numbers in points of a lattice: eight or four numbers are one entry of a table, with signs beside it.
//!
//! `lattices.bin` has the tables of ggml, a byte a coordinate (`tools/formats/lattices.py`).

use std::sync::LazyLock;

use sli_kernels::Vectors;

use super::block::{Block, NOTHING, half, integers, long, word};

pub(super) struct Iq2Xxs;
pub(super) struct Iq2Xs;
pub(super) struct Iq2S;
pub(super) struct Iq3Xxs;
pub(super) struct Iq3S;
pub(super) struct Iq1S;
pub(super) struct Iq1M;

/// The tables, in the order of the file. Where signs are beside them a point is the bytes of a number.
struct Tables {
    two_xxs: Vec<u64>,
    two_xs: Vec<u64>,
    two_s: Vec<u64>,
    three_xxs: Vec<u32>,
    three_s: Vec<u32>,
    one: Vec<[i8; 8]>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut bytes: &[u8] = include_bytes!("lattices.bin");
    Tables {
        two_xxs: points(&mut bytes, 256, u64::from_le_bytes),
        two_xs: points(&mut bytes, 512, u64::from_le_bytes),
        two_s: points(&mut bytes, 1024, u64::from_le_bytes),
        three_xxs: points(&mut bytes, 256, u32::from_le_bytes),
        three_s: points(&mut bytes, 512, u32::from_le_bytes),
        one: points(&mut bytes, 2048, |point| point.map(|byte| byte as i8)),
    }
});

fn points<const N: usize, P>(
    bytes: &mut &[u8],
    count: usize,
    point: impl Fn([u8; N]) -> P,
) -> Vec<P> {
    let (points, rest) = bytes.split_at(count * N);
    *bytes = rest;
    points.as_chunks().0.iter().copied().map(point).collect()
}

/// For eight signs a byte of ones where there is a minus.
const MINUS: [u64; 256] = {
    let mut all = [0; 256];
    let mut bit = 0;
    while bit < 8 * 256 {
        if ((bit / 8) >> (bit % 8)) & 1 == 1 {
            all[bit / 8] |= 0xff << (8 * (bit % 8));
        }
        bit += 1;
    }
    all
};

/// Eight signs: seven bits, and an eighth that makes the number of minus signs even.
#[inline(always)]
fn signs(seven: u32) -> u8 {
    let seven = seven & 127;
    (seven | (seven.count_ones() & 1) << 7) as u8
}

/// Eight coordinates with signs, side by side.
#[inline(always)]
fn signed(point: u64, signs: u8) -> u64 {
    let minus = MINUS[usize::from(signs)];
    // Two's complement. No coordinate is zero, so that no byte carries into the next one.
    (point ^ minus) + (minus & 0x0101_0101_0101_0101)
}

/// The sixteen numbers of two times eight coordinates.
#[inline(always)]
fn place<V: Vectors>(
    vectors: V,
    scale: f32,
    eight: impl Fn(usize) -> u64,
    sixteen: (usize, &mut [f32; 16]),
) {
    let (at, out) = sixteen;
    let [first, second] = [2 * at, 2 * at + 1].map(|at| u128::from(eight(at)));
    vectors.scaled(integers(first | second << 64), scale, NOTHING, out);
}

impl Block for Iq2Xxs {
    const NAME: &'static str = "IQ2_XXS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 66;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.two_xxs);
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let at = 2 + 8 * group;
            let bits = long(block, at + 4);
            let scale = scale * (0.5 + (bits >> 28) as f32) * 0.25;
            let eight = |eight: usize| {
                let point = points[usize::from(block[at + eight])];
                signed(point, signs(bits >> (7 * eight)))
            };
            for sixteen in out.as_chunks_mut().0.iter_mut().enumerate() {
                place(vectors, scale, eight, sixteen);
            }
        }
    }
}

impl Block for Iq2Xs {
    const NAME: &'static str = "IQ2_XS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 74;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.two_xs);
        for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let four = block[66 + group / 2] >> (group % 2 * 4) & 15;
            let scale = scale * (0.5 + f32::from(four)) * 0.25;
            let eight = |eight: usize| {
                let bits = word(block, 2 + 2 * eight);
                let point = points[usize::from(bits & 511)];
                signed(point, signs(u32::from(bits >> 9)))
            };
            place(vectors, scale, eight, (group, out));
        }
    }
}

impl Block for Iq2S {
    const NAME: &'static str = "IQ2_S";
    const NUMBERS: usize = 256;
    const BYTES: usize = 82;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.two_s);
        for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let four = block[74 + group / 2] >> (group % 2 * 4) & 15;
            let scale = scale * (0.5 + f32::from(four)) * 0.25;
            let eight = |eight: usize| {
                let upper = block[66 + eight / 4] >> (eight % 4 * 2) & 3;
                let point = usize::from(block[2 + eight]) | usize::from(upper) << 8;
                signed(points[point], block[34 + eight])
            };
            place(vectors, scale, eight, (group, out));
        }
    }
}

impl Block for Iq3Xxs {
    const NAME: &'static str = "IQ3_XXS";
    const NUMBERS: usize = 256;
    const BYTES: usize = 98;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.three_xxs);
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let bits = long(block, 66 + 4 * group);
            let scale = scale * (0.5 + (bits >> 28) as f32) * 0.5;
            let eight = |eight: usize| {
                let four = |at: usize| u64::from(points[usize::from(block[at])]);
                let at = 2 + 8 * group + 2 * eight;
                let point = four(at) | four(at + 1) << 32;
                signed(point, signs(bits >> (7 * eight)))
            };
            for sixteen in out.as_chunks_mut().0.iter_mut().enumerate() {
                place(vectors, scale, eight, sixteen);
            }
        }
    }
}

impl Block for Iq3S {
    const NAME: &'static str = "IQ3_S";
    const NUMBERS: usize = 256;
    const BYTES: usize = 110;

    #[inline(always)]
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]) {
        let (scale, points) = (half(block, 0), &TABLES.three_s);
        for (at, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let group = at / 2;
            let bits = block[106 + group / 2] >> (group % 2 * 4) & 15;
            let scale = scale * f32::from(1 + 2 * bits);
            let eight = |eight: usize| {
                let four = |four: usize| {
                    let ninth = block[66 + four / 8] >> (four % 8) & 1;
                    let point = usize::from(block[2 + four]) | usize::from(ninth) << 8;
                    u64::from(points[point])
                };
                let point = four(2 * eight) | four(2 * eight + 1) << 32;
                signed(point, block[74 + eight])
            };
            place(vectors, scale, eight, (at, out));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_with_signs_are_positive_bytes() {
        let twos = [&TABLES.two_xxs, &TABLES.two_xs, &TABLES.two_s];
        let threes = [&TABLES.three_xxs, &TABLES.three_s];
        let twos = twos.into_iter().flatten();
        let bytes = twos.flat_map(|point| point.to_le_bytes());
        let of_threes = threes.into_iter().flatten();
        let bytes = bytes.chain(of_threes.flat_map(|point| point.to_le_bytes()));
        assert!(bytes.into_iter().all(|byte| (1..128).contains(&byte)));
    }

    #[test]
    fn signs_are_those_of_their_bits() {
        let point = [1_i8, 2, 3, 127, 5, 6, 7, 1];
        for signs in 0..=255_u8 {
            let found = signed(u64::from_le_bytes(point.map(|byte| byte as u8)), signs);
            let wanted = std::array::from_fn(|at| {
                let sign = if signs >> at & 1 == 1 { -1 } else { 1 };
                (point[at] * sign) as u8
            });
            assert_eq!(found.to_le_bytes(), wanted);
        }
    }
}
