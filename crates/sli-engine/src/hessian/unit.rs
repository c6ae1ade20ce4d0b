//! Rows that are multiplied with themselves together.

use sli_kernels::{Mat, MatRef, PackedKind, PackedWeights};

/// Rows of a unit, at most.
pub(super) const UNIT: usize = 512;
/// Bytes of rows that wait, and of rows that are worked on together, at most.
pub(super) const ROWS_BYTES: usize = 64 << 20;
/// Rows of a matrix that wait, and that are worked on together, at most.
pub(super) const ROWS: usize = 4096;
/// Columns of a product.
pub(super) const BLOCK: usize = 2048;

/// Rows of one unit, as the products want them.
pub(super) struct Unit {
    /// `[inputs, rows]`.
    pub columns: Mat,
    /// The same, in blocks of [`BLOCK`].
    pub packed: Vec<PackedWeights>,
}

impl Unit {
    /// Of rows `[rows, inputs]`.
    pub fn new(x: MatRef<'_>) -> Self {
        let mut columns = Mat::new(x.cols(), x.rows());
        transpose(x, &mut columns);
        let rows = x.rows();
        let packed = columns.as_slice().chunks(BLOCK * rows.max(1)).map(|block| {
            let mut packed = PackedWeights::new(block.len() / rows, rows, PackedKind::F32);
            packed.pack_rows_f32(0, block);
            packed
        });
        Self {
            packed: packed.collect(),
            columns,
        }
    }
}

fn transpose(x: MatRef<'_>, into: &mut Mat) {
    /// Both sides of a tile stay in the cache.
    const TILE: usize = 32;
    let rows = x.rows();
    let values = into.as_mut_slice();
    for first_column in (0..x.cols()).step_by(TILE) {
        let columns = first_column..x.cols().min(first_column + TILE);
        for first in (0..rows).step_by(TILE) {
            for row in first..rows.min(first + TILE) {
                let own = &x.row(row)[columns.clone()];
                for (column, value) in columns.clone().zip(own) {
                    values[column * rows + row] = *value;
                }
            }
        }
    }
}
