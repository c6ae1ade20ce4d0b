//! Rows and parts of rows that move: copied, gathered, scattered, and scaled each by its own factor.

use std::f64::consts::PI;
use std::ops::Range;

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::rows::{AddProduct, Each, Scale};

/// Equal parts of every row, at regular distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadParts {
    /// Column of the first part.
    pub first: usize,
    /// Columns from one part to the next; 0: the same for every head.
    pub stride: usize,
}

impl Kernels {
    /// `out = x`.
    pub fn copy(&self, x: MatRef, out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        same_shape(&x, &out);
        self.each_row_mut(&out, |row, out| out.copy_from_slice(x.row(row)));
    }

    /// `out = x[rows]`: row `i` of `out` is row `rows[i]` of x.
    pub fn gather_rows(&self, x: MatRef, rows: &[u32], out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!(
            (rows.len(), x.cols()),
            (out.rows(), out.cols()),
            "gathered rows"
        );
        self.each_row_mut(&out, |row, out| {
            out.copy_from_slice(x.row(rows[row] as usize));
        });
    }

    /// `out[rows] += factors * x`: row `i` of x, times factor `i`, to row `rows[i]` of `out`, in order.
    pub fn scatter_add(&self, x: MatRef, factors: &[f32], rows: &[u32], out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!(
            (x.rows(), x.rows()),
            (factors.len(), rows.len()),
            "scattered rows"
        );
        assert_eq!(x.cols(), out.cols(), "scattered columns");
        let add = |index: usize| {
            // SAFETY: a row is borrowed by one at a time: see where this is called.
            let row = unsafe { out.shared_row(rows[index] as usize) };
            self.isa().run(Each {
                row,
                other: Some(x.row(index)),
                f: AddProduct(factors[index]),
            });
        };
        if rows.is_sorted_by(|a, b| a < b) {
            // Every row is named once, and pieces of the row loop are disjoint.
            let least = (1 << 14) / x.cols().max(1);
            self.parallel_rows(x.rows(), least, |range| range.for_each(add));
        } else {
            (0..x.rows()).for_each(add);
        }
    }

    /// `out += factors * x`: every row of x times its factor, `factors` `[rows, 1]`.
    pub fn add_scaled_rows(&self, factors: MatRef, x: MatRef, out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        same_shape(&x, &out);
        assert_eq!(
            (factors.rows(), factors.cols()),
            (x.rows(), 1),
            "a factor a row"
        );
        self.each_row_mut(&out, |index, row| {
            self.isa().run(Each {
                row,
                other: Some(x.row(index)),
                f: AddProduct(factors.row(index)[0]),
            });
        });
    }

    /// Multiplies every row by its factor.
    pub fn scale_rows(&self, factors: &[f32], x: MatMut) {
        assert_eq!(factors.len(), x.rows(), "a factor a row");
        self.scale_heads(MatRef::from_slice(factors, factors.len(), 1), x);
    }

    /// Multiplies every head of every row by its factor: `factors` is `[rows, heads]`, x `[rows, heads * dim]`.
    pub fn scale_heads(&self, factors: MatRef, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        let heads = factors.cols();
        assert_eq!(factors.rows(), x.rows(), "factors of every row");
        assert!(heads > 0 && x.cols().is_multiple_of(heads), "equal heads");
        let dim = x.cols() / heads;
        if dim == 0 {
            return;
        }
        self.each_row_mut(&x, |index, row| {
            for (head, &factor) in row.chunks_exact_mut(dim).zip(factors.row(index)) {
                self.isa().run(Each {
                    row: head,
                    other: None,
                    f: Scale(factor),
                });
            }
        });
    }

