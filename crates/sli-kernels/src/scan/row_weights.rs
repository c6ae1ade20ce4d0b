//! Causal depthwise convolution whose weights differ from row to row.

use std::ops::Range;

use super::convolution::kernel_of;
use super::runs;
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};

impl Kernels {
    /// `x[t] = scale * (x[t] + sum_l (weight[l] + own[t, h, l]) x[t - l])`, column by column, within each record, where `h`
    /// is the head of the column.
    ///
    /// `x` is `[rows, columns]`, `weight` `[kernel, columns]`, `own` `[rows, heads * kernel]` and their heads. `window` is
    /// `[kernel - 1, columns]`: the inputs of the last rows, the oldest first. `starts` are the rows with which records
    /// begin, whose state is zero.
    pub fn convolution_of_rows(
        &self,
        weight: &[f32],
        (own, heads): (MatRef, usize),
        scale: f32,
        starts: &[usize],
        window: &mut [f32],
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Scan);
        let columns = x.cols();
        if columns == 0 || x.rows() == 0 {
            return;
        }
        let kernel = kernel_of(weight, window, columns);
        assert!(
            heads > 0 && columns.is_multiple_of(heads) && own.rows() == x.rows(),
            "columns in {heads} heads, and weights for every row"
        );
        assert_eq!(own.cols(), heads * kernel, "weights of a row");
        let window = SharedSlice::new(window);
        let dim = columns / heads;
        self.tasks(heads, |head| {
            let block = head * dim..(head + 1) * dim;
            self.with_scratch(kernel * dim, |last| {
                let convolve = Convolve {
                    weight,
                    own,
                    scale,
                    starts,
                    window: &window,
                    x: &x,
                    head,
                    block,
                };
                convolve.run(kernel, &mut last[..kernel * dim]);
            });
        });
    }
}

/// The columns of one head.
struct Convolve<'a> {
    weight: &'a [f32],
    own: MatRef<'a>,
    scale: f32,
    starts: &'a [usize],
    window: &'a SharedSlice<'a, f32>,
    x: &'a MatMut<'a>,
    head: usize,
    block: Range<usize>,
}

impl Convolve<'_> {
    /// `last` has room for the inputs of `kernel` rows: those of the row `t` are at the place `t mod kernel`.
    fn run(self, kernel: usize, last: &mut [f32]) {
        let (width, columns) = (self.block.len(), self.x.cols());
        // SAFETY: tasks have different columns.
        let kept = |row: usize| unsafe {
            let start = row * columns + self.block.start;
            self.window.part_mut(start..start + width)
        };
        let mut next = kernel - 1;
        for row in 0..kernel - 1 {
            last[row * width..][..width].copy_from_slice(kept(row));
        }
        for (rows, begins) in runs(self.starts, self.x.rows()) {
            if begins {
                last.fill(0.0);
                next = kernel - 1;
            }
            for row in rows {
                let own = &self.own.row(row)[self.head * kernel..(self.head + 1) * kernel];
                // SAFETY: tasks have different columns.
                let row = unsafe { self.x.shared_part(row, self.block.clone()) };
                last[next * width..][..width].copy_from_slice(row);
                for (lag, &own) in own.iter().enumerate() {
                    let input = (next + kernel - lag) % kernel * width;
                    let inputs = &last[input..input + width];
                    let weight = &self.weight[lag * columns + self.block.start..][..width];
                    for ((sum, &input), &weight) in row.iter_mut().zip(inputs).zip(weight) {
                        *sum += (weight + own) * input;
                    }
                }
                for sum in row {
                    *sum *= self.scale;
                }
                next = (next + 1) % kernel;
            }
        }
        for row in 0..kernel - 1 {
            let from = (next + 1 + row) % kernel * width;
            kept(row).copy_from_slice(&last[from..from + width]);
        }
    }
}
