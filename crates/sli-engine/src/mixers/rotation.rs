//! Rotations of queries and keys.

use sli_kernels::{MatMut, MatRef, RotaryShape, RotaryStyle};
use sli_spec::rope::{Pairs, PositionAxis, Rope};

use crate::exec::{BoundLayer, Rows};

/// Which features of `[rows, heads * dim]` rotate: in every head, from `offset` on.
#[derive(Clone, Copy)]
pub(crate) struct HeadSpan {
    pub heads: usize,
    pub dim: usize,
    pub offset: usize,
}

impl HeadSpan {
    /// As the rotation says.
    pub fn of(rope: &Rope, heads: usize, dim: usize) -> Self {
        Self {
            heads,
            dim,
            offset: rope.offset,
        }
    }
}

/// Rotates queries or keys by the positions of the chunk's rows.
pub(crate) fn rotate(
    layer: &BoundLayer<'_>,
    rope: &Rope,
    rows: Rows<'_>,
    span: HeadSpan,
    x: MatMut<'_>,
) {
    // A pass may leave queries or keys out.
    if let Some((cos, sin)) = turns(rope, rows).filter(|_| x.rows() > 0) {
        let shape = rotary_shape(rope, span);
        if rope.axis != PositionAxis::Coordinates(Pairs::ColumnsApart) {
            layer.kernels.rotary_rows(shape, cos, sin, x);
            return;
        }
        let mut x = x;
        let (half, turns) = (rope.dims / 2, cos.cols() / 2);
        for part in 0..2 {
            let shape = RotaryShape {
                rotary_dim: half,
                offset: shape.offset + part * half,
                ..shape
            };
            let own = part * turns..(part + 1) * turns;
            let (cos, sin) = (cos.cols_range(own.clone()), sin.cols_range(own));
            layer.kernels.rotary_rows(shape, cos, sin, x.reborrow());
        }
    }
}

/// Turns heads that are narrower than what the rotation is for ([`sli_kernels::Kernels::cut_rotary_rows`]).
pub(super) fn rotate_cut(
    layer: &BoundLayer<'_>,
    rope: &Rope,
    rows: Rows<'_>,
    head_dim: usize,
    x: MatMut<'_>,
) {
    if let Some((cos, sin)) = turns(rope, rows) {
        layer.kernels.cut_rotary_rows(head_dim, cos, sin, x);
    }
}

/// Cosines and sines of the chunk's rows.
fn turns<'a>(rope: &Rope, rows: Rows<'a>) -> Option<(MatRef<'a>, MatRef<'a>)> {
    let (cos, sin) = rows.batch.rotation(rope)?;
    let range = rows.chunk.rows.clone();
    Some((cos.rows_view(range.clone()), sin.rows_view(range)))
}

/// What of some heads rotates, and how.
pub(super) fn rotary_shape(rope: &Rope, span: HeadSpan) -> RotaryShape {
    RotaryShape {
        heads: span.heads,
        head_dim: span.dim,
        rotary_dim: rope.dims,
        offset: span.offset,
        style: if rope.interleaved {
            RotaryStyle::Interleaved
        } else {
            RotaryStyle::Half
        },
    }
}
