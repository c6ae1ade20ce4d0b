//! Windows of rows that become one row each: their mean, weighted feature by feature by a softmax over the window.

use std::ops::Range;

use super::convolution::{get, put};
use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

/// Consecutive windows of a record. Rows of a last window that is not whole are left out.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    /// Rows of a window.
    pub rate: usize,
    /// A window takes in the one before it too: columns are then twice as many, the first half what a row gives to the
    /// window behind its own, the second half what it gives to its own.
    pub overlaps: bool,
    /// Addends of the gates, `[rate, columns]`.
    pub bias: &'a [f32],
    /// Rows of every record.
    pub records: &'a [Range<usize>],
}

impl Windows<'_> {
    /// Windows of all records.
    pub fn count(&self) -> usize {
        let lengths = self.records.iter().map(ExactSizeIterator::len);
        lengths.map(|length| length / self.rate).sum()
    }
}

impl Kernels {
    /// `out[w] = sum_t p[t] * values[t]` with `p = softmax(gates[t] + bias[t])` over the rows `t` of window `w`, each
    /// feature by itself; `values` and `gates` are `[rows, columns]`, `out` `[windows, features]`.
    pub fn pool_windows(&self, form: Windows, values: MatRef, gates: MatRef, out: MatMut) {
        let _lap = self.lap(Stage::Scan);
        let (columns, width) = (values.cols(), out.cols());
        let shape = (values.rows(), columns);
        assert_eq!(shape, (gates.rows(), gates.cols()), "values and gates");
        let halves = 1 + usize::from(form.overlaps);
        assert_eq!(columns, halves * width, "columns of a row");
        assert_eq!(form.bias.len(), form.rate * columns, "addends of a window");
        assert_eq!(form.count(), out.rows(), "windows");
        let first_rows = form.records.iter().flat_map(|rows| {
            let windows = rows.len() / form.rate;
            (0..windows).map(|window| (rows.start + window * form.rate, window > 0))
        });
        let first_rows: Vec<(usize, bool)> = first_rows.collect();
        self.each_row_mut(&out, |index, out| {
            let (first, follows) = first_rows[index];
            self.isa().run(Window {
                rate: form.rate,
                before: form.overlaps && follows,
                first,
                bias: form.bias,
                values: &values,
                gates: &gates,
                out,
            });
        });
    }
}

/// One window.
struct Window<'a> {
    rate: usize,
    /// The window before it takes part.
    before: bool,
    /// First row.
    first: usize,
    bias: &'a [f32],
    values: &'a MatRef<'a>,
    gates: &'a MatRef<'a>,
    out: &'a mut [f32],
}

impl SimdOp for Window<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            rate,
            before,
            first,
            bias,
            values,
            gates,
            out,
        } = self;
        let (width, columns) = (out.len(), values.cols());
        let earlier = if before { rate } else { 0 };
        // Row, place within its window, and first column of what it gives.
        let slot = |slot: usize| {
            if slot < earlier {
                (first + slot - rate, slot, 0)
            } else {
                (first + slot - earlier, slot - earlier, columns - width)
            }
        };
        for at in (0..width).step_by(S::LANES) {
            let end = width.min(at + S::LANES);
            let gate = |index: usize| {
                let (row, place, offset) = slot(index);
                let part = offset + at..offset + end;
                let addend = get(s, &bias[place * columns..][part.clone()]);
                s.add(get(s, &gates.row(row)[part]), addend)
            };
            let mut highest = s.splat(f32::NEG_INFINITY);
            for index in 0..earlier + rate {
                highest = s.max(gate(index), highest);
            }
            let (mut sum, mut total) = (s.splat(0.0), s.splat(0.0));
            for index in 0..earlier + rate {
                let (row, _, offset) = slot(index);
                let share = math::exp(s, s.sub(gate(index), highest));
                total = s.add(total, share);
                let value = get(s, &values.row(row)[offset + at..offset + end]);
                sum = s.mul_add(share, value, sum);
            }
            put(s, &mut out[at..end], s.div(sum, total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Windows;
    use crate::mat::Mat;
    use crate::{Compute, Kernels};

    fn numbers(rows: usize, cols: usize, seed: usize) -> Mat {
        let values = (0..rows * cols).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 25.0 - 2.0);
        Mat::from_vec(rows, cols, values.collect())
    }

    #[test]
    fn windows_are_means_by_softmax() {
        // Records of 7, 2 and 6 rows in windows of three.
        let records = [0..7, 7..9, 9..15];
        for (overlaps, threads) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
            let columns = if overlaps { 38 } else { 19 };
            let (values, gates) = (numbers(15, columns, 1), numbers(15, columns, 2));
            let bias = numbers(3, columns, 3);
            let form = Windows {
                rate: 3,
                overlaps,
                bias: bias.as_slice(),
                records: &records,
            };
            assert_eq!(form.count(), 4);
            let mut out = Mat::new(4, 19);
            let kernels = Kernels::new(threads, Compute::F32);
            kernels.pool_windows(form, values.view(), gates.view(), out.view_mut());
            for (window, first) in [(0, 0), (1, 3), (2, 9), (3, 12)] {
                for feature in 0..19 {
                    let mut slots: Vec<(usize, usize, usize)> = Vec::new();
                    if overlaps && first != 0 && first != 9 {
                        slots.extend((0..3).map(|place| (first - 3 + place, place, feature)));
                    }
                    let own = columns - 19 + feature;
                    slots.extend((0..3).map(|place| (first + place, place, own)));
                    let share = |&(row, place, column): &(usize, usize, usize)| {
                        f64::from(gates.row(row)[column] + bias.row(place)[column]).exp()
                    };
                    let total: f64 = slots.iter().map(share).sum();
                    let value = |slot: &(usize, usize, usize)| {
                        share(slot) * f64::from(values.row(slot.0)[slot.2])
                    };
                    let expected = slots.iter().map(value).sum::<f64>() / total;
                    let found = f64::from(out.row(window)[feature]);
                    assert!((found - expected).abs() < 1e-5, "{found} {expected}");
                }
            }
        }
    }
}
