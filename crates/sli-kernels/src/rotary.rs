//! Rotary position embedding.

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::mat::{Mat, MatMut, MatRef};

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryStyle {
    /// Element `i` with element `i + rotary_dim / 2` (GPT-NeoX, Llama in transformers).
    Half,
    /// Element `2 i` with element `2 i + 1` (GPT-J, original Llama).
    Interleaved,
}

/// Cosines and sines of positions `0..positions`, `[positions, rotary_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    cos: Mat,
    sin: Mat,
}

impl RotaryTable {
    /// The table for inverse frequencies `inv_freq` (`rotary_dim / 2` of them), as transformers
    /// computes it: the angle is the f32 product of frequency and position; its cosine and sine are
    /// multiplied by `attention_factor`.
    pub fn new(inv_freq: &[f32], positions: usize, attention_factor: f32) -> Self {
        let mut table = Self {
            cos: Mat::new(positions, inv_freq.len()),
            sin: Mat::new(positions, inv_freq.len()),
        };
        for position in 0..positions {
            let cos = table.cos.row_mut(position).iter_mut();
            for ((cos, sin), &frequency) in cos.zip(table.sin.row_mut(position)).zip(inv_freq) {
                let angle = f64::from(frequency * position as f32);
                *cos = angle.cos() as f32 * attention_factor;
                *sin = angle.sin() as f32 * attention_factor;
            }
        }
        table
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cos.rows()
    }

    /// Elements of a head that rotate: twice the number of frequencies.
    pub fn rotary_dim(&self) -> usize {
        self.cos.cols() * 2
    }

    /// Cosines `[positions, rotary_dim / 2]`.
    pub fn cos(&self) -> MatRef<'_> {
        self.cos.view()
    }

    /// Sines `[positions, rotary_dim / 2]`.
    pub fn sin(&self) -> MatRef<'_> {
        self.sin.view()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.cos.bytes() + self.sin.bytes()
    }
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
    /// Rotates `x` `[rows, heads * head_dim]` in place: row `i` by the angles of `positions[i]`.
    pub fn rotary(&self, shape: RotaryShape, table: &RotaryTable, positions: &[u32], x: MatMut) {
        let _lap = self.lap(Stage::Rotary);
        assert_eq!(positions.len(), x.rows(), "a position a row");
        assert_eq!(table.rotary_dim(), shape.rotary_dim, "table and shape");
        self.rotate(shape, &x, |row| {
            let position = positions[row] as usize;
            (table.cos.row(position), table.sin.row(position))
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
        self.rotate(shape, &x, |row| (cos.row(row), sin.row(row)));
    }

    fn rotate<'a>(
        &self,
        shape: RotaryShape,
        x: &MatMut,
        angles: impl Fn(usize) -> (&'a [f32], &'a [f32]) + Sync,
    ) {
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
        self.each_row_mut(x, |index, row| {
            let (cos, sin) = angles(index);
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