    /// Copies parts of `width` columns of every row: part `h` of x to part `h` of `out`, for all `heads`.
    pub fn copy_heads(
        &self,
        heads: usize,
        width: usize,
        (x, from): (MatRef, HeadParts),
        (out, to): (MatMut, HeadParts),
    ) {
        let _lap = self.lap(Stage::Elementwise);
        assert_eq!(x.rows(), out.rows(), "rows of parts");
        let part = |parts: HeadParts, head: usize| -> Range<usize> {
            let start = parts.first + head * parts.stride;
            start..start + width
        };
        self.each_row_mut(&out, |row, out| {
            for head in 0..heads {
                out[part(to, head)].copy_from_slice(&x.row(row)[part(from, head)]);
            }
        });
    }

    /// Every column of x so many times one after the other.
    pub fn repeat_columns(&self, times: usize, x: MatRef, out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        let shape = (x.rows(), x.cols() * times);
        assert_eq!((out.rows(), out.cols()), shape, "repeated columns");
        if times == 0 {
            return;
        }
        self.each_row_mut(&out, |row, out| {
            for (to, &value) in out.chunks_exact_mut(times).zip(x.row(row)) {
                to.fill(value);
            }
        });
    }

    /// Multiplies every head of every row of x by the sum of `a b factors` over its columns: `a` and `b` are as wide as x,
    /// `factors` has an element for each column.
    pub fn weigh_heads(&self, heads: usize, [a, b]: [MatRef; 2], factors: &[f32], x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        same_shape(&a, &x);
        same_shape(&b, &x);
        assert_eq!(factors.len(), x.cols(), "a factor a column");
        assert!(heads > 0 && x.cols().is_multiple_of(heads), "equal heads");
        let dim = x.cols() / heads;
        if dim == 0 {
            return;
        }
        self.each_row_mut(&x, |index, row| {
            let own = row.chunks_exact_mut(dim).zip(factors.chunks_exact(dim));
            let weighed = a
                .row(index)
                .chunks_exact(dim)
                .zip(b.row(index).chunks_exact(dim));
            for ((head, factors), (a, b)) in own.zip(weighed) {
                let products = a.iter().zip(b).zip(factors);
                let sum: f32 = products.map(|((a, b), factor)| a * b * factor).sum();
                self.isa().run(Each {
                    row: head,
                    other: None,
                    f: Scale(sum),
                });
            }
        });
    }

    /// Gives every row the root mean square of the same row of `like`, whose mean square counts as at least
    /// 1e-5 where it is x's own.
    pub fn match_magnitudes(&self, like: MatRef, x: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        same_shape(&like, &x);
        let mean_square = |row: &[f32]| {
            let squares = row.iter().map(|&value| f64::from(value).powi(2));
            squares.sum::<f64>() / row.len().max(1) as f64
        };
        self.each_row_mut(&x, |index, row| {
            let own = mean_square(row).max(1e-5);
            let factor = (mean_square(like.row(index)).sqrt() / own.sqrt()) as f32;
            self.isa().run(Each {
                row,
                other: None,
                f: Scale(factor),
            });
        });
    }

    /// Divides each of the `heads` equal parts of each row by its length, which counts as at least `shortest`; lengths in f64.
    pub fn unit_heads(&self, heads: usize, shortest: f64, x: MatMut) {
        let _lap = self.lap(Stage::Norm);
        let dim = x.cols() / heads;
        self.each_row_mut(&x, |_, row| {
            for head in row.chunks_exact_mut(dim) {
                let squares = head.iter().map(|&value| f64::from(value).powi(2));
                let length = squares.sum::<f64>().sqrt().max(shortest);
                self.isa().run(Each {
                    row: head,
                    other: None,
                    f: Scale((1.0 / length) as f32),
                });
            }
        });
    }

