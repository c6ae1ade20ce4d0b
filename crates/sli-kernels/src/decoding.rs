//! What turns codes into numbers: computations on slices, compiled for every instruction set.
//!
//! What codes mean is known where they are read, which is no part of this crate. There a computation is written once,
//! as plain loops over slices; here it is compiled for each instruction set, so that the compiler's own vectors are
//! as wide as the machine's. [`Vectors`] has what such loops do not become. Products and sums are never fused, so
//! the numbers have the same bits whatever the machine.

use crate::isa::Isa;
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd, SimdOp};

/// A computation that is compiled for every instruction set.
pub trait Vectorized {
    /// What it returns.
    type Output;

    /// The computation. Implementations are `#[inline(always)]`, as is everything they call.
    fn run<V: Vectors>(self, vectors: V) -> Self::Output;
}

/// What loops over slices do not become by themselves.
pub trait Vectors: Copy {
    /// `table[code & 15] * scale` for each of sixteen codes.
    fn look_up(self, table: &[f32; 16], codes: [u8; 16], scale: f32, out: &mut [f32; 16]);

    /// `code * scale + addend` for each of sixteen codes.
    fn scaled(self, codes: [i8; 16], scale: f32, addend: f32, out: &mut [f32; 16]);
}

/// An instruction set's vectors.
#[derive(Clone, Copy)]
struct On<S>(S);

impl<S: Simd> Vectors for On<S> {
    #[inline(always)]
    fn look_up(self, table: &[f32; 16], codes: [u8; 16], scale: f32, out: &mut [f32; 16]) {
        let scale = self.0.splat(scale);
        for first in (0..16).step_by(S::LANES) {
            let numbers = self.0.look_up(table, &codes, first);
            self.0.put(&mut out[first..], self.0.mul(numbers, scale));
        }
    }

    #[inline(always)]
    fn scaled(self, codes: [i8; 16], scale: f32, addend: f32, out: &mut [f32; 16]) {
        let (scale, addend) = (self.0.splat(scale), self.0.splat(addend));
        for first in (0..16).step_by(S::LANES) {
            let product = self.0.mul(self.0.widen(&codes, first), scale);
            self.0.put(&mut out[first..], self.0.add(product, addend));
        }
    }
}

struct Compiled<O>(O);

impl<O: Vectorized> SimdOp for Compiled<O> {
    type Output = O::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> O::Output {
        self.0.run(On(s))
    }
}

impl Isa {
    /// Runs a computation compiled for this instruction set, or for the portable one if the machine lacks it. Native dot
    /// products of bf16 make no difference here, so nothing is compiled twice for them.
    pub fn vectorize<O: Vectorized>(self, computation: O) -> O::Output {
        let computation = Compiled(computation);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 => match Avx512::<false>::new() {
                Some(simd) => simd.vectorize(computation),
                None => Plain.vectorize(computation),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => match Avx2::new() {
                Some(simd) => simd.vectorize(computation),
                None => Plain.vectorize(computation),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Neon.vectorize(computation),
            _ => Plain.vectorize(computation),
        }
    }

    /// Writes the transpose of a matrix of `columns` columns, little-endian: its number in row r and column c goes to
    /// `to[c * stride + r]`. Between the rows of the outcome nothing is written.
    pub fn turn(self, from: &[f32], columns: usize, to: &mut [[u8; 4]], stride: usize) {
        let rows = from.len().checked_div(columns).unwrap_or(0);
        if rows == 0 {
            return;
        }
        assert_eq!(from.len(), rows * columns, "whole rows");
        assert!(
            rows <= stride || columns == 1,
            "rows of the outcome are apart"
        );
        assert!(
            to.len() >= (columns - 1) * stride + rows,
            "room for all columns"
        );
        self.run(Turn {
            from,
            sides: [rows, columns],
            to,
            stride,
        });
    }
}

struct Turn<'a> {
    from: &'a [f32],
    sides: [usize; 2],
    to: &'a mut [[u8; 4]],
    stride: usize,
}

