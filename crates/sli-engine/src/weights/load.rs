//! Reading one leaf, or some rows of one, into memory.

use std::ops::Range;

use sli_checkpoint::{BoundLeaf, Buffers, DIRECT_ALIGNMENT, Float};
use sli_kernels::{Compute, Element, PackedKind, PackedWeights, first_non_finite};

use super::{LeafKey, Weight};
use crate::error::EngineError;
use crate::model::Model;

/// Bytes that a reader holds in front of the packed form.
pub(crate) const STAGING_BYTES: usize = 4 << 20;

/// What a reader holds in front of the packed form: stored bytes, at an address that lies in a block of
/// memory as they lie in a block of their file, so that they can come from the disk without a copy.
#[derive(Default)]
pub(crate) struct Staging {
    stored: Vec<u8>,
    /// What decoding holds beside them.
    buffers: Buffers,
}

impl Staging {
    /// Room for `bytes` that begin at `offset` in a file.
    fn at(&mut self, offset: u64, bytes: usize) -> (&mut [u8], &mut Buffers) {
        if self.stored.len() < bytes + DIRECT_ALIGNMENT {
            self.stored = vec![0; bytes + DIRECT_ALIGNMENT];
        }
        let block = DIRECT_ALIGNMENT as u64;
        let address = self.stored.as_ptr().addr() as u64 % block;
        let shift = ((block + offset % block - address) % block) as usize;
        (&mut self.stored[shift..shift + bytes], &mut self.buffers)
    }
}

/// The kernels' name of an element type.
pub(crate) fn element(float: Float) -> Element {
    match float {
        Float::F64 => Element::F64,
        Float::F32 => Element::F32,
        Float::F16 => Element::F16,
        Float::Bf16 => Element::Bf16,
    }
}

/// Stored elements as f32; `raw` holds as many as `out`.
pub(crate) fn decode(raw: &[u8], element: Element, out: &mut [f32]) {
    let parts = raw.chunks_exact(element.size()).zip(out);
    match element {
        Element::F64 => parts.for_each(|(raw, out)| {
            *out = f64::from_le_bytes(raw.try_into().unwrap_or_default()) as f32;
        }),
        Element::F32 => parts.for_each(|(raw, out)| {
            *out = f32::from_le_bytes(raw.try_into().unwrap_or_default());
        }),
        Element::F16 => parts.for_each(|(raw, out)| {
            *out = half::f16::from_le_bytes(raw.try_into().unwrap_or_default()).to_f32();
        }),
        Element::Bf16 => parts.for_each(|(raw, out)| {
            *out = half::bf16::from_le_bytes(raw.try_into().unwrap_or_default()).to_f32();
        }),
    }
}

/// How a leaf's rows are packed.
pub(crate) fn packed_kind(leaf: &BoundLeaf, compute: Compute) -> PackedKind {
    PackedKind::for_weights(element(leaf.float()), compute)
}

/// Bytes of the packed form of `rows` rows.
pub(crate) fn packed_bytes(leaf: &BoundLeaf, rows: usize, compute: Compute) -> u64 {
    PackedWeights::bytes_for(rows, leaf.columns(), packed_kind(leaf, compute)) as u64
}

/// Bytes that the whole leaf takes in memory: packed for a matrix, f32 for a vector.
pub(crate) fn resident_bytes(leaf: &BoundLeaf, compute: Compute) -> u64 {
    if leaf.shape().len() < 2 {
        leaf.shape().iter().product::<usize>() as u64 * 4
    } else {
        packed_bytes(leaf, leaf.rows(), compute)
    }
}

/// Rows of `leaves` leaves alike that are read at a time.
pub(crate) fn step_rows(leaf: &BoundLeaf, leaves: usize) -> usize {
    (STAGING_BYTES / (leaf.row_bytes() * leaves).max(1)).max(1)
}

/// Reads the same rows of leaves of one shape and element type in one go, each into its matrix of
/// `packed`, which is reset to hold exactly them.
pub(crate) fn pack_rows(
    model: &Model,
    leaves: &[(LeafKey, &BoundLeaf)],
    slice: usize,
    rows: Range<usize>,
    compute: Compute,
    staging: &mut Staging,
    packed: &mut [PackedWeights],
) -> Result<(), EngineError> {
    let Some(&(_, first)) = leaves.first() else {
        return Ok(());
    };
    let element = element(first.float());
    let row_bytes = first.row_bytes();
    let step = step_rows(first, leaves.len());
    for packed in &mut *packed {
        packed.reset(rows.len(), first.columns(), packed_kind(first, compute));
    }
    let sources: Vec<&BoundLeaf> = leaves.iter().map(|&(_, leaf)| leaf).collect();
    let mut start = rows.start;
    while start < rows.end {
        let end = (start + step).min(rows.end);
        let bytes = (end - start) * row_bytes;
        let offset = first.offset(slice, start)?;
        let (staging, buffers) = staging.at(offset, bytes * leaves.len());
        BoundLeaf::read_rows_together(&sources, slice, start..end, staging, buffers)?;
        let parts = staging.chunks_exact(bytes.max(1));
        for ((&(key, leaf), part), packed) in leaves.iter().zip(parts).zip(&mut *packed) {
            if !leaf.is_finite()
                && let Some(index) = first_non_finite(part, element)
            {
                let index = start * leaf.columns() + index;
                return Err(EngineError::NonFinite {
                    leaf: key.describe(model),
                    index,
                });
            }
            let pack = || packed.pack_rows(start - rows.start, part, element);
            model.clock.packing(pack);
        }
        start = end;
    }
    Ok(())
}

/// Reads a vector.
pub(crate) fn vector(
    model: &Model,
    key: LeafKey,
    leaf: &BoundLeaf,
) -> Result<Vec<f32>, EngineError> {
    let values = leaf.read_all_f32()?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(EngineError::NonFinite {
            leaf: key.describe(model),
            index,
        }),
    }
}

/// Reads a whole leaf; `reuse` is a matrix whose allocation may serve again.
pub(crate) fn whole(
    model: &Model,
    key: LeafKey,
    compute: Compute,
    staging: &mut Staging,
    reuse: Option<PackedWeights>,
) -> Result<Weight, EngineError> {
    let leaf = key.bound(model);
    if leaf.shape().len() < 2 {
        return Ok(Weight::Vector(vector(model, key, leaf)?));
    }
    let mut packed = reuse.unwrap_or_else(|| PackedWeights::new(0, 0, PackedKind::F32));
    let rows = leaf.rows();
    let into = std::slice::from_mut(&mut packed);
    pack_rows(model, &[(key, leaf)], 0, 0..rows, compute, staging, into)?;
    Ok(Weight::Matrix(packed))
}
