//! Integers of a few bits in words, stored `[in, out]` with a scale for a group of rows: GPTQ and AWQ.

use std::ops::Range;

use sli_kernels::Vectors;

use super::bits;
use super::code::{Areas, Decode, Fault, Wanted, groups};
use super::packed::order_of;
use super::scale::Scale;

/// A matrix of such numbers. Its parts: the words, the scales `[groups, out]`, the zero points and the group of
/// every row.
#[derive(Debug)]
pub(super) struct Grouped {
    pub bits: u32,
    /// Rows that share a scale.
    pub group: usize,
    pub groups: usize,
    pub scale: Scale,
    pub layout: Layout,
    /// A row's group is what the last part says.
    pub has_order: bool,
}

/// How words hold codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Down the rows; zero points along the columns.
    Gptq(ZeroPoint),
    /// Along the columns, in its own order, zero points as well.
    Awq,
}

/// What a stored zero point means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroPoint {
    /// Itself.
    Same,
    /// One less than it is, within the bits.
    OneLess,
    /// The same, but the middle of the codes is itself: it is the only zero point of symmetric codes, and some writers
    /// of those store it as it is.
    OneLessOrMiddle,
}

const SCALES: usize = 1;
const ZEROS: usize = 2;
const ORDER: usize = 3;

impl Grouped {
    fn groups_of(&self, rows: &Range<usize>) -> Range<usize> {
        if self.has_order {
            return 0..self.groups;
        }
        groups(rows, self.group)
    }

    /// The zero points of some columns, from a row of words.
    #[inline(always)]
    fn zeros(&self, words: &[u8], columns: &Range<usize>, codes: &mut [u8], out: &mut [f32]) {
        let first = bits::words(self.bits, columns).start * 32;
        match self.layout {
            Layout::Awq => bits::awq(words, columns.start % 8, codes),
            Layout::Gptq(_) => {
                let bit = columns.start * self.bits as usize - first;
                bits::stream(self.bits, words, bit, codes);
            }
        }
        let (mask, middle) = (((1_u16 << self.bits) - 1) as u8, 1_u8 << (self.bits - 1));
        for (zero, &code) in out.iter_mut().zip(&*codes) {
            let code = match self.layout {
                Layout::Awq | Layout::Gptq(ZeroPoint::Same) => code,
                Layout::Gptq(ZeroPoint::OneLessOrMiddle) if code == middle => code,
                Layout::Gptq(ZeroPoint::OneLess | ZeroPoint::OneLessOrMiddle) => {
                    code.wrapping_add(1) & mask
                }
            };
            *zero = f32::from(code);
        }
    }
}

impl Areas for Grouped {
    fn block(&self) -> [usize; 2] {
        match self.layout {
            Layout::Gptq(_) => [32, 32],
            Layout::Awq => [1, 8],
        }
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        match (part, self.layout) {
            (0, Layout::Gptq(_)) => [bits::words(self.bits, rows), columns.clone()],
            (0, Layout::Awq) => [rows.clone(), bits::words(self.bits, columns)],
            (SCALES, _) => [self.groups_of(rows), columns.clone()],
            (ZEROS, _) => [self.groups_of(rows), bits::words(self.bits, columns)],
            _ => [0..1, rows.clone()],
        }
    }
}

impl Decode for Grouped {
    #[inline(always)]
    fn decode<V: Vectors>(&self, _: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let groups = self.groups_of(&rows);
        let order = match parts.get(ORDER) {
            Some(stored) if self.has_order => {
                Some(order_of(stored.bytes, rows.len(), self.groups, ORDER)?)
            }
            _ => None,
        };
        let mut codes = vec![0; columns.len()];
        let (mut scales, mut zeros) = (vec![0.0; columns.len()], vec![0.0; columns.len()]);
        let (mut known, mut has_zero_scale) = (None, false);
        let first_bit = bits::words(self.bits, &rows).start * 32;
        for (row, line) in rows.clone().zip(out.chunks_exact_mut(columns.len())) {
            let at = row - rows.start;
            let group = order.as_ref().map_or(row / self.group, |order| order[at]);
            if known != Some(group) {
                let place = group - groups.start;
                self.scale.line(parts[SCALES].row(place), &mut scales);
                self.zeros(parts[ZEROS].row(place), &columns, &mut codes, &mut zeros);
                has_zero_scale = scales.contains(&0.0);
                known = Some(group);
            }
            match self.layout {
                Layout::Awq => bits::awq(parts[0].row(at), columns.start % 8, &mut codes),
                Layout::Gptq(_) => {
                    let bit = row * self.bits as usize - first_bit;
                    bits::down(self.bits, bit, |word| parts[0].row(word), &mut codes);
                }
            }
            let all = codes.iter().zip(&zeros).zip(&scales);
            for (out, ((&code, zero), scale)) in line.iter_mut().zip(all) {
                *out = (f32::from(code) - zero) * scale;
            }
            let mut all = codes.iter().zip(&zeros).zip(&scales);
            let is_lost = |((code, zero), scale): ((&u8, &f32), &f32)| {
                *scale == 0.0 && f32::from(*code) != *zero
            };
            if has_zero_scale && all.any(is_lost) {
                return Err(super::code::ZERO_SCALE);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn grouped_codes_are_the_same_numbers_on_every_instruction_set() {
        let zero = ZeroPoint::OneLessOrMiddle;
        let layouts = [2, 3, 4, 8].map(|bits| (bits, Layout::Gptq(zero)));
        for (bits, layout) in layouts.into_iter().chain([(4, Layout::Awq)]) {
            let code = Grouped {
                bits,
                group: 32,
                groups: 3,
                scale: Scale::F16,
                layout,
                has_order: false,
            };
            assert_alike(&code, [96, 160], &[4, 2, 4]);
        }
    }
}
