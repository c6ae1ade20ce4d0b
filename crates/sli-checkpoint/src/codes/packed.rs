//! Integers of a few bits in words along the rows, with a scale for a run of columns: compressed-tensors, MLX and AWQ's
//! gemv.

use std::ops::Range;

use sli_kernels::Vectors;

use super::bits;
use super::code::{Areas, Decode, Fault, Stored, Wanted, groups};
use super::scale::Scale;

/// A matrix of such numbers. Its parts: the words, the scales, zero points or addends, and which run a column is of.
#[derive(Debug)]
pub(super) struct Packed {
    pub bits: u32,
    /// Columns that share a scale.
    pub run: usize,
    /// Runs of a row.
    pub runs: usize,
    pub scale: Scale,
    pub zero: Zero,
    /// A column's run is what the last part says.
    pub has_order: bool,
}

/// What a code counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    /// The middle of the codes.
    Middle,
    /// Codes for every scale, packed down the rows.
    Down,
    /// Codes for every scale, packed along the rows.
    Along,
    /// Signed bytes for every scale, added to the middle.
    Bytes,
    /// Nothing; a number of the scales' type for every scale is added.
    Addend,
}

const SCALES: usize = 1;
const ZEROS: usize = 2;

impl Packed {
    fn has_zeros(&self) -> bool {
        self.zero != Zero::Middle
    }

    /// The runs that some columns need.
    fn runs_of(&self, columns: &Range<usize>) -> Range<usize> {
        if self.has_order {
            return 0..self.runs;
        }
        groups(columns, self.run)
    }
}

impl Areas for Packed {
    fn block(&self) -> [usize; 2] {
        let rows = if self.zero == Zero::Down { 32 } else { 1 };
        [rows, 32.max(self.run)]
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        let words = |codes: &Range<usize>| bits::words(self.bits, codes);
        match part {
            0 => [rows.clone(), words(columns)],
            SCALES => [rows.clone(), self.runs_of(columns)],
            ZEROS if self.zero == Zero::Down => [words(rows), self.runs_of(columns)],
            ZEROS if self.zero == Zero::Along => [rows.clone(), words(&self.runs_of(columns))],
            ZEROS if self.has_zeros() => [rows.clone(), self.runs_of(columns)],
            _ => [0..1, columns.clone()],
        }
    }
}

impl Decode for Packed {
    #[inline(always)]
    fn decode<V: Vectors>(&self, _: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let words = |codes: &Range<usize>| bits::words(self.bits, codes);
        let first = words(&columns).start * 32;
        let runs = self.runs_of(&columns);
        let order = self.order(&runs, &columns, parts)?;
        let (mut codes, mut zeros) = (vec![0; columns.len()], vec![0.0; runs.len()]);
        let (mut scales, mut packed) = (vec![0.0; runs.len()], vec![0; runs.len()]);
        for (row, line) in rows.clone().zip(out.chunks_exact_mut(columns.len())) {
            let at = row - rows.start;
            let bit = columns.start * self.bits as usize - first;
            bits::stream(self.bits, parts[0].row(at), bit, &mut codes);
            self.scale.line(parts[SCALES].row(at), &mut scales);
            let middle = f32::from(1_u8 << (self.bits - 1));
            match self.zero {
                Zero::Middle => zeros.fill(middle),
                Zero::Addend => self.scale.line(parts[ZEROS].row(at), &mut zeros),
                Zero::Bytes => {
                    let pairs = zeros.iter_mut().zip(parts[ZEROS].row(at));
                    pairs.for_each(|(zero, &byte)| *zero = middle + f32::from(byte as i8));
                }
                Zero::Along => {
                    let bit = runs.start * self.bits as usize - words(&runs).start * 32;
                    bits::stream(self.bits, parts[ZEROS].row(at), bit, &mut packed);
                    let pairs = zeros.iter_mut().zip(&packed);
                    pairs.for_each(|(zero, &code)| *zero = f32::from(code));
                }
                Zero::Down => {
                    let bit = row * self.bits as usize - words(&rows).start * 32;
                    let words = |word: usize| parts[ZEROS].row(word);
                    bits::down(self.bits, bit, words, &mut packed);
                    let pairs = zeros.iter_mut().zip(&packed);
                    pairs.for_each(|(zero, &code)| *zero = f32::from(code));
                }
            }
            if let Some(order) = &order {
                for ((out, &code), &run) in line.iter_mut().zip(&codes).zip(order) {
                    *out = (f32::from(code) - zeros[run]) * scales[run];
                }
                continue;
            }
            let mut column = columns.start;
            for (&scale, &zero) in scales.iter().zip(&zeros) {
                let end = ((column / self.run + 1) * self.run).min(columns.end);
                let within = column - columns.start..end - columns.start;
                let pairs = line[within.clone()].iter_mut().zip(&codes[within]);
                match self.zero {
                    Zero::Addend => {
                        pairs.for_each(|(out, &code)| *out = f32::from(code) * scale + zero);
                    }
                    _ if scale == 0.0 => zeros_alone(pairs, zero)?,
                    _ => pairs.for_each(|(out, &code)| *out = (f32::from(code) - zero) * scale),
                }
                column = end;
            }
        }
        Ok(())
    }
}

/// Numbers whose scale is zero have to be zero themselves.
#[inline(always)]
fn zeros_alone<'n>(
    pairs: impl Iterator<Item = (&'n mut f32, &'n u8)>,
    zero: f32,
) -> Result<(), Fault> {
    for (out, &code) in pairs {
        if f32::from(code) != zero {
            return Err(super::code::ZERO_SCALE);
        }
        *out = 0.0;
    }
    Ok(())
}

impl Packed {
    /// The run of every column, where a part says it.
    fn order(
        &self,
        runs: &Range<usize>,
        columns: &Range<usize>,
        parts: &[Stored<'_>],
    ) -> Result<Option<Vec<usize>>, Fault> {
        let part = ZEROS + usize::from(self.has_zeros());
        let Some(stored) = parts.get(part).filter(|_| self.has_order) else {
            return Ok(None);
        };
        order_of(stored.bytes, columns.len(), runs.len(), part).map(Some)
    }
}

/// Numbers of groups, of which there are some.
pub(super) fn order_of(
    bytes: &[u8],
    count: usize,
    groups: usize,
    part: usize,
) -> Result<Vec<usize>, Fault> {
    let (numbers, _) = bytes.as_chunks::<4>();
    let numbers = numbers.iter().take(count).map(|bytes| {
        let group = usize::try_from(i32::from_le_bytes(*bytes)).ok();
        group.filter(|&group| group < groups)
    });
    let reason = "a column is of a group that there is not";
    let numbers: Option<Vec<usize>> = numbers.collect();
    numbers.ok_or(Fault { part, reason })
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn packed_codes_are_the_same_numbers_on_every_instruction_set() {
        for bits in 1..=8 {
            for (zero, size) in [
                (Zero::Middle, 1),
                (Zero::Down, 4),
                (Zero::Along, 4),
                (Zero::Bytes, 1),
                (Zero::Addend, 2),
            ] {
                let code = Packed {
                    bits,
                    run: 48,
                    runs: 3,
                    scale: Scale::F16,
                    zero,
                    has_order: false,
                };
                assert_alike(&code, [5, 131], &[4, 2, size]);
            }
        }
    }
}
