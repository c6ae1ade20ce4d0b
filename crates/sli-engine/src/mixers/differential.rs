//! Differential attention: one half of the heads less the other, on pairs of value heads.

use sli_kernels::{HeadParts, Kernels, MatRef};
use sli_spec::Differential;

use crate::error::EngineError;
use crate::exec::{BoundLayer, Scratch, Vector};

/// `scratch.value`: `[rows, kv_heads * dim]` becomes `[rows, kv_heads * 2 dim]`, where head `g` holds
/// the heads `g` and `g + kv_heads / 2`, for `g` modulo `kv_heads / 2`.
pub(super) fn pair_values(kernels: &Kernels, kv_heads: usize, dim: usize, scratch: &mut Scratch) {
    let heads = kv_heads / 2;
    scratch
        .inner
        .reset(scratch.value.rows(), 2 * kv_heads * dim);
    let single = scratch.value.view();
    let parts = |first, stride| HeadParts { first, stride };
    for again in 0..2 {
        for second in 0..2 {
            let from = (single, parts(second * heads * dim, dim));
            let first = 2 * again * heads * dim + second * dim;
            let to = (scratch.inner.view_mut(), parts(first, 2 * dim));
            kernels.copy_heads(heads, dim, from, to);
        }
    }
    std::mem::swap(&mut scratch.value, &mut scratch.inner);
}

/// `scratch.heads`: `[rows, heads * dim]` becomes `[rows, heads / 2 * dim]`.
pub(super) fn subtract(
    layer: &BoundLayer<'_>,
    differential: &Differential,
    heads: usize,
    dim: usize,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let [q1, k1, q2, k2] = differential.lambda.map(|index| layer.vector(index));
    let dot = |q: Vector, k: Vector| q.iter().zip(&*k).map(|(q, k)| q * k).sum::<f32>();
    let lambda = dot(q1?, k1?).exp() - dot(q2?, k2?).exp() + differential.initial as f32;
    let count = scratch.heads.rows();
    let half = heads / 2 * dim;
    scratch.query.reset(count, half);
    let both = scratch.heads.view();
    let difference = scratch.query.view_mut();
    layer.kernels.copy(both.cols_range(0..half), difference);
    let (second, lambdas) = (both.cols_range(half..2 * half), vec![-lambda; count]);
    let lambdas = MatRef::from_slice(&lambdas, count, 1);
    let difference = scratch.query.view_mut();
    layer.kernels.add_scaled_rows(lambdas, second, difference);
    layer.head_norm(&differential.norm, heads / 2, scratch.query.view_mut())?;
    let gain = differential.gain as f32;
    layer.kernels.scale_in_place(gain, scratch.query.view_mut());
    std::mem::swap(&mut scratch.heads, &mut scratch.query);
    Ok(())
}
