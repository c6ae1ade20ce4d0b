//! How products are added to sums: each on the grid of its row and column.

use std::sync::{Mutex, PoisonError};

use sli_kernels::{Kernels, Mat};

use super::bins::{self, LEAST};

/// What products are multiplied with before they are added.
pub(super) struct Scales<'m> {
    exponents: &'m [i16],
    /// Of every block of columns, the least and the largest exponent.
    blocks: Vec<[i16; 2]>,
}

/// Columns that are looked at together.
const COLUMNS: usize = 64;

impl<'m> Scales<'m> {
    /// Of the exponents of all columns.
    pub fn new(exponents: &'m [i16]) -> Self {
        let range = |block: &[i16]| {
            let least = block.iter().min().copied().unwrap_or(LEAST);
            [least, block.iter().max().copied().unwrap_or(LEAST)]
        };
        Self {
            exponents,
            blocks: exponents.chunks(COLUMNS).map(range).collect(),
        }
    }

    /// Adds the columns from `first` on of a product to the rows of a stripe, which is as many rows.
    pub fn add(
        &self,
        kernels: &Kernels,
        product: &Mat,
        first: usize,
        rows: Vec<(usize, [&mut [f64]; 2])>,
    ) {
        let rows: Vec<_> = rows.into_iter().map(Mutex::new).collect();
        kernels.parallel_rows(rows.len(), 4, |range| {
            for (index, row) in range.clone().zip(&rows[range]) {
                let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
                let (number, [upper, lower]) = &mut *row;
                self.add_row(*number, product.row(index), first, [upper, lower]);
            }
        });
    }

    fn add_row(&self, row: usize, product: &[f32], first: usize, [upper, lower]: [&mut [f64]; 2]) {
        let own = self.exponents[row];
        let end = (row + 1).min(first + product.len());
        for start in (first..end).step_by(COLUMNS) {
            let columns = start..end.min(start + COLUMNS);
            let product = product[start - first..].iter();
            let upper = &mut upper[columns.clone()];
            let lower = &mut lower[columns.clone()];
            let sums = upper.iter_mut().zip(lower).zip(product);
            let [least, largest] = self.blocks[start / COLUMNS].map(|other| bins::bin(own, other));
            if least == largest {
                let scale = bins::scale(least);
                for ((upper, lower), value) in sums {
                    bins::add(f64::from(*value) * scale, upper, lower);
                }
                continue;
            }
            for (other, ((upper, lower), value)) in self.exponents[columns].iter().zip(sums) {
                let scale = bins::scale(bins::bin(own, *other));
                bins::add(f64::from(*value) * scale, upper, lower);
            }
        }
    }
}
