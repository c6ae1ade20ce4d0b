//! The register tile of the matrix product: up to 14 rows of activations times one or more panels of
//! 32 weight columns.
//!
//! Every sum is one chain of multiply-adds, in the order of `k`, held in a register over a block of
//! `k` and in memory as `f32` between blocks. That order is the same for every tile shape, which is
//! what makes a result independent of how a product is cut up.

#![expect(
    clippy::cast_ptr_alignment,
    reason = "blocks and panels are aligned to more than their elements"
)]

use crate::simd::{PANEL, Panel, Simd, Tile};

/// Steps of `k` in a block: an `f32` or a pair of bf16 each.
pub(crate) const BLOCK_STEPS: usize = 256;

/// Bytes between the rows of a block of packed activations.
pub(crate) const BLOCK_ROW_BYTES: usize = BLOCK_STEPS * 4;

/// Bytes that memory gives at a time.
pub(crate) const CACHE_LINE: usize = 64;

/// Panels whose elements are multiplied as `f32`: bytes of a step, its [`Panel::WORDS`], [`Panel::NARROW`], and
/// how [`Panel::weights`] reads.
macro_rules! single_panel {
    (
        $(#[$doc:meta])* $name:ident, $step_bytes:expr, $words:literal, $narrow:literal,
        |$s:ident, $step:ident, $index:ident, $word:ident| $weights:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;

        impl Panel for $name {
            const NEW: Self = Self;
            const PER_STEP: usize = 1;
            const WORDS: usize = $words;
            const STEP_BYTES: usize = $step_bytes;
            const NARROW: bool = $narrow;
            type A<S: Simd> = S::F;
            type B<S: Simd> = S::F;

            #[inline(always)]
            unsafe fn activation<S: Simd>(s: S, from: *const u8) -> S::F {
                // SAFETY: the caller's promise.
                s.splat(unsafe { from.cast::<f32>().read() })
            }

            #[inline(always)]
            unsafe fn weights<S: Simd>($s: S, $step: *const u8, $index: usize, $word: usize) -> S::F {
                // SAFETY: vector `index` lies within the step.
                unsafe { $weights }
            }

            #[inline(always)]
            fn multiply_add<S: Simd>(s: S, sum: S::F, a: S::F, b: S::F) -> S::F {
                s.mul_add(a, b, sum)
            }

            #[inline(always)]
            fn widened<S: Simd>(_s: S, b: S::F) -> S::F {
                b
            }
        }
    };
}

single_panel!(
    /// `f32` weights.
    F32Panel,
    PANEL * 4,
    1,
    false,
    |s, step, index, _word| s.load(step.cast::<f32>().add(index * S::LANES))
);
single_panel!(
    /// Binary16 weights, widened exactly.
    F16Panel,
    PANEL * 2,
    1,
    true,
    |s, step, index, _word| s.load_f16(step.cast::<u16>().add(index * S::LANES))
);
single_panel!(
    /// Pairs of bf16 weights, widened exactly: the lower halves, then the higher ones.
    Bf16Panel,
    PANEL * 4,
    2,
    true,
    |s, step, index, word| {
        let pairs = s.load_pairs(step.cast::<u32>().add(index * S::LANES));
        if word == 0 {
            s.low_of_pairs(pairs)
        } else {
            s.high_of_pairs(pairs)
        }
    }
);

/// Pairs of bf16 weights, multiplied with pairs of bf16 activations.
#[derive(Clone, Copy)]
pub(crate) struct PairPanel;

impl Panel for PairPanel {
    const NEW: Self = Self;
    const PER_STEP: usize = 2;
    const WORDS: usize = 1;
    const STEP_BYTES: usize = PANEL * 4;
    const NARROW: bool = false;
    type A<S: Simd> = S::Pairs;
    type B<S: Simd> = S::Pairs;

    #[inline(always)]
    unsafe fn activation<S: Simd>(s: S, from: *const u8) -> S::Pairs {
        // SAFETY: the caller's promise.
        s.splat_pair(unsafe { from.cast::<u32>().read() })
    }

    #[inline(always)]
    unsafe fn weights<S: Simd>(s: S, step: *const u8, index: usize, _word: usize) -> S::Pairs {
        // SAFETY: vector `index` lies within the step.
        unsafe { s.load_pairs(step.cast::<u32>().add(index * S::LANES)) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, sum: S::F, a: S::Pairs, b: S::Pairs) -> S::F {
        s.dot_pairs(sum, a, b)
    }

    #[inline(always)]
    fn widened<S: Simd>(_s: S, _b: S::Pairs) -> S::F {
        unreachable!("pairs are multiplied as they are")
    }
}

/// Computes `R` rows times `P` panels of `V` vectors each.
///
/// # Safety
///
/// `V` must be `PANEL / S::LANES`. `a` must be valid for reading `R` rows of `WORDS * steps` steps, `b` for
/// `P` panels of `steps` steps, `c` for reading and writing `P` times `R` rows of `PANEL` elements.
#[inline(always)]
pub(crate) unsafe fn compute<S: Simd, B: Panel, const R: usize, const P: usize, const V: usize>(
    s: S,
    tile: &Tile,
) {
    let mut sums = [[[s.splat(0.0); V]; P]; R];
    // SAFETY: all addresses are within what the caller promises.
    unsafe {
        if !tile.fresh {
            for (r, row) in sums.iter_mut().enumerate() {
                for (p, panel) in row.iter_mut().enumerate() {
                    for (v, sum) in panel.iter_mut().enumerate() {
                        *sum = s.load(tile.c.add(p * tile.c_stride + r * PANEL + v * S::LANES));
                    }
                }
            }
        }
        let (mut b, mut b_ahead) = (tile.b, tile.b_ahead);
        for step in 0..tile.steps {
            let a = tile.a.add(step * B::WORDS * 4);
            s.prefetch_near(tile.a_ahead.wrapping_add(step * CACHE_LINE));
            for p in 0..P {
                for line in 0..B::STEP_BYTES / CACHE_LINE {
                    s.prefetch(b_ahead.wrapping_add(p * tile.b_stride + line * CACHE_LINE));
                }
            }
            for word in 0..B::WORDS {
                let activation = |r: usize| B::activation(s, a.add(r * BLOCK_ROW_BYTES + 4 * word));
                // In the order that leaves the sums in the registers: all vectors of weights and one activation beside them, or one vector
                // of weights and all activations. Every sum gets the same products one after the other.
                if R < V * P && R * P * V + V * P + 1 > S::REGISTERS {
                    let activations: [_; R] = std::array::from_fn(activation);
                    for p in 0..P {
                        for v in 0..V {
                            let weights = B::weights(s, b.add(p * tile.b_stride), v, word);
                            for (row, activation) in sums.iter_mut().zip(activations) {
                                row[p][v] = B::multiply_add(s, row[p][v], activation, weights);
                            }
                        }
                    }
                    continue;
                }
                let mut weights = [[B::weights(s, b, 0, word); V]; P];
                for (p, panel) in weights.iter_mut().enumerate() {
                    for (v, vector) in panel.iter_mut().enumerate() {
                        *vector = B::weights(s, b.add(p * tile.b_stride), v, word);
                    }
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let activation = activation(r);
                    for (p, panel) in row.iter_mut().enumerate() {
                        for (v, sum) in panel.iter_mut().enumerate() {
                            *sum = B::multiply_add(s, *sum, activation, weights[p][v]);
                        }
                    }
                }
            }
            b = b.add(B::STEP_BYTES);
            b_ahead = b_ahead.wrapping_add(B::STEP_BYTES);
        }
        for (r, row) in sums.iter().enumerate() {
            for (p, panel) in row.iter().enumerate() {
                for (v, &sum) in panel.iter().enumerate() {
                    s.store(
                        tile.c.add(p * tile.c_stride + r * PANEL + v * S::LANES),
                        sum,
                    );
                }
            }
        }
    }
}

/// Whether the sums of a tile are no more than it may have; one row may have a panel whatever that takes.
const fn fits<S: Simd>(rows: usize, panels: usize) -> bool {
    rows * panels == 1 || rows * panels * (PANEL / S::LANES) <= S::TILE_SUMS
}

/// The most panels that a tile of `rows` rows takes at once.
pub(crate) const fn panels_per_tile<S: Simd>(rows: usize) -> usize {
    let vectors = PANEL / S::LANES;
    // Sums, one step of the panels and an activation fill the registers.
    let mut panels = match rows {
        1 => 8,
        2 => 4,
        3..=6 => 2,
        _ => 1,
    };
    while panels > 1 && rows * panels * vectors > S::TILE_SUMS {
        panels /= 2;
    }
    panels
}

/// Computes a tile of `rows` (1..=14) rows and `panels` (at most [`panels_per_tile`], a power of two)
/// panels.
///
/// # Safety
///
/// As for [`compute`].
#[inline(always)]
pub(crate) unsafe fn dispatch<S: Simd, B: Panel>(s: S, rows: usize, panels: usize, tile: &Tile) {
    macro_rules! shapes {
        ($(($rows:literal, $panels:literal)),*) => {
            match (rows, panels) {
                // SAFETY: the caller's promise.
                $(($rows, $panels) if const { fits::<S>($rows, $panels) } => unsafe {
                    s.tile::<B, $rows, $panels>(tile)
                },)*
                _ => unreachable!("a tile of {rows} rows and {panels} panels"),
            }
        };
    }
    shapes!(
        (1, 1),
        (1, 2),
        (1, 4),
        (1, 8),
        (2, 1),
        (2, 2),
        (2, 4),
        (3, 1),
        (3, 2),
        (4, 1),
        (4, 2),
        (5, 1),
        (5, 2),
        (6, 1),
        (6, 2),
        (7, 1),
        (8, 1),
        (9, 1),
        (10, 1),
        (11, 1),
        (12, 1),
        (13, 1),
        (14, 1)
    );
}

/// Rows cut into tiles of nearly equal size, the larger ones first: (first row, rows) each.
#[derive(Clone)]
pub(crate) struct RowTiles {
    next: usize,
    tiles: usize,
    rows: usize,
}

impl RowTiles {
    /// Cuts `rows` into as few tiles of at most `most` rows as possible.
    #[inline(always)]
    pub(crate) fn new(rows: std::ops::Range<usize>, most: usize) -> Self {
        Self {
            next: rows.start,
            tiles: rows.len().div_ceil(most),
            rows: rows.len(),
        }
    }

    /// Rows of the largest tile.
    #[inline(always)]
    pub(crate) fn largest(&self) -> usize {
        self.rows.div_ceil(self.tiles.max(1))
    }
}

impl Iterator for RowTiles {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.tiles == 0 {
            return None;
        }
        let (row, count) = (self.next, self.largest());
        self.next += count;
        self.rows -= count;
        self.tiles -= 1;
        Some((row, count))
    }
}

/// Panels in groups of a power of two: (first panel, panels) each.
#[derive(Clone)]
pub(crate) struct Widths {
    panels: std::ops::Range<usize>,
    width: usize,
}

impl Widths {
    /// Cuts `panels` into groups of `widest` (a power of two) and smaller ones at the end.
    #[inline(always)]
    pub(crate) fn new(panels: std::ops::Range<usize>, widest: usize) -> Self {
        Self {
            panels,
            width: widest,
        }
    }
}

impl Iterator for Widths {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.panels.is_empty() {
            return None;
        }
        while self.width > self.panels.len() {
            self.width /= 2;
        }
        let panel = self.panels.start;
        self.panels.start += self.width;
        Some((panel, self.width))
    }
}
