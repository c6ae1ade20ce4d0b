//! Hyper-connections: several residual streams, of which a sublayer reads a mixture and to all of which it writes.
//!
//! The weights of a row follow from the row's own streams ([`Kernels::connection`]); with them the streams are
//! collapsed to what the sublayer reads, and expanded by what it computed.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::rows::{AddProduct, Each, softmax};

/// How a row's weights follow from what its normed streams are projected to: `n` for reading, then, where the
/// streams are written, `n` for writing, then, where they are mixed, `n * n` for mixing.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Number of streams `n`.
    pub streams: usize,
    /// An addend for each.
    pub base: &'a [f32],
    /// Factors on reading, writing, mixing, in front of the addends.
    pub scale: &'a [f32],
    /// Added to reading weights and, in every sum of the rounds below, to mixing weights.
    pub epsilon: f32,
    /// Factor on the sigmoid of writing weights, and an addend.
    pub write: [f32; 2],
    /// Rounds that make sums of rows and columns of mixing weights one (Sinkhorn and Knopp 1967).
    pub rounds: usize,
}

/// What becomes of the streams: `stream[j] = write[j] * y + sum_i mix[i * n + j] * stream[i]`, the streams as they were.
#[derive(Clone, Copy)]
pub struct Expand<'a> {
    /// `[rows, n]`.
    pub write: MatRef<'a>,
    /// `[rows, n * n]`; `None`: every stream keeps itself.
    pub mix: Option<MatRef<'a>>,
    /// What the sublayer computed.
    pub y: MatRef<'a>,
}

impl Kernels {
    /// Turns projections `[rows, outputs]` of streams that are not normed yet into weights: `streams` are those,
    /// `norm_epsilon` that of the RMS norm over all of them together, which only scales the projections.
    pub fn connection(
        &self,
        form: &Connection,
        streams: &[MatRef],
        norm_epsilon: f32,
        weights: MatMut,
    ) {
        let _lap = self.lap(Stage::Elementwise);
        let count = form.streams;
        assert_eq!(streams.len(), count, "streams");
        assert_eq!(form.base.len(), weights.cols(), "an addend a weight");
        let parts = if weights.cols() == count {
            1
        } else {
            2 + usize::from(weights.cols() > 2 * count)
        };
        let outputs = [count, 2 * count, 2 * count + count * count][parts - 1];
        assert_eq!(weights.cols(), outputs, "weights of {count} streams");
        assert_eq!(form.scale.len(), parts, "a factor a kind of weight");
        self.each_row_mut(&weights, |index, row| {
            let squares = streams.iter().map(|stream| squares(stream.row(index)));
            let values: usize = streams.iter().map(MatRef::cols).sum();
            let mean = squares.sum::<f64>() / values.max(1) as f64;
            let norm = (1.0 / (mean + f64::from(norm_epsilon)).sqrt()) as f32;
            weights_of(form, norm, row);
        });
    }

    /// `out = sum_i weights[i] * streams[i]`, row by row; the weights of a row are its first ones.
    pub fn collapse(&self, weights: MatRef, streams: &[MatRef], out: MatMut) {
        let _lap = self.lap(Stage::Elementwise);
        assert!(weights.cols() >= streams.len(), "a weight a stream");
        for stream in streams {
            let shape = (stream.rows(), stream.cols());
            assert_eq!(shape, (out.rows(), out.cols()), "streams of one shape");
        }
        self.each_row_mut(&out, |index, row| {
            row.fill(0.0);
            for (stream, &weight) in streams.iter().zip(weights.row(index)) {
                self.isa().run(Each {
                    row: &mut *row,
                    other: Some(stream.row(index)),
                    f: AddProduct(weight),
                });
            }
        });
    }

    /// Writes a sublayer's output to the streams.
    pub fn expand(&self, by: Expand, streams: &mut [MatMut]) {
        let _lap = self.lap(Stage::Elementwise);
        let Expand { write, mix, y } = by;
        let (count, rows, cols) = (streams.len(), y.rows(), y.cols());
        let same = |one: &MatMut| (one.rows(), one.cols()) == (rows, cols);
        assert!(streams.iter().all(same), "streams of one shape");
        assert_eq!(
            (write.rows(), write.cols()),
            (rows, count),
            "a weight a stream"
        );
        if let Some(mix) = &mix {
            let shape = (mix.rows(), mix.cols());
            assert_eq!(shape, (rows, count * count), "a weight a pair");
        }
        let streams = &*streams;
        self.parallel_rows(rows, (1 << 14) / (count * cols).max(1), |range| {
            let mut before = vec![0.0; if mix.is_some() { count * cols } else { 0 }];
            for row in range {
                // SAFETY: pieces of the row loop are disjoint, and one row is borrowed at a time.
                let of = |stream: usize| unsafe { streams[stream].shared_row(row) };
                if let Some(mix) = &mix {
                    for (stream, before) in before.chunks_exact_mut(cols.max(1)).enumerate() {
                        before.copy_from_slice(of(stream));
                    }
                    let mix = mix.row(row);
                    for stream in 0..count {
                        of(stream).fill(0.0);
                        let before = before.chunks_exact(cols.max(1));
                        for (other, before) in before.enumerate() {
                            self.isa().run(Each {
                                row: of(stream),
                                other: Some(before),
                                f: AddProduct(mix[other * count + stream]),
                            });
                        }
                    }
                }
                for (stream, &weight) in write.row(row).iter().enumerate() {
                    self.isa().run(Each {
                        row: of(stream),
                        other: Some(y.row(row)),
                        f: AddProduct(weight),
                    });
                }
            }
        });
    }
}

