//! Products whose inputs are rounded to 8 bits a row, as part of the model (BitNet).
//!
//! A row becomes whole numbers from -128 to 127, its largest magnitude 127; the outcome of the product is divided by what
//! the row was multiplied with. The whole numbers are exact in bf16 too.

use sli_kernels::{Kernels, Mat, MatMut, MatRef, PackedWeights, Store};

/// Bytes of inputs that are rounded at a time, unless one row has more.
const BLOCK_BYTES: usize = 1 << 20;

/// Below this magnitude a row counts as if its largest number were so large.
const LEAST: f32 = 1e-5;

/// Rows that are rounded at a time.
fn together(columns: usize) -> usize {
    (BLOCK_BYTES / (columns.max(1) * size_of::<f32>())).max(1)
}

/// Bytes that a product of so many input features holds, at most.
pub(crate) fn bytes(columns: usize) -> u64 {
    let row = columns.saturating_add(1).saturating_mul(size_of::<f32>());
    together(columns).saturating_mul(row) as u64
}

/// `out = round(x) W^T + b`.
pub(super) fn product(
    kernels: &Kernels,
    x: MatRef<'_>,
    weights: &PackedWeights,
    bias: Option<&[f32]>,
    mut out: MatMut<'_>,
) {
    let (rows, columns) = (x.rows(), x.cols());
    let together = together(columns);
    let mut rounded = Mat::new(0, 0);
    let mut worth = Vec::with_capacity(rows.min(together));
    for first in (0..rows).step_by(together) {
        let block = first..rows.min(first + together);
        rounded.reset(block.len(), columns);
        worth.clear();
        let lines = rounded.as_mut_slice().chunks_exact_mut(columns.max(1));
        for (row, line) in block.clone().zip(lines) {
            worth.push(round(x.row(row), line));
        }
        let mut out = out.reborrow().rows_range(block);
        kernels.gemm(rounded.view(), weights, None, Store::Set, out.reborrow());
        kernels.scale_rows(&worth, out.reborrow());
        if let Some(bias) = bias {
            kernels.add_bias(bias, out);
        }
    }
}

/// Rounds a row to whole numbers; what one of them is worth.
fn round(x: &[f32], out: &mut [f32]) -> f32 {
    let largest = x.iter().fold(LEAST, |most, number| most.max(number.abs()));
    let scale = 127.0 / largest;
    // Adding and taking off leaves a whole number, ties to even, as long as it is below 2^22.
    let magic = 1.5 * 2.0_f32.powi(23);
    for (out, number) in out.iter_mut().zip(x) {
        *out = ((number * scale + magic) - magic).clamp(-128.0, 127.0);
    }
    1.0 / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_whole_numbers_ties_to_even() {
        let mut out = [0.0; 6];
        let worth = round(&[127.0, -126.5, 2.5, 3.5, -0.5, 0.4], &mut out);
        assert_eq!(out, [127.0, -126.0, 2.0, 4.0, 0.0, 0.0]);
        assert_eq!(worth, 1.0);
        let mut out = [9.0; 2];
        assert_eq!(round(&[0.0, 1e-6], &mut out), 1.0 / (127.0 / LEAST));
        assert_eq!(out, [0.0, 13.0]);
        // What is NaN stays so and is found where the values are.
        let mut out = [0.0; 2];
        round(&[f32::NAN, 1.0], &mut out);
        assert!(out[0].is_nan());
    }
}
