//! Normalisation of rows: RMS, layer, L2, each also head by head.
//!
//! A row is summed in the lanes of vectors, then across lanes, in an order that depends on its
//! length only.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp};

impl Kernels {
    /// `out = x / sqrt(mean(x^2) + eps) * weight`, row by row (transformers' `LlamaRMSNorm` in f32).
    /// `weight` has `x.cols()` elements; without one the factor is 1.
    pub fn rms_norm(&self, x: MatRef, weight: Option<&[f32]>, eps: f32, out: MatMut) {
        let _lap = self.lap(Stage::Norm);
        self.normalised(
            x,
            1,
            Scaling {
                kind: Kind::Rms,
                weight,
                bias: None,
                eps,
            },
            &out,
        );
    }

    /// RMS norm of each of the `heads` equal parts of each row, in place. `weight` has the elements
    /// of one head (shared by all) or of a whole row.
    pub fn rms_norm_heads(&self, heads: usize, weight: Option<&[f32]>, eps: f32, x: MatMut) {
        let _lap = self.lap(Stage::Norm);
        self.normalised_in_place(
            heads,
            Scaling {
                kind: Kind::Rms,
                weight,
                bias: None,
                eps,
            },
            &x,
        );
    }

    /// `out = (x - mean) / sqrt(variance + eps) * weight + bias`, row by row (torch's `LayerNorm`,
    /// the biased variance). `weight` and `bias` have `x.cols()` elements.
    pub fn layer_norm(
        &self,
        x: MatRef,
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        eps: f32,
        out: MatMut,
    ) {
        let _lap = self.lap(Stage::Norm);
        self.normalised(
            x,
            1,
            Scaling {
                kind: Kind::Layer,
                weight,
                bias,
                eps,
            },
            &out,
        );
    }

    /// [`Kernels::layer_norm`] in place.
    pub fn layer_norm_in_place(
        &self,
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        eps: f32,
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Norm);
        self.normalised_in_place(
            1,
            Scaling {
                kind: Kind::Layer,
                weight,
                bias,
                eps,
            },
            &x,
        );
    }

    /// Layer norm of each of the `heads` equal parts of each row, in place. `weight` and `bias` have
    /// the elements of one head (shared by all) or of a whole row.
    pub fn layer_norm_heads(
        &self,
        heads: usize,
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        eps: f32,
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Norm);
        self.normalised_in_place(
            heads,
            Scaling {
                kind: Kind::Layer,
                weight,
                bias,
                eps,
            },
            &x,
        );
    }

    /// `x / sqrt(sum(x^2) + eps)` of each row, in place.
    pub fn l2_norm_in_place(&self, eps: f32, x: MatMut) {
        self.l2_norm_heads(1, eps, x);
    }

    /// `x / sqrt(sum(x^2) + eps)` of each of the `heads` equal parts of each row, in place.
    pub fn l2_norm_heads(&self, heads: usize, eps: f32, x: MatMut) {
        self.normalised_in_place(
            heads,
            Scaling {
                kind: Kind::L2,
                weight: None,
                bias: None,
                eps,
            },
            &x,
        );
    }

    /// RMS norm of `weight * x`, row by row, in place. `weight` has `x.cols()` elements.
    pub fn rms_norm_of_scaled(&self, weight: Option<&[f32]>, eps: f32, x: MatMut) {
        let _lap = self.lap(Stage::Norm);
        self.normalised_in_place(
            1,
            Scaling {
                kind: Kind::RmsOfScaled,
                weight,
                bias: None,
                eps,
            },
            &x,
        );
    }

    /// `y * min(longest / (|y| + eps), 1)` of each of the `heads` equal parts of each row, in place, where
    /// `y = weight * x`: no part is longer than `longest`. `weight` has the elements of one head (shared by all)
    /// or of a whole row.
    pub fn shorten_heads(
        &self,
        heads: usize,
        weight: Option<&[f32]>,
        (longest, eps): (f32, f32),
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Norm);
        self.normalised_in_place(
            heads,
            Scaling {
                kind: Kind::AtMost(longest),
                weight,
                bias: None,
                eps,
            },
            &x,
        );
    }

    fn normalised(&self, x: MatRef, heads: usize, scaling: Scaling, out: &MatMut) {
        assert_eq!(
            (x.rows(), x.cols()),
            (out.rows(), out.cols()),
            "input and output of a norm"
        );
        self.each_row_mut(out, |index, row| {
            row.copy_from_slice(x.row(index));
            self.isa().run(Normalise {
                row,
                heads,
                scaling,
            });
        });
    }

    fn normalised_in_place(&self, heads: usize, scaling: Scaling, x: &MatMut) {
        self.each_row_mut(x, |_, row| {
            self.isa().run(Normalise {
                row,
                heads,
                scaling,
            });
        });
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Rms,
    Layer,
    L2,
    /// The factors come first.
    RmsOfScaled,
    /// The factors come first, and no part is longer than this.
    AtMost(f32),
}

