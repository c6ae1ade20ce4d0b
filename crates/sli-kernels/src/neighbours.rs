//! Sums over the rows beside a row, on both sides of it, within records.

use std::ops::Range;

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::rows::{AddProduct, Each, softmax};

/// The factors of the rows beside a row.
#[derive(Clone, Copy)]
pub enum Taps<'a> {
    /// `[kernel, columns]`: every column has its own, the same for all rows.
    OfColumns(&'a [f32]),
    /// `[rows, heads * kernel]`: every row has its own for each of its heads.
    OfRows {
        /// The factors.
        factors: MatRef<'a>,
        /// Equal parts of a row.
        heads: usize,
    },
}

impl Kernels {
    /// `out[t] += sum_j taps[j] x[t - (kernel - 1) / 2 + j]`, in the order of `j`; what is outside of a record counts
    /// nothing. `records` are ranges of rows, in order, that cover all of them.
    pub fn add_neighbours(
        &self,
        kernel: usize,
        taps: Taps<'_>,
        records: &[Range<usize>],
        x: MatRef,
        out: MatMut,
    ) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()), "rows");
        let heads = match taps {
            Taps::OfColumns(taps) => {
                assert_eq!(taps.len(), kernel * x.cols(), "taps of every column");
                1
            }
            Taps::OfRows { factors, heads } => {
                let shape = (factors.rows(), factors.cols());
                assert_eq!(shape, (x.rows(), heads * kernel), "taps of every row");
                assert!(heads > 0 && x.cols().is_multiple_of(heads), "equal heads");
                heads
            }
        };
        let (reach, columns, dim) = (kernel.saturating_sub(1) / 2, x.cols(), x.cols() / heads);
        if columns == 0 || kernel == 0 {
            return;
        }
        self.each_row_mut(&out, |row, out| {
            let record = records.partition_point(|record| record.end <= row);
            let record = &records[record];
            for tap in 0..kernel {
                let place = (row + tap).checked_sub(reach);
                let Some(place) = place.filter(|place| record.contains(place)) else {
                    continue;
                };
                let other = x.row(place);
                match taps {
                    Taps::OfColumns(taps) => {
                        let taps = &taps[tap * columns..(tap + 1) * columns];
                        for ((sum, &value), &factor) in out.iter_mut().zip(other).zip(taps) {
                            *sum += factor * value;
                        }
                    }
                    Taps::OfRows { factors, heads: _ } => {
                        let own = factors.row(row).chunks_exact(kernel);
                        let parts = out.chunks_exact_mut(dim).zip(other.chunks_exact(dim));
                        for ((row, other), own) in parts.zip(own) {
                            self.isa().run(Each {
                                row,
                                other: Some(other),
                                f: AddProduct(own[tap]),
                            });
                        }
                    }
                }
            }
        });
    }

    /// The softmax of each of the `parts` equal parts of each row, in place.
    pub fn softmax_parts(&self, parts: usize, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert!(parts > 0 && x.cols().is_multiple_of(parts), "equal parts");
        let width = x.cols() / parts;
        if width == 0 {
            return;
        }
        self.each_row_mut(&x, |_, row| {
            for part in row.chunks_exact_mut(width) {
                softmax(part);
            }
        });
    }
}