    /// Takes from each head `h` of a row `shares[h]` of what lies along a vector of length one: of `[heads, vectors]`, equal
    /// groups of heads share one. Products in f64.
    pub fn leave_out(
        &self,
        [heads, vectors]: [usize; 2],
        shares: &[f32],
        units: MatRef,
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Attention);
        let (dim, group) = (x.cols() / heads, heads / vectors);
        self.each_row_mut(&x, |index, row| {
            let units = units.row(index);
            let heads = row.chunks_exact_mut(dim).zip(shares).enumerate();
            for (head, (own, &share)) in heads {
                let unit = &units[head / group * dim..][..dim];
                let along = own.iter().zip(unit);
                let along = along.map(|(&own, &unit)| f64::from(own) * f64::from(unit));
                let taken = (along.sum::<f64>() * f64::from(share)) as f32;
                for (own, &unit) in own.iter_mut().zip(unit) {
                    *own -= taken * unit;
                }
            }
        });
    }

    /// How likely hashes of so many bits of two vectors with this cosine are the same, in f64: `(1 - acos(x) / pi)^bits` of each
    /// element.
    pub fn equal_hashes(&self, bits: usize, x: MatMut) {
        let _lap = self.lap(Stage::Attention);
        self.each_row_mut(&x, |_, row| {
            for value in row {
                // Rounding makes some of equal vectors a little more than 1.
                let angle = f64::from(value.clamp(-1.0, 1.0)).acos();
                *value = (1.0 - angle / PI).powi(bits as i32) as f32;
            }
        });
    }

    /// `x = max(0, x - (mean + deviations * standard deviation))` of each row; mean and deviation in f64.
    pub fn keep_largest(&self, deviations: f32, x: MatMut) {
        let _lap = self.lap(Stage::Activation);
        self.each_row_mut(&x, |_, row| {
            let count = row.len().max(1) as f64;
            let mean = row.iter().copied().map(f64::from).sum::<f64>() / count;
            let squares = row.iter().map(|&value| (f64::from(value) - mean).powi(2));
            let deviation = (squares.sum::<f64>() / count).sqrt();
            let cutoff = mean as f32 + deviation as f32 * deviations;
            for value in row {
                *value = (*value - cutoff).max(0.0);
            }
        });
    }

    /// `streams[i] += sum_k mix[i * n + k] * streams[k]`, row by row, all of them as they were: `mix` is
    /// `[rows, n * n]` for n streams of one shape.
    pub fn mix_streams(&self, mix: MatRef, streams: &mut [MatMut]) {
        let _lap = self.lap(Stage::Elementwise);
        let count = streams.len();
        let Some((rows, cols)) = streams.first().map(|first| (first.rows(), first.cols())) else {
            return;
        };
        assert_eq!(
            (mix.rows(), mix.cols()),
            (rows, count * count),
            "a factor a pair"
        );
        let same = streams
            .iter()
            .all(|one| (one.rows(), one.cols()) == (rows, cols));
        assert!(same, "streams of one shape");
        let streams = &*streams;
        self.parallel_rows(rows, (1 << 14) / (count * cols).max(1), |range| {
            let mut before = vec![0.0; count * cols];
            for row in range {
                // SAFETY: pieces of the row loop are disjoint, and one row is borrowed at a time.
                let of = |stream: usize| unsafe { streams[stream].shared_row(row) };
                for (stream, before) in before.chunks_exact_mut(cols.max(1)).enumerate() {
                    before.copy_from_slice(of(stream));
                }
                for (stream, factors) in mix.row(row).chunks_exact(count).enumerate() {
                    for (&factor, before) in factors.iter().zip(before.chunks_exact(cols.max(1))) {
                        self.isa().run(Each {
                            row: of(stream),
                            other: Some(before),
                            f: AddProduct(factor),
                        });
                    }
                }
            }
        });
    }
}

