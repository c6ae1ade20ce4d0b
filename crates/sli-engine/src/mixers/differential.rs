//! Differential attention: one half of the heads less the other, on pairs of value heads.

use sli_spec::Differential;

use crate::error::EngineError;
use crate::exec::{Layer, Scratch, Vector, values};

/// `scratch.value`: `[rows, kv_heads * dim]` becomes `[rows, kv_heads * 2 dim]`, where head `g` holds
/// the heads `g` and `g + kv_heads / 2`, for `g` modulo `kv_heads / 2`.
pub(super) fn pair_values(kv_heads: usize, dim: usize, scratch: &mut Scratch) {
    let count = scratch.value.rows();
    let half = kv_heads / 2 * dim;
    scratch.inner.reset(count, 2 * kv_heads * dim);
    for row in 0..count {
        let single = scratch.value.row(row);
        let (first, second) = single.split_at(half);
        let pairs = scratch.inner.row_mut(row).chunks_exact_mut(2 * dim);
        let heads = first.chunks_exact(dim).zip(second.chunks_exact(dim));
        for (pair, (first, second)) in pairs.zip(heads.clone().chain(heads)) {
            pair[..dim].copy_from_slice(first);
            pair[dim..].copy_from_slice(second);
        }
    }
    std::mem::swap(&mut scratch.value, &mut scratch.inner);
}

/// `scratch.heads`: `[rows, heads * dim]` becomes `[rows, heads / 2 * dim]`.
pub(super) fn subtract(
    layer: &Layer<'_>,
    differential: &Differential,
    heads: usize,
    dim: usize,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let [q1, k1, q2, k2] = differential.lambda.map(|index| layer.vector(Some(index)));
    let dot = |q: Option<Vector>, k: Option<Vector>| {
        let (q, k) = (values(q.as_ref()), values(k.as_ref()));
        let pairs = q.unwrap_or_default().iter().zip(k.unwrap_or_default());
        pairs.map(|(q, k)| q * k).sum::<f32>()
    };
    let lambda = dot(q1?, k1?).exp() - dot(q2?, k2?).exp() + differential.initial as f32;
    let count = scratch.heads.rows();
    let half = heads / 2 * dim;
    scratch.query.reset(count, half);
    for row in 0..count {
        let (first, second) = scratch.heads.row(row).split_at(half);
        let differences = scratch.query.row_mut(row).iter_mut();
        for (difference, (first, second)) in differences.zip(first.iter().zip(second)) {
            *difference = first - lambda * second;
        }
    }
    layer.head_norm(&differential.norm, heads / 2, scratch.query.view_mut())?;
    let gain = differential.gain as f32;
    layer.kernels.scale_in_place(gain, scratch.query.view_mut());
    std::mem::swap(&mut scratch.heads, &mut scratch.query);
    Ok(())
}