impl SimdOp for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [rows, columns] = self.sides;
        let whole = [rows, columns].map(|side| side / S::LANES * S::LANES);
        // Squares are turned as they lie in memory.
        let whole = if cfg!(target_endian = "little") {
            whole
        } else {
            [0, 0]
        };
        for column in (0..whole[1]).step_by(S::LANES) {
            for row in (0..whole[0]).step_by(S::LANES) {
                let last = S::LANES - 1;
                let from = &self.from[row * columns + column..][..last * columns + S::LANES];
                let to = &mut self.to[column * self.stride + row..];
                let to = &mut to[..last * self.stride + S::LANES];
                // SAFETY: both hold a square of as many rows as there are lanes, whose distance is given.
                unsafe {
                    let from = from.as_ptr().cast();
                    s.transpose(from, 4 * columns, to.as_mut_ptr().cast(), self.stride);
                }
            }
        }
        for (row, line) in self.from.chunks_exact(columns).enumerate() {
            let first = if row < whole[0] { whole[1] } else { 0 };
            for (column, number) in line.iter().enumerate().skip(first) {
                self.to[column * self.stride + row] = number.to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct LookUp {
        table: [f32; 16],
        codes: [u8; 16],
    }

    impl Vectorized for LookUp {
        type Output = [f32; 16];

        #[inline(always)]
        fn run<V: Vectors>(self, vectors: V) -> [f32; 16] {
            let mut out = [0.0; 16];
            vectors.look_up(&self.table, self.codes, 3.0, &mut out);
            out
        }
    }

    struct Scaled([i8; 16]);

    impl Vectorized for Scaled {
        type Output = [f32; 16];

        #[inline(always)]
        fn run<V: Vectors>(self, vectors: V) -> [f32; 16] {
            let mut out = [0.0; 16];
            vectors.scaled(self.0, 0.37, -1.1, &mut out);
            out
        }
    }

    #[test]
    fn codes_are_scaled_without_fusing() {
        for isa in available() {
            for turn in 0..16_u8 {
                let codes = std::array::from_fn(|at| (at as u8 * 16 + turn) as i8);
                let wanted = codes.map(|code| f32::from(code) * 0.37 + -1.1);
                assert_eq!(isa.vectorize(Scaled(codes)), wanted, "{isa}");
            }
        }
    }

    fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    #[test]
    fn codes_are_looked_up_by_their_low_half() {
        for isa in available() {
            for turn in 0..16_u8 {
                let table = std::array::from_fn(|at| at as f32 * 0.37 - 2.0);
                let codes = std::array::from_fn(|at| ((at as u8 * 7 + turn) % 16) | (turn << 4));
                let found = isa.vectorize(LookUp { table, codes });
                let wanted = codes.map(|code| table[usize::from(code & 15)] * 3.0);
                assert_eq!(found, wanted, "{isa}");
            }
        }
    }

    #[test]
    fn matrices_are_turned_and_what_is_between_stays() {
        for isa in available() {
            for [rows, columns] in [[1, 1], [5, 33], [16, 16], [40, 17], [33, 48], [1, 50]] {
                let from: Vec<f32> = (0..rows * columns).map(|at| at as f32).collect();
                let stride = rows + 3;
                let mut to = vec![[0xff; 4]; columns * stride];
                isa.turn(&from, columns, &mut to, stride);
                for (at, found) in to.iter().enumerate() {
                    let (column, row) = (at / stride, at % stride);
                    let wanted = if row < rows {
                        from[row * columns + column].to_le_bytes()
                    } else {
                        [0xff; 4]
                    };
                    assert_eq!(*found, wanted, "{isa} {rows} x {columns}");
                }
            }
            isa.turn(&[], 3, &mut [], 1);
        }
    }
}