impl Kernels {
    /// `targets[q] = sum_s softmax_s(queries[q] n_s / sqrt(cols)) n_s`, row by row, where `n_s` is the row of stream `s`
    /// divided by the root of its mean square (and `eps`). `queries` is `[targets, cols]`.
    pub fn attend_streams(
        &self,
        queries: &[f32],
        eps: f32,
        streams: &[MatRef],
        targets: &mut [MatMut],
    ) {
        let _lap = self.lap(Stage::Elementwise);
        let Some((rows, cols)) = targets.first().map(|first| (first.rows(), first.cols())) else {
            return;
        };
        let shapes = streams.iter().map(|one| (one.rows(), one.cols()));
        let shapes = shapes.chain(targets.iter().map(|one| (one.rows(), one.cols())));
        assert!(
            shapes.into_iter().all(|shape| shape == (rows, cols)),
            "streams of one shape"
        );
        assert_eq!(queries.len(), targets.len() * cols, "a query a target");
        let targets = &*targets;
        let scale = (cols as f32).sqrt().recip();
        let work = streams.len() * cols * (1 + targets.len());
        self.parallel_rows(rows, (1 << 14) / work.max(1), |range| {
            let mut inverse = vec![0.0; streams.len()];
            let mut weights = vec![0.0; streams.len()];
            for row in range {
                for (inverse, stream) in inverse.iter_mut().zip(streams) {
                    let stream = stream.row(row);
                    *inverse = (product(stream, stream) / cols as f32 + eps).sqrt().recip();
                }
                for (target, query) in targets.iter().zip(queries.chunks_exact(cols.max(1))) {
                    for ((weight, inverse), stream) in weights.iter_mut().zip(&inverse).zip(streams)
                    {
                        *weight = product(query, stream.row(row)) * inverse * scale;
                    }
                    let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    for weight in &mut weights {
                        *weight = (*weight - most).exp();
                    }
                    let sum: f32 = weights.iter().sum();
                    // SAFETY: pieces of the row loop are disjoint, and one row is borrowed at a time.
                    let out = unsafe { target.shared_row(row) };
                    out.fill(0.0);
                    for ((weight, inverse), stream) in weights.iter().zip(&inverse).zip(streams) {
                        self.isa().run(Each {
                            row: &mut *out,
                            other: Some(stream.row(row)),
                            f: AddProduct(weight / sum * inverse),
                        });
                    }
                }
            }
        });
    }
}

/// The sum of the products of two rows, in an order that depends on their length only.
fn product(a: &[f32], b: &[f32]) -> f32 {
    const SUMS: usize = 16;
    let mut sums = [0.0_f32; SUMS];
    let (whole, rest) = (a.chunks_exact(SUMS), b.chunks_exact(SUMS));
    let tail = whole.remainder().iter().zip(rest.remainder());
    let tail: f32 = tail.map(|(a, b)| a * b).sum();
    for (a, b) in whole.zip(rest) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + tail
}

