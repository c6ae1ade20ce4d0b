//! Codes of a few bits that share bytes with codes far from them: the first part of the matrix is in some bits of
//! every byte, the next part in others. HQQ, quanto and BitNet store theirs so.
//!
//! Everything is seen flat, row after row: a *plane* is the codes that have the same bits, and each plane is a part of
//! its own, all of the same tensor.

use std::ops::Range;

use sli_kernels::Vectors;

use super::code::{Areas, Decode, Fault, Wanted, ZERO_SCALE, flat, groups};
use super::scale::Scale;

/// A matrix of such codes. Its parts: the planes, the scales, and the numbers that codes count from, where there are some.
#[derive(Debug)]
pub(super) struct Planes {
    /// Of the matrix.
    pub columns: usize,
    /// Codes of a plane; the last one may have fewer.
    pub plane: usize,
    pub bits: u32,
    /// First bit of every plane in its byte or word.
    pub shifts: Box<[u32]>,
    /// Bytes of a word: 1 or 4.
    pub word: usize,
    pub scale: Scale,
    pub sharing: Sharing,
    pub meaning: Meaning,
}

/// Which codes share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// So many, one behind the other.
    Run(usize),
    /// Those that are so many apart.
    Apart(usize),
    /// All.
    All,
}

/// What a code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// `(code - zero) * scale`, with a zero for every scale, of its type.
    FromZero,
    /// `code * scale - zero`, with a zero for every scale, of its type.
    Less,
    /// `(code - 1) * scale`.
    Ternary,
    /// `(code - 1) / scale`.
    TernaryOver,
}

impl Planes {
    /// The codes of a plane that a span needs. No part is empty: where it needs none it gets the one that is nearest, which
    /// larger spans have as well.
    fn of_plane(&self, plane: usize, span: &Range<usize>) -> Range<usize> {
        let own = plane * self.plane..(plane + 1) * self.plane;
        let (start, end) = (span.start.max(own.start), span.end.min(own.end));
        if start < end {
            start - own.start..end - own.start
        } else if span.end <= own.start {
            0..1
        } else {
            self.plane.saturating_sub(1)..self.plane
        }
    }

    /// The scales that a span needs.
    fn of_scales(&self, span: &Range<usize>) -> Range<usize> {
        match self.sharing {
            Sharing::All => 0..1,
            Sharing::Run(run) => groups(span, run),
            Sharing::Apart(apart) => {
                let first = span.start % apart;
                if first + span.len() <= apart {
                    first..first + span.len()
                } else {
                    0..apart
                }
            }
        }
    }

    /// A scale of zero has lost what it scales.
    fn lost(&self) -> Fault {
        Fault {
            part: self.shifts.len(),
            ..ZERO_SCALE
        }
    }

    /// How many codes from one on have one plane and scales in a row.
    fn together(&self, at: usize) -> usize {
        let in_plane = self.plane - at % self.plane;
        match self.sharing {
            Sharing::All => in_plane,
            Sharing::Run(run) => in_plane.min(run - at % run),
            Sharing::Apart(apart) => in_plane.min(apart - at % apart),
        }
    }
}

impl Areas for Planes {
    fn block(&self) -> [usize; 2] {
        [1, 1]
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        let span = flat(self.columns, rows, columns);
        if part < self.shifts.len() {
            [0..1, self.of_plane(part, &span)]
        } else {
            [0..1, self.of_scales(&span)]
        }
    }

    fn rounds_inputs(&self) -> bool {
        matches!(self.meaning, Meaning::Ternary | Meaning::TernaryOver)
    }
}

impl Decode for Planes {
    #[inline(always)]
    fn decode<V: Vectors>(&self, _: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let span = flat(self.columns, &rows, &columns);
        let first = self.of_scales(&span);
        let planes = self.shifts.len();
        let mut scales = vec![0.0; first.len()];
        self.scale.line(parts[planes].bytes, &mut scales);
        let mut zeros = vec![0.0; first.len()];
        if let Some(stored) = parts.get(planes + 1) {
            self.scale.line(stored.bytes, &mut zeros);
        }
        let mask = (1_u32 << self.bits) - 1;
        for (row, line) in rows.zip(out.chunks_exact_mut(columns.len())) {
            let (mut at, end) = (
                row * self.columns + columns.start,
                row * self.columns + columns.end,
            );
            let mut rest = line;
            while at < end {
                let count = self.together(at).min(end - at);
                let (some, after) = rest.split_at_mut(count);
                let plane = at / self.plane;
                let begins = at % self.plane - self.of_plane(plane, &span).start;
                let (bytes, shift) = (parts[plane].bytes, self.shifts[plane]);
                if self.word == 1 {
                    let codes = some.iter_mut().zip(&bytes[begins..]);
                    codes.for_each(|(out, byte)| *out = f32::from(byte >> shift & mask as u8));
                } else {
                    let words = some.iter_mut().zip(&bytes.as_chunks::<4>().0[begins..]);
                    words.for_each(|(out, word)| {
                        *out = (u32::from_le_bytes(*word) >> shift & mask) as f32;
                    });
                }
                self.mean(some, at, first.start, &scales, &zeros)?;
                (rest, at) = (after, at + count);
            }
        }
        Ok(())
    }
}

impl Planes {
    /// Makes numbers of codes that are together, the first of which has a place in the flat matrix.
    #[inline(always)]
    fn mean(
        &self,
        codes: &mut [f32],
        at: usize,
        first: usize,
        scales: &[f32],
        zeros: &[f32],
    ) -> Result<(), Fault> {
        let place = match self.sharing {
            Sharing::All => 0,
            Sharing::Run(run) => at / run - first,
            Sharing::Apart(apart) => {
                let place = at % apart - first;
                let pairs = scales[place..].iter().zip(&zeros[place..]);
                let mut is_lost = false;
                for (code, (&scale, &zero)) in codes.iter_mut().zip(pairs) {
                    is_lost |= scale == 0.0 && *code != zero;
                    *code = (*code - zero) * scale;
                }
                return if is_lost { Err(self.lost()) } else { Ok(()) };
            }
        };
        let (scale, zero) = (scales[place], zeros[place]);
        match self.meaning {
            Meaning::FromZero if scale == 0.0 && codes.iter().any(|&code| code != zero) => {
                return Err(self.lost());
            }
            Meaning::FromZero => codes.iter_mut().for_each(|x| *x = (*x - zero) * scale),
            Meaning::Less => codes.iter_mut().for_each(|x| *x = *x * scale - zero),
            Meaning::Ternary => codes.iter_mut().for_each(|x| *x = (*x - 1.0) * scale),
            Meaning::TernaryOver => codes.iter_mut().for_each(|x| *x = (*x - 1.0) / scale),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn planes_are_the_same_numbers_on_every_instruction_set() {
        for (bits, word, shifts) in [
            (4, 1, &[4, 0][..]),
            (2, 1, &[0, 2, 4, 6]),
            (3, 4, &[27, 24, 21, 18, 15, 12, 9, 6, 3, 0]),
            (8, 1, &[0]),
        ] {
            for sharing in [Sharing::Run(24), Sharing::Apart(120), Sharing::All] {
                let code = Planes {
                    columns: 48,
                    plane: (10_usize * 48).div_ceil(shifts.len()),
                    bits,
                    shifts: shifts.into(),
                    word,
                    scale: Scale::F16,
                    sharing,
                    meaning: Meaning::FromZero,
                };
                let mut sizes = vec![word; shifts.len()];
                sizes.extend([2, 2]);
                assert_alike(&code, [10, 48], &sizes);
            }
        }
    }
}
