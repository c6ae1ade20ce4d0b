//! Keys and values of one head of one sequence as panels of the matrix product.

use std::ops::Range;

use super::arguments::AttentionArgs;
use crate::gemm::pack::RoundRow;
use crate::gemm::panel::{CHUNK, Transpose, Words};
use crate::simd::{PANEL, Simd, SimdOp};

/// Where keys and values lie in the packed words of one head of one sequence: panels of 32 keys over
/// the elements of a head, then panels of 32 value elements over the keys.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Keys.
    pub keys: usize,
    /// Elements of a key in one word.
    pub per_word: usize,
    /// Words of a query or key head.
    pub qk_steps: usize,
    /// Words of a value column.
    pub key_steps: usize,
    /// Panels of values.
    pub v_panels: usize,
}

impl Layout {
    /// For a sequence of so many keys.
    pub(super) fn new(args: &AttentionArgs, keys: usize, pairs: bool) -> Self {
        let per_word = if pairs { 2 } else { 1 };
        Self {
            keys,
            per_word,
            qk_steps: args.qk_dim.div_ceil(per_word),
            key_steps: keys.div_ceil(per_word),
            v_panels: args.v_dim.div_ceil(PANEL),
        }
    }

    /// Words of the keys.
    pub(super) fn key_words(&self) -> usize {
        self.keys.div_ceil(PANEL) * self.qk_steps * PANEL
    }

    /// Words of keys and values.
    pub(super) fn words(&self) -> usize {
        self.key_words() + self.v_panels * self.key_steps * PANEL
    }
}

/// Packs some keys and values of one head. `keys` starts at a multiple of 32 positions.
pub(super) struct PackHead<'a> {
    pub args: &'a AttentionArgs<'a>,
    /// Index of the sequence.
    pub segment: usize,
    pub kv_head: usize,
    pub layout: Layout,
    pub keys: Range<usize>,
    /// The packed words of the head, of which this writes those of `keys`.
    pub to: *mut u32,
}

impl SimdOp for PackHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.pack_keys(s);
        self.pack_values(s);
    }
}

impl PackHead<'_> {
    #[inline(always)]
    fn pack_keys<S: Simd>(&self, s: S) {
        let Layout {
            per_word, qk_steps, ..
        } = self.layout;
        let dim = self.args.qk_dim;
        let stride = CHUNK.min(qk_steps);
        let mut words = vec![0_u32; PANEL * stride];
        for first in self.keys.clone().step_by(PANEL) {
            let end = self.keys.end.min(first + PANEL);
            // SAFETY: the panel lies within the head's words and is written by this task only.
            let panel = unsafe {
                let start = self.to.add(first * qk_steps);
                std::slice::from_raw_parts_mut(start, qk_steps * PANEL)
            };
            if end - first < PANEL {
                panel.fill(0);
            }
            for chunk in (0..qk_steps).step_by(CHUNK) {
                let steps = CHUNK.min(qk_steps - chunk);
                for (key, words) in (first..end).zip(words.chunks_exact_mut(stride)) {
                    let row = self.args.row(self.segment, key);
                    let row = &self.args.key(row)[self.kv_head * dim..][..dim];
                    let row = &row[chunk * per_word..dim.min((chunk + steps) * per_word)];
                    prefetch_ahead(s, row, self.args.k.stride());
                    row_words(s, row, per_word, words);
                }
                let to = Words::Whole(&mut panel[chunk * PANEL..]);
                Transpose {
                    from: bytemuck::cast_slice(&words),
                    stride: 4 * stride,
                    rows: end - first,
                    steps,
                    lane: 0,
                    to,
                }
                .run(s);
            }
        }
    }

    #[inline(always)]
    fn pack_values<S: Simd>(&self, s: S) {
        let Layout {
            per_word,
            key_steps,
            v_panels,
            ..
        } = self.layout;
        let dim = self.args.v_dim;
        let value = |key: usize| {
            let row = self.args.row(self.segment, key);
            &self.args.value(row)[self.kv_head * dim..][..dim]
        };
        let zeros = [0.0; PANEL];
        for panel in 0..v_panels {
            let columns = panel * PANEL..dim.min((panel + 1) * PANEL);
            for key in self.keys.clone().step_by(per_word) {
                // SAFETY: the step lies within the head's words and is written by this task only.
                let to = unsafe {
                    let values = self.to.add(self.layout.key_words());
                    let step = values.add((panel * key_steps + key / per_word) * PANEL);
                    std::slice::from_raw_parts_mut(step, PANEL)
                };
                to.fill(0);
                let low = &value(key)[columns.clone()];
                prefetch_ahead(s, low, self.args.v.stride());
                if per_word == 1 {
                    bytemuck::cast_slice_mut(to)[..low.len()].copy_from_slice(low);
                    continue;
                }
                let high = if key + 1 < self.keys.end {
                    &value(key + 1)[columns.clone()]
                } else {
                    &zeros
                };
                for at in (0..low.len()).step_by(S::LANES) {
                    let end = low.len().min(at + S::LANES);
                    let part = |x: &[f32]| {
                        if end - at == S::LANES {
                            s.get(&x[at..])
                        } else {
                            s.get_part(&x[at..end], 0.0)
                        }
                    };
                    let pairs = s.round_pairs(part(low), part(high));
                    // SAFETY: a panel is a multiple of the vector width.
                    unsafe { s.store_pairs(to.as_mut_ptr().add(at), pairs) };
                }
            }
        }
    }
}

/// Rows that are asked for before they are read: the parts of consecutive rows that belong to a head
/// are too short and too far apart for the hardware to see a stream.
const ROWS_AHEAD: usize = 8;

/// Asks for the same part of a later row.
#[inline(always)]
pub(super) fn prefetch_ahead<S: Simd>(s: S, part: &[f32], stride: usize) {
    const LINE: usize = 16;
    for at in (0..part.len()).step_by(LINE) {
        s.prefetch_near(part.as_ptr().wrapping_add(ROWS_AHEAD * stride + at).cast());
    }
}

/// Turns a row of `f32` into words.
#[inline(always)]
pub(super) fn row_words<S: Simd>(s: S, row: &[f32], per_word: usize, words: &mut [u32]) {
    if per_word == 1 {
        bytemuck::cast_slice_mut(words)[..row.len()].copy_from_slice(row);
    } else {
        RoundRow {
            from: row,
            to: bytemuck::cast_slice_mut(words),
        }
        .run(s);
    }
}
