//! Numbers of 8 bits (E4M3, E5M2, integers) times a scale for every block, row, column or matrix.

use std::ops::Range;
use std::sync::Arc;

use sli_kernels::Vectors;

use super::code::{Areas, Coded, Decode, Fault, Stored, Wanted, groups};
use super::numbers::{e4m3, e5m2, int8};
use super::scale::Scale;
use super::tensors::{Placed, matrices, mistyped, of_type, seen, structure};
use crate::dtype::Dtype;
use crate::problem::LeafProblem;

/// A number is `(code - zero point) * scale * factor`.
#[derive(Debug)]
struct Bytes {
    number: Number,
    /// Rows and columns that share a scale.
    block: [usize; 2],
    /// `None`: there are none.
    scale: Option<Scale>,
    /// Whether every scale has a zero point, of the type of the codes.
    has_zeros: bool,
    factor: f32,
}

/// Where the scales of a matrix stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocks {
    /// One for every so many rows and columns.
    Of([usize; 2]),
    /// One for all, for each row or for each column, as their shape says.
    ByShape,
}

/// What decodes a tensor of 8-bit numbers, beside its codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales<'c> {
    /// Where they are.
    pub tensor: Placed<'c>,
    pub zeros: Option<Placed<'c>>,
    pub blocks: Blocks,
    pub factor: f32,
}

/// What 8 bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    E4m3,
    E5m2,
    Integer,
}

impl Number {
    /// The numbers of a type of 8 bits.
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F8E4M3 => Some(Self::E4m3),
            Dtype::F8E5M2 => Some(Self::E5m2),
            Dtype::I8 => Some(Self::Integer),
            _ => None,
        }
    }
}

/// The coded tensor of these codes.
pub(super) fn coded(codes: Placed<'_>, scales: Option<Scales<'_>>) -> Result<Coded, LeafProblem> {
    let tensor = codes.1;
    let number = Number::of(tensor.dtype).ok_or_else(|| mistyped(tensor, "a number of 8 bits"))?;
    let (leading, sides) = matrices(tensor)?;
    let mut parts = vec![seen(codes, sides)];
    let mut code = Bytes {
        number,
        block: sides.map(|side| side.max(1)),
        scale: None,
        has_zeros: false,
        factor: 1.0,
    };
    if let Some(scales) = scales {
        let info = scales.tensor.1;
        let scale = Scale::of(info.dtype).filter(|scale| *scale != Scale::E4m3);
        code.scale = Some(scale.ok_or_else(|| mistyped(info, Scale::TYPES))?);
        code.factor = scales.factor;
        let grid = grid(
            &mut code.block,
            scales,
            tensor.name.as_ref(),
            leading,
            sides,
        )?;
        parts.push(seen(scales.tensor, grid));
        if let Some(zeros) = scales.zeros {
            of_type(zeros.1, tensor.dtype)?;
            if zeros.1.shape != info.shape {
                let reason = format!("the scales have shape {:?}", info.shape);
                return Err(structure(zeros.1, reason));
            }
            code.has_zeros = true;
            parts.push(seen(zeros, grid));
        }
    }
    Ok(Coded::new(tensor.shape.clone(), parts, Arc::new(code)))
}

/// Rows and columns of scales; sets the block of each.
fn grid(
    block: &mut [usize; 2],
    scales: Scales<'_>,
    name: &str,
    leading: &[usize],
    sides: [usize; 2],
) -> Result<[usize; 2], LeafProblem> {
    let (_, info) = scales.tensor;
    let [rows, columns] = sides;
    match scales.blocks {
        Blocks::Of([high, wide]) => {
            let grid = [rows.div_ceil(high), columns.div_ceil(wide)];
            if *info.shape != *[leading, &grid].concat() {
                let reason = format!(
                    "the {rows} x {columns} numbers of `{name}` in blocks of {high} x {wide} have {} x {} scales",
                    grid[0], grid[1]
                );
                return Err(structure(info, reason));
            }
            *block = [high, wide];
            Ok(grid)
        }
        Blocks::ByShape => {
            let own = info.shape.strip_prefix(leading);
            let grid = match own {
                Some([] | [1] | [1, 1]) => Some([1, 1]),
                Some(&[count] | &[count, 1]) if count == rows => Some([rows, 1]),
                Some(&[1, count]) if count == columns => Some([1, columns]),
                _ => None,
            };
            let grid = grid.ok_or_else(|| {
                let reason = format!(
                    "`{name}` has one scale where no blocks are configured, or one a row of {rows}"
                );
                structure(info, reason)
            })?;
            for axis in 0..2 {
                block[axis] = if grid[axis] == 1 {
                    sides[axis].max(1)
                } else {
                    1
                };
            }
            Ok(grid)
        }
    }
}

