//! Rotary position embedding.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{MatMut, MatRef};

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryStyle {
    /// Element `i` with element `i + rotary_dim / 2` (GPT-NeoX, Llama in transformers).
    Half,
    /// Element `2 i` with element `2 i + 1` (GPT-J, original Llama).
    Interleaved,
}

/// Which part of each row rotates.
#[derive(Clone, Copy, Debug)]
pub struct RotaryShape {
    /// Heads of a row.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a head that rotate; even.
    pub rotary_dim: usize,
    /// Where they start within the head.
    pub offset: usize,
    /// Which of them rotate together.
    pub style: RotaryStyle,
}

impl Kernels {
    /// Turns whole heads that are narrower than what `cos` and `sin` are for, as transformers does where it cuts its tables,
    /// which hold the angles twice side by side, to the width of a head: each element by an angle of its own, so the two of
    /// a pair, `i` and `i + head_dim / 2`, by different ones.
    pub fn cut_rotary_rows(&self, head_dim: usize, cos: MatRef, sin: MatRef, x: MatMut) {
        let _lap = self.lap(Stage::Rotary);
        let rows = x.rows();
        assert_eq!(
            (cos.rows(), sin.rows()),
            (rows, rows),
            "angles for each row"
        );
        assert_eq!(cos.cols(), sin.cols(), "cosines and sines");
        assert!(
            head_dim > 0 && head_dim < 2 * cos.cols() && x.cols().is_multiple_of(head_dim),
            "heads that are narrower than the angles are for"
        );
        let half = head_dim / 2;
        self.each_row_mut(&x, |index, row| {
            let (cos, sin) = (cos.row(index), sin.row(index));
            for head in row.chunks_exact_mut(head_dim) {
                let before = head.to_vec();
                let (first, second) = before.split_at(half);
                let others = second.iter().map(|x| -x).chain(first.iter().copied());
                for (((x, was), other), (c, s)) in head
                    .iter_mut()
                    .zip(&before)
                    .zip(others)
                    .zip(cos.iter().zip(sin).cycle())
                {
                    *x = was * c + other * s;
                }
            }
        });
    }

    /// Rotates `x` `[rows, heads * head_dim]` in place: row `i` by the angles whose cosines and sines
    /// are row `i` of `cos` and `sin` `[rows, rotary_dim / 2]`.
    pub fn rotary_rows(&self, shape: RotaryShape, cos: MatRef, sin: MatRef, x: MatMut) {
        let _lap = self.lap(Stage::Rotary);
        assert_eq!(
            (cos.rows(), sin.rows()),
            (x.rows(), x.rows()),
            "angles for each row"
        );
        assert_eq!(
            (cos.cols() * 2, sin.cols() * 2),
            (shape.rotary_dim, shape.rotary_dim),
            "angles and shape"
        );
        let RotaryShape {
            heads,
            head_dim,
            rotary_dim,
            offset,
            style,
        } = shape;
        assert_eq!(x.cols(), heads * head_dim, "{heads} heads of {head_dim}");
        assert!(
            offset + rotary_dim <= head_dim && rotary_dim % 2 == 0,
            "the rotated part of a head"
        );
        self.each_row_mut(&x, |index, row| {
            let (cos, sin) = (cos.row(index), sin.row(index));
            for head in row.chunks_exact_mut(head_dim) {
                let part = &mut head[offset..offset + rotary_dim];
                match style {
                    RotaryStyle::Half => {
                        let (first, second) = part.split_at_mut(rotary_dim / 2);
                        for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                        }
                    }
                    RotaryStyle::Interleaved => {
                        for ((pair, c), s) in
                            part.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin)
                        {
                            *pair = [pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s];
                        }
                    }
                }
            }
        });
    }
}
