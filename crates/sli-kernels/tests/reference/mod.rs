//! What the kernels are compared with: seeded random matrices and plain f64 formulas.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test program uses a part"
)]

use sli_kernels::{Compute, Isa, Kernels, Mat};

/// A small seeded generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of `choices`.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit()).collect()
    }

    pub fn mat(&mut self, rows: usize, cols: usize) -> Mat {
        Mat::from_vec(rows, cols, self.vec(rows * cols))
    }

    /// `0..len` cut into some pieces, some of them empty.
    pub fn cuts(&mut self, len: usize) -> Vec<std::ops::Range<usize>> {
        let mut at: Vec<usize> = (0..self.below(5)).map(|_| self.below(len + 1)).collect();
        at.extend([0, len]);
        at.sort_unstable();
        at.windows(2).map(|w| w[0]..w[1]).collect()
    }
}

/// The instruction sets that this machine has.
pub fn isas() -> Vec<Isa> {
    Isa::ALL
        .into_iter()
        .filter(|isa| isa.is_available())
        .collect()
}

/// Kernels for every available instruction set, on one and on two threads.
pub fn all_kernels(compute: Compute) -> Vec<[Kernels; 2]> {
    isas()
        .into_iter()
        .map(|isa| [1, 2].map(|threads| Kernels::with_isa(threads, compute, isa)))
        .collect()
}

/// Rounded to the nearest bf16.
pub fn to_bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// Asserts that two matrices agree to the bit.
#[track_caller]
pub fn assert_same_bits(a: &Mat, b: &Mat, what: &str) {
    assert_eq!((a.rows(), a.cols()), (b.rows(), b.cols()), "{what}");
    for row in 0..a.rows() {
        for (col, (x, y)) in a.row(row).iter().zip(b.row(row)).enumerate() {
            assert_eq!(
                x.to_bits(),
                y.to_bits(),
                "{what}: [{row}, {col}] {x} != {y}"
            );
        }
    }
}

/// Asserts that `a` is within `tolerance` of `expected`, relative to the larger of 1 and its size.
#[track_caller]
pub fn assert_close(a: f32, expected: f64, tolerance: f64, what: &str) {
    let error = (f64::from(a) - expected).abs();
    assert!(
        error <= tolerance * expected.abs().max(1.0),
        "{what}: {a} instead of {expected}"
    );
}