impl Areas for Bytes {
    fn block(&self) -> [usize; 2] {
        self.block
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        if part == 0 {
            return [rows.clone(), columns.clone()];
        }
        let [high, wide] = self.block;
        [groups(rows, high), groups(columns, wide)]
    }
}

impl Decode for Bytes {
    #[inline(always)]
    fn decode<V: Vectors>(&self, _: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        match self.number {
            Number::E4m3 => self.lines(e4m3, rows, columns, parts, out),
            Number::E5m2 => self.lines(e5m2, rows, columns, parts, out),
            Number::Integer => self.lines(int8, rows, columns, parts, out),
        }
    }
}

impl Bytes {
    /// Decodes rows of codes, each of which is a number.
    #[inline(always)]
    fn lines(
        &self,
        number: impl Fn(u8) -> f32 + Copy,
        rows: Range<usize>,
        columns: Range<usize>,
        parts: &[Stored<'_>],
        out: &mut [f32],
    ) -> Result<(), Fault> {
        let [high, wide] = self.block;
        let first = [rows.start / high, columns.start / wide];
        for (line, row) in out.chunks_exact_mut(columns.len()).zip(rows.clone()) {
            let codes = parts[0].row(row - rows.start);
            let mut column = columns.start;
            while column < columns.end {
                let block = column / wide;
                let end = ((block + 1) * wide).min(columns.end);
                let within = column - columns.start..end - columns.start;
                let (codes, line) = (&codes[within.clone()], &mut line[within]);
                let place = [row / high - first[0], block - first[1]];
                self.segment(number, codes, parts, place, line)?;
                column = end;
            }
        }
        Ok(())
    }

    /// Decodes numbers that share a scale, which has a place.
    #[inline(always)]
    fn segment(
        &self,
        number: impl Fn(u8) -> f32 + Copy,
        codes: &[u8],
        parts: &[Stored<'_>],
        [row, column]: [usize; 2],
        out: &mut [f32],
    ) -> Result<(), Fault> {
        let pairs = out.iter_mut().zip(codes);
        let Some(scale) = self.scale else {
            pairs.for_each(|(out, &code)| *out = number(code));
            return Ok(());
        };
        let scale = scale.at(parts[1].row(row), column) * self.factor;
        let zero = if self.has_zeros {
            number(parts[2].row(row)[column])
        } else {
            0.0
        };
        if scale == 0.0 && codes.iter().any(|&code| number(code) != zero) {
            return Err(super::code::ZERO_SCALE);
        }
        if self.has_zeros {
            pairs.for_each(|(out, &code)| *out = (number(code) - zero) * scale);
        } else {
            pairs.for_each(|(out, &code)| *out = number(code) * scale);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn bytes_are_the_same_numbers_on_every_instruction_set() {
        for number in [Number::E4m3, Number::E5m2, Number::Integer] {
            for (scale, size) in [(Some(Scale::F32), 4), (Some(Scale::Bf16), 2), (None, 1)] {
                for has_zeros in [false, true] {
                    let code = Bytes {
                        number,
                        block: [2, 40],
                        scale,
                        has_zeros: has_zeros && scale.is_some(),
                        factor: 0.37,
                    };
                    assert_alike(&code, [5, 131], &[1, size, 1]);
                }
            }
        }
    }
}