#[derive(Clone, Copy)]
struct Scaling<'a> {
    kind: Kind,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f32,
}

struct Normalise<'a> {
    row: &'a mut [f32],
    heads: usize,
    scaling: Scaling<'a>,
}

impl SimdOp for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (
            cols,
            Scaling {
                kind,
                weight,
                bias,
                eps,
            },
        ) = (self.row.len(), self.scaling);
        assert!(
            self.heads > 0 && cols % self.heads == 0,
            "{cols} columns in {} heads",
            self.heads
        );
        let dim = cols / self.heads;
        let part = |all: Option<&'_ [f32]>, head: usize| -> Option<(usize, usize)> {
            all.map(|all| {
                assert!(all.len() == dim || all.len() == cols, "a weight an element");
                if all.len() == dim {
                    (0, dim)
                } else {
                    (head * dim, (head + 1) * dim)
                }
            })
        };
        for (head, row) in self.row.chunks_exact_mut(dim).enumerate() {
            let weight = part(weight, head).and_then(|(a, b)| weight.map(|w| &w[a..b]));
            let weight = match kind {
                Kind::RmsOfScaled | Kind::AtMost(_) => {
                    rescale(s, row, 0.0, 1.0, weight, None);
                    None
                }
                Kind::Rms | Kind::Layer | Kind::L2 => weight,
            };
            let (shift, scale) = match kind {
                Kind::AtMost(longest) => {
                    let length = moment(s, row, 0.0, true).sqrt();
                    (0.0, (longest / (length + eps)).min(1.0))
                }
                Kind::Rms | Kind::RmsOfScaled => (
                    0.0,
                    1.0 / (moment(s, row, 0.0, true) / dim as f32 + eps).sqrt(),
                ),
                Kind::L2 => (0.0, 1.0 / (moment(s, row, 0.0, true) + eps).sqrt()),
                Kind::Layer => {
                    let mean = moment(s, row, 0.0, false) / dim as f32;
                    (
                        mean,
                        1.0 / (moment(s, row, mean, true) / dim as f32 + eps).sqrt(),
                    )
                }
            };
            let bias = part(bias, head).and_then(|(a, b)| bias.map(|w| &w[a..b]));
            rescale(s, row, shift, scale, weight, bias);
        }
    }
}

/// The sum of `x - shift` or of its square.
#[inline(always)]
fn moment<S: Simd>(s: S, row: &[f32], shift: f32, square: bool) -> f32 {
    const SUMS: usize = 4;
    let shifts = s.splat(shift);
    let mut sums = [s.splat(0.0); SUMS];
    let blocks = row.chunks_exact(SUMS * S::LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(S::LANES)) {
            let x = s.sub(s.get(x), shifts);
            *sum = if square {
                s.mul_add(x, x, *sum)
            } else {
                s.add(*sum, x)
            };
        }
    }
    for x in rest.chunks(S::LANES) {
        let x = if x.len() == S::LANES {
            s.get(x)
        } else {
            s.get_part(x, shift)
        };
        let x = s.sub(x, shifts);
        sums[0] = if square {
            s.mul_add(x, x, sums[0])
        } else {
            s.add(sums[0], x)
        };
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// `(x - shift) * scale * weight + bias`.
#[inline(always)]
fn rescale<S: Simd>(
    s: S,
    row: &mut [f32],
    shift: f32,
    scale: f32,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
) {
    let (shifts, scales) = (s.splat(shift), s.splat(scale));
    let len = row.len();
    for at in (0..len).step_by(S::LANES) {
        let end = len.min(at + S::LANES);
        let whole = end - at == S::LANES;
        let x = if whole {
            s.get(&row[at..end])
        } else {
            s.get_part(&row[at..end], 0.0)
        };
        let mut x = s.mul(s.sub(x, shifts), scales);
        if let Some(weight) = weight {
            let w = &weight[at..end];
            x = s.mul(x, if whole { s.get(w) } else { s.get_part(w, 0.0) });
        }
        if let Some(bias) = bias {
            let b = &bias[at..end];
            x = s.add(x, if whole { s.get(b) } else { s.get_part(b, 0.0) });
        }
        if whole {
            s.put(&mut row[at..end], x);
        } else {
            s.put_part(&mut row[at..end], x);
        }
    }
}
