//! Causal depthwise convolution: every column with a few weights of its own over the last rows.

use std::ops::Range;

use super::runs;
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::MatMut;
use crate::simd::{Simd, SimdOp};

impl Kernels {
    /// `x[t] = bias + sum_j weight[j] x[t - (kernel - 1) + j]`, column by column, within each record.
    ///
    /// `x` is `[rows, columns]`, `weight` `[columns, kernel]`, `bias` `[columns]`. `window` is
    /// `[kernel - 1, columns]`: the inputs of the last rows, the oldest first. `starts` are the rows with which records begin, whose state is zero.
    pub fn causal_convolution(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
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
            bias.is_none_or(|bias| bias.len() == columns),
            "an addend a column"
        );
        let window = SharedSlice::new(window);
        self.column_tasks(columns, |block| {
            self.with_scratch(2 * kernel * block.len(), |scratch| {
                let (taps, last) =
                    scratch[..2 * kernel * block.len()].split_at_mut(kernel * block.len());
                for (tap, taps) in taps.chunks_exact_mut(block.len()).enumerate() {
                    for (column, to) in block.clone().zip(taps) {
                        *to = weight[column * kernel + tap];
                    }
                }
                self.isa().run(Convolve {
                    taps,
                    bias: bias.map(|bias| &bias[block.clone()]),
                    last,
                    starts,
                    window: &window,
                    x: &x,
                    block,
                });
            });
        });
    }
}

/// How many rows a convolution looks at: its weights and the window of the rows before have to be for so many.
pub(super) fn kernel_of(weight: &[f32], window: &[f32], columns: usize) -> usize {
    let kernel = weight.len() / columns;
    assert!(
        kernel > 0 && weight.len() == kernel * columns,
        "as many weights for every one of {columns} columns"
    );
    assert_eq!(window.len(), (kernel - 1) * columns, "a window of rows");
    kernel
}

/// The columns of one block.
struct Convolve<'a> {
    /// `[kernel, block]`.
    taps: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Room for the inputs of `kernel` rows.
    last: &'a mut [f32],
    starts: &'a [usize],
    window: &'a SharedSlice<'a, f32>,
    x: &'a MatMut<'a>,
    block: Range<usize>,
}

impl SimdOp for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            taps,
            bias,
            last,
            starts,
            window,
            x,
            block,
        } = self;
        let (width, columns) = (block.len(), x.cols());
        let kernel = taps.len() / width;
        // SAFETY: tasks have different columns.
        let kept = |row: usize| unsafe {
            let start = row * columns + block.start;
            window.part_mut(start..start + width)
        };
        // Inputs of the row `t` are at the place `t mod kernel` of `last`.
        let mut next = kernel - 1;
        for row in 0..kernel - 1 {
            last[row * width..][..width].copy_from_slice(kept(row));
        }
        for (rows, begins) in runs(starts, x.rows()) {
            if begins {
                last.fill(0.0);
                next = kernel - 1;
            }
            for row in rows {
                // SAFETY: tasks have different columns.
                let row = unsafe { x.shared_part(row, block.clone()) };
                last[next * width..][..width].copy_from_slice(row);
                next = (next + 1) % kernel;
                for at in (0..width).step_by(S::LANES) {
                    let end = width.min(at + S::LANES);
                    let mut sum = bias.map_or(s.splat(0.0), |bias| get(s, &bias[at..end]));
                    for tap in 0..kernel {
                        let input = (next + tap) % kernel * width;
                        let input = get(s, &last[input + at..input + end]);
                        let tap = tap * width;
                        sum = s.mul_add(get(s, &taps[tap + at..tap + end]), input, sum);
                    }
                    put(s, &mut row[at..end], sum);
                }
            }
        }
        for row in 0..kernel - 1 {
            let from = (next + 1 + row) % kernel * width;
            kept(row).copy_from_slice(&last[from..from + width]);
        }
    }
}

/// Reads a vector or less of one.
#[inline(always)]
pub(super) fn get<S: Simd>(s: S, from: &[f32]) -> S::F {
    if from.len() == S::LANES {
        s.get(from)
    } else {
        s.get_part(from, 0.0)
    }
}

/// Writes a vector or less of one.
#[inline(always)]
pub(super) fn put<S: Simd>(s: S, to: &mut [f32], x: S::F) {
    if to.len() == S::LANES {
        s.put(to, x);
    } else {
        s.put_part(to, x);
    }
}