/// The sum of squares, in the order of the row.
fn squares(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value).powi(2)).sum()
}

/// The weights of one row, of its projections without the factor `norm`.
fn weights_of(form: &Connection, norm: f32, row: &mut [f32]) {
    let count = form.streams;
    let parts = [0..count, count..2 * count, 2 * count..row.len()];
    for (part, &scale) in parts.into_iter().zip(form.scale) {
        for index in part {
            row[index] = row[index] * norm * scale + form.base[index];
        }
    }
    let (read, rest) = row.split_at_mut(count);
    for weight in read {
        *weight = sigmoid(*weight) + form.epsilon;
    }
    if rest.is_empty() {
        return;
    }
    let (write, mix) = rest.split_at_mut(count);
    let [factor, addend] = form.write;
    for weight in write {
        *weight = factor * sigmoid(*weight) + addend;
    }
    if mix.is_empty() {
        return;
    }
    for line in mix.chunks_exact_mut(count) {
        softmax(line);
        for weight in line {
            *weight += form.epsilon;
        }
    }
    columns_to_one(mix, count, form.epsilon);
    for _ in 1..form.rounds {
        for line in mix.chunks_exact_mut(count) {
            let sum = line.iter().sum::<f32>() + form.epsilon;
            for weight in line {
                *weight /= sum;
            }
        }
        columns_to_one(mix, count, form.epsilon);
    }
}

fn columns_to_one(mix: &mut [f32], count: usize, epsilon: f32) {
    for column in 0..count {
        let sum = mix.iter().skip(column).step_by(count).sum::<f32>() + epsilon;
        for weight in mix.iter_mut().skip(column).step_by(count) {
            *weight /= sum;
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::mat::Mat;

    fn numbers(rows: usize, cols: usize, seed: usize) -> Mat {
        let values = (0..rows * cols).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0);
        Mat::from_vec(rows, cols, values.collect())
    }

    fn on_all(check: impl Fn(&Kernels)) {
        for threads in [1, 2] {
            check(&Kernels::new(threads, Compute::F32));
        }
    }

    #[test]
    fn mixing_weights_are_doubly_stochastic_and_the_others_bounded() {
        on_all(|kernels| {
            let streams = [numbers(5, 19, 1), numbers(5, 19, 2), numbers(5, 19, 3)];
            let views: Vec<MatRef<'_>> = streams.iter().map(Mat::view).collect();
            let (mut weights, base) = (numbers(5, 15, 4), numbers(1, 15, 5));
            let raw = weights.clone();
            let form = Connection {
                streams: 3,
                base: base.row(0),
                scale: &[0.7, 1.1, 1.3],
                epsilon: 1e-6,
                write: [2.0, 0.25],
                rounds: 20,
            };
            kernels.connection(&form, &views, 1e-5, weights.view_mut());
            for row in 0..5 {
                let found = weights.row(row);
                let mix = &found[6..];
                for line in 0..3 {
                    let sums = [(3 * line, 1), (line, 3)].map(|(start, step)| {
                        mix[start..].iter().step_by(step).take(3).sum::<f32>()
                    });
                    assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-4), "{sums:?}");
                }
                let squares: f64 = streams.iter().map(|one| squares(one.row(row))).sum();
                let norm = 1.0 / (squares / 57.0 + 1e-5).sqrt();
                let logit = |index: usize, scale: f64| {
                    f64::from(raw.row(row)[index]) * norm * scale + f64::from(base.row(0)[index])
                };
                let read = 1.0 / (1.0 + (-logit(1, f64::from(0.7_f32))).exp()) + 1e-6;
                assert!((f64::from(found[1]) - read).abs() < 1e-6);
                let write = 2.0 / (1.0 + (-logit(4, f64::from(1.1_f32))).exp()) + 0.25;
                assert!((f64::from(found[4]) - write).abs() < 1e-6);
            }
        });
    }

    #[test]
    fn streams_are_collapsed_and_expanded() {
        on_all(|kernels| {
            let streams = [numbers(6, 21, 1), numbers(6, 21, 2)];
            let (weights, y) = (numbers(6, 8, 3), numbers(6, 21, 4));
            let views: Vec<MatRef<'_>> = streams.iter().map(Mat::view).collect();
            let mut read = Mat::new(6, 21);
            kernels.collapse(weights.view(), &views, read.view_mut());
            for mixes in [false, true] {
                let mut after = streams.clone();
                let mut targets: Vec<MatMut<'_>> = after.iter_mut().map(Mat::view_mut).collect();
                let by = Expand {
                    write: weights.view().cols_range(2..4),
                    mix: mixes.then(|| weights.view().cols_range(4..8)),
                    y: y.view(),
                };
                kernels.expand(by, &mut targets);
                for row in 0..6 {
                    let (w, y) = (weights.row(row), y.row(row));
                    for (column, &y) in y.iter().enumerate() {
                        let [a, b] = [0, 1].map(|stream: usize| streams[stream].row(row)[column]);
                        assert_eq!(read.row(row)[column], w[0] * a + w[1] * b);
                        for stream in 0..2 {
                            let kept = if mixes {
                                w[4 + stream] * a + w[6 + stream] * b
                            } else {
                                [a, b][stream]
                            };
                            let expected = kept + w[2 + stream] * y;
                            assert_eq!(after[stream].row(row)[column], expected);
                        }
                    }
                }
            }
        });
    }
}
