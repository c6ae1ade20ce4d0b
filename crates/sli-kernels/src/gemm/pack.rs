//! Activations in the layout that the matrix product reads.
//!
//! `k` is cut into blocks of 256 steps (an `f32` or a pair of bf16 each); block `b` holds that part
//! of every row, rows 1024 bytes apart whatever `k` is, so that the register tile addresses its rows
//! with constants.

use super::tile::{BLOCK_ROW_BYTES, BLOCK_STEPS};
use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::kind::PackedKind;
use crate::mat::{Mat, MatMut, MatRef};
use crate::simd::{MAX_LANES, Simd, SimdOp};

/// Activations `[rows, k]`, packed once for several products.
#[derive(Debug, Default)]
pub struct PackedActivations {
    /// One long row: the rows of the first block, those of the second, and so on.
    blocks: Mat,
    rows: usize,
    k: usize,
    pairs: bool,
}

impl PackedActivations {
    /// Nothing yet; memory comes with [`Kernels::pack_activations`] and is reused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of packed activations of this shape for weights of `kind`.
    pub const fn bytes_for(rows: usize, k: usize, kind: PackedKind) -> usize {
        steps_of(k, matches!(kind, PackedKind::Bf16Dot)).div_ceil(BLOCK_STEPS)
            * rows
            * BLOCK_ROW_BYTES
    }

    /// Rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: input features.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    pub(crate) fn from_scratch(blocks: Mat) -> Self {
        Self {
            blocks,
            ..Self::default()
        }
    }

    pub(crate) fn into_scratch(self) -> Mat {
        self.blocks
    }

    /// Whether the elements are pairs of bf16.
    pub(crate) const fn has_pairs(&self) -> bool {
        self.pairs
    }

    /// Steps of `k`.
    pub(crate) const fn steps(&self) -> usize {
        steps_of(self.k, self.pairs)
    }

    /// All rows of block `index`.
    pub(crate) fn block(&self, index: usize) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(self.blocks.as_slice());
        &bytes[index * self.rows * BLOCK_ROW_BYTES..(index + 1) * self.rows * BLOCK_ROW_BYTES]
    }
}

const fn steps_of(k: usize, pairs: bool) -> usize {
    if pairs { k.div_ceil(2) } else { k }
}

impl Kernels {
    /// Packs `x` for products with weights of `kind`. In pairs ([`PackedKind::Bf16Dot`]) the elements
    /// are rounded to the nearest bf16, ties to even.
    pub fn pack_activations(&self, x: MatRef, kind: PackedKind, out: &mut PackedActivations) {
        let _lap = self.lap(Stage::Product);
        let pairs = kind == PackedKind::Bf16Dot;
        let (rows, k) = (x.rows(), x.cols());
        let blocks = steps_of(k, pairs).div_ceil(BLOCK_STEPS);
        (out.rows, out.k, out.pairs) = (rows, k, pairs);
        if out.blocks.as_slice().len() < blocks * rows * BLOCK_STEPS {
            out.blocks.reset(1, blocks * rows * BLOCK_STEPS);
        }
        let packed = MatMut::from_slice(
            &mut out.blocks.as_mut_slice()[..blocks * rows * BLOCK_STEPS],
            blocks * rows,
            BLOCK_STEPS,
        );
        let least = (1 << 15) / k.max(1);
        self.parallel_rows(rows, least, |range| {
            for row in range {
                let block_len = if pairs { 2 * BLOCK_STEPS } else { BLOCK_STEPS };
                for (block, part) in x.row(row).chunks(block_len).enumerate() {
                    // SAFETY: each block of each row is written by the one task that has the row.
                    let to = unsafe { packed.shared_row(block * rows + row) };
                    if pairs {
                        self.isa().run(RoundRow {
                            from: part,
                            to: bytemuck::cast_slice_mut(to),
                        });
                    } else {
                        to[..part.len()].copy_from_slice(part);
                        // What the second half of a last odd pair of weights is multiplied with.
                        if let Some(next) = to.get_mut(part.len()) {
                            *next = 0.0;
                        }
                    }
                }
            }
        });
    }
}

/// Rounds a row to bf16; an odd one is followed by a zero.
pub(crate) struct RoundRow<'a> {
    pub from: &'a [f32],
    pub to: &'a mut [u16],
}

impl SimdOp for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.from.len();
        assert!(self.to.len() >= len.next_multiple_of(2));
        let whole = len / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            // SAFETY: `to` is at least as long as `from`, which has a whole vector at `at`.
            unsafe { s.store_bf16(self.to.as_mut_ptr().add(at), s.get(&self.from[at..])) };
        }
        if whole < len {
            let mut rest = [0; MAX_LANES];
            // SAFETY: `rest` holds the widest vector.
            unsafe { s.store_bf16(rest.as_mut_ptr(), s.get_part(&self.from[whole..], 0.0)) };
            let to = &mut self.to[whole..len.next_multiple_of(2)];
            let count = to.len();
            to.copy_from_slice(&rest[..count]);
        }
    }
}