fn same_shape(x: &MatRef, out: &MatMut) {
    let (from, to) = ((x.rows(), x.cols()), (out.rows(), out.cols()));
    assert_eq!(from, to, "matrices of one shape");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::mat::Mat;

    /// `[rows, cols]` of different numbers.
    fn numbers(rows: usize, cols: usize, seed: usize) -> Mat {
        let values = (0..rows * cols).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 7.0 - 5.0);
        Mat::from_vec(rows, cols, values.collect())
    }

    fn on_all(check: impl Fn(&Kernels)) {
        for threads in [1, 2] {
            check(&Kernels::new(threads, Compute::F32));
        }
    }

    #[test]
    fn rows_are_gathered_and_scattered() {
        on_all(|kernels| {
            let (x, base) = (numbers(9, 37, 1), numbers(20, 37, 2));
            let rows = [0, 3, 4, 7, 8, 11, 15, 18, 19];
            let factors: Vec<f32> = (0..9).map(|i| i as f32 * 0.3 - 1.0).collect();
            let mut sum = base.clone();
            kernels.scatter_add(x.view(), &factors, &rows, sum.view_mut());
            let mut back = Mat::new(9, 37);
            kernels.gather_rows(sum.view(), &rows, back.view_mut());
            for row in 0..20 {
                let from = rows.iter().position(|&named| named as usize == row);
                for column in 0..37 {
                    let mut expected = base.row(row)[column];
                    if let Some(from) = from {
                        expected += factors[from] * x.row(from)[column];
                        assert_eq!(back.row(from)[column], expected);
                    }
                    assert_eq!(sum.row(row)[column], expected);
                }
            }
        });
    }

    #[test]
    fn rows_and_heads_have_factors_of_their_own() {
        on_all(|kernels| {
            let (x, factors) = (numbers(5, 24, 3), numbers(5, 4, 4));
            let mut heads = x.clone();
            kernels.scale_heads(factors.view(), heads.view_mut());
            let column = factors.view().cols_range(2..3);
            let mut sum = x.clone();
            kernels.add_scaled_rows(column, heads.view(), sum.view_mut());
            let of_rows: Vec<f32> = (0..5).map(|row| factors.row(row)[1]).collect();
            let mut rows = x.clone();
            kernels.scale_rows(&of_rows, rows.view_mut());
            for row in 0..5 {
                for column in 0..24 {
                    let (x, f) = (x.row(row)[column], factors.row(row));
                    assert_eq!(heads.row(row)[column], x * f[column / 6]);
                    assert_eq!(sum.row(row)[column], x + f[2] * heads.row(row)[column]);
                    assert_eq!(rows.row(row)[column], x * f[1]);
                }
            }
        });
    }

    #[test]
    fn parts_of_rows_move() {
        on_all(|kernels| {
            let x = numbers(3, 20, 5);
            let mut out = Mat::new(3, 15);
            let parts = |first, stride| HeadParts { first, stride };
            let from = (x.view(), parts(2, 6));
            kernels.copy_heads(3, 4, from, (out.view_mut(), parts(0, 5)));
            let from = (x.view(), parts(19, 0));
            kernels.copy_heads(3, 1, from, (out.view_mut(), parts(4, 5)));
            for row in 0..3 {
                for (column, &value) in out.row(row).iter().enumerate() {
                    let (head, place) = (column / 5, column % 5);
                    let source = if place == 4 { 19 } else { 2 + head * 6 + place };
                    assert_eq!(value, x.row(row)[source]);
                }
            }
            let mut copy = Mat::new(3, 20);
            kernels.copy(x.view(), copy.view_mut());
            assert_eq!(copy.as_slice(), x.as_slice());
        });
    }

    #[test]
    fn magnitudes_are_matched_and_small_values_cut() {
        on_all(|kernels| {
            let (like, mut x) = (numbers(4, 33, 6), numbers(4, 33, 7));
            kernels.match_magnitudes(like.view(), x.view_mut());
            let square = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            for row in 0..4 {
                let ratio = square(x.row(row)) / square(like.row(row));
                assert!((ratio - 1.0).abs() < 1e-5, "{ratio}");
            }
            let mut cut = Mat::from_vec(1, 4, vec![1.0, 2.0, 3.0, 6.0]);
            // Mean 3, deviation sqrt(3.5).
            kernels.keep_largest(1.0, cut.view_mut());
            assert_eq!(cut.row(0)[..3], [0.0; 3]);
            assert!((f64::from(cut.row(0)[3]) - (3.0 - 3.5_f64.sqrt())).abs() < 1e-6);
        });
    }

    #[test]
    fn streams_are_mixed_as_they_were() {
        on_all(|kernels| {
            let mix = numbers(6, 9, 8);
            let before = [numbers(6, 19, 1), numbers(6, 19, 2), numbers(6, 19, 3)];
            let mut after = before.clone();
            let mut streams: Vec<MatMut> = after.iter_mut().map(Mat::view_mut).collect();
            kernels.mix_streams(mix.view(), &mut streams);
            for (stream, after) in after.iter().enumerate() {
                for row in 0..6 {
                    for column in 0..19 {
                        let mut expected = before[stream].row(row)[column];
                        for (other, before) in before.iter().enumerate() {
                            expected += mix.row(row)[stream * 3 + other] * before.row(row)[column];
                        }
                        assert_eq!(after.row(row)[column], expected);
                    }
                }
            }
        });
    }
}
