//! Rotations of queries and keys.

use sli_kernels::{MatMut, RotaryShape, RotaryStyle};
use sli_spec::rope::Rope;

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
    let Some((cos, sin)) = rows.batch.rotation(rope) else {
        return;
    };
    // A pass may leave queries or keys out.
    if x.rows() == 0 {
        return;
    }
    let range = rows.chunk.rows.clone();
    let (cos, sin) = (cos.rows_view(range.clone()), sin.rows_view(range));
    let shape = rotary_shape(rope, span);
    layer.kernels.rotary_rows(shape, cos, sin, x);
}

/// Turns heads that are narrower than what the rotation is for ([`sli_kernels::Kernels::cut_rotary_rows`]).
pub(super) fn rotate_cut(
    layer: &BoundLayer<'_>,
    rope: &Rope,
    rows: Rows<'_>,
    head_dim: usize,
    x: MatMut<'_>,
) {
    let Some((cos, sin)) = rows.batch.rotation(rope) else {
        return;
    };
    let range = rows.chunk.rows.clone();
    let (cos, sin) = (cos.rows_view(range.clone()), sin.rows_view(range));
    layer.kernels.cut_rotary_rows(head_dim, cos, sin, x);
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
