//! Writing panels: rows of elements become columns of a panel.
//!
//! A panel is a sequence of *words* of 32 bits, 32 of them a step. A word is an `f32` (one `k`) or a
//! pair of 16-bit elements (two `k`). Rows are first turned into rows of words, then transposed.

use crate::simd::{MAX_LANES, PANEL, Simd, SimdOp};

/// Words of a row that are transposed at a time.
pub(crate) const CHUNK: usize = 256;

/// Where the words of a panel go.
pub(crate) enum Words<'a> {
    /// One word a step and column.
    Whole(&'a mut [u32]),
    /// The halves of each word in consecutive steps of 16-bit elements.
    Halves(&'a mut [u16]),
}

/// Writes rows of words into the columns `lane ..` of a panel whose first step is that of the first
/// word. Row `i` is the `4 * steps` bytes from byte `i * stride` of `from` on, at any alignment.
pub(crate) struct Transpose<'a> {
    pub from: &'a [u8],
    /// Bytes.
    pub stride: usize,
    pub rows: usize,
    pub steps: usize,
    pub lane: usize,
    pub to: Words<'a>,
}

impl SimdOp for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        assert!(
            self.lane + self.rows <= PANEL && (self.rows <= 1 || 4 * self.steps <= self.stride)
        );
        let (whole_rows, whole_steps) = if self.lane.is_multiple_of(S::LANES) {
            (
                self.rows / S::LANES * S::LANES,
                self.steps / S::LANES * S::LANES,
            )
        } else {
            (0, 0)
        };
        let mut block = [0_u32; MAX_LANES * MAX_LANES];
        for row in (0..whole_rows).step_by(S::LANES) {
            for step in (0..whole_steps).step_by(S::LANES) {
                let first = row * self.stride + 4 * step;
                let last = first + (S::LANES - 1) * self.stride + 4 * S::LANES;
                assert!(last <= self.from.len());
                let lane = self.lane + row;
                // SAFETY: the last of the rows is in bounds, `square` holds all of the outcome, and `block` holds
                // any square.
                unsafe {
                    let from = self.from.as_ptr().add(first);
                    match &mut self.to {
                        Words::Whole(to) => {
                            let square = &mut to[step * PANEL + lane..];
                            assert!(square.len() >= (S::LANES - 1) * PANEL + S::LANES);
                            s.transpose(from, self.stride, square.as_mut_ptr(), PANEL);
                        }
                        Words::Halves(_) => {
                            s.transpose(from, self.stride, block.as_mut_ptr(), S::LANES);
                            for (i, words) in
                                block.chunks_exact(S::LANES).take(S::LANES).enumerate()
                            {
                                self.to.put(step + i, lane, words);
                            }
                        }
                    }
                }
            }
        }
        for row in 0..self.rows {
            let first = if row < whole_rows { whole_steps } else { 0 };
            let words = &self.from[row * self.stride..][..4 * self.steps];
            let words = words.as_chunks::<4>().0;
            for (step, word) in words.iter().enumerate().skip(first) {
                let word = u32::from_le_bytes(*word);
                self.to.put(step, self.lane + row, &[word]);
            }
        }
    }
}

impl Words<'_> {
    /// Puts words into consecutive columns of one step.
    #[inline(always)]
    fn put(&mut self, step: usize, lane: usize, words: &[u32]) {
        match self {
            Self::Whole(to) => to[step * PANEL + lane..][..words.len()].copy_from_slice(words),
            Self::Halves(to) => {
                let at = 2 * step * PANEL + lane;
                for (to, word) in to[at..][..words.len()].iter_mut().zip(words) {
                    *to = *word as u16;
                }
                // The second half of a last odd pair has no place.
                if let Some(to) = to.get_mut(at + PANEL..at + PANEL + words.len()) {
                    for (to, word) in to.iter_mut().zip(words) {
                        *to = (*word >> 16) as u16;
                    }
                }
            }
        }
    }
}
