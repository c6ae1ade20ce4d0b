//! `y = W x + b` with a weight that is resident or passes by in tiles.

use std::ops::Range;

use sli_kernels::{Mat, MatMut, MatRef, PackedWeights, Store};
use sli_spec::{Adapter, Limits, Linear, WeightIndex};

use super::{BoundLayer, Residency, rounded};
use crate::entered::Which;
use crate::error::EngineError;
use crate::weights::Weight;
use crate::weights::load;
use crate::weights::stream::{Piece, stream};

/// Columns that every tile starts at a multiple of (the kernels' panel width).
pub(crate) const TILE_COLUMNS: usize = 64;

impl BoundLayer<'_> {
    /// Hands groups of pieces that are read one after the other to `consume`.
    pub fn stream(
        &self,
        groups: &[Vec<Piece<'_>>],
        consume: impl FnMut(usize, &mut [PackedWeights]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let compute = self.kernels.compute();
        stream(self.model, compute, self.store.passage(), groups, consume)
    }

    /// `out = x W^T + b`; x is `[rows, in]`, out is `[rows, out]`. Where the weight's code says so, x is rounded first. Both
    /// are cut to the limits that there may be.
    pub fn linear(
        &self,
        x: MatRef<'_>,
        linear: &Linear,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let Some(&Limits { input, output }) = linear.limits.as_deref() else {
            return self.unlimited(x, linear, out);
        };
        let mut within = Mat::new(x.rows(), x.cols());
        self.kernels.copy(x, within.view_mut());
        self.cut(input, within.view_mut())?;
        self.unlimited(within.view(), linear, out.reborrow())?;
        self.cut(output, out)
    }

    fn cut(&self, limits: [WeightIndex; 2], mat: MatMut<'_>) -> Result<(), EngineError> {
        let (low, high) = (self.scalar(limits[0])?, self.scalar(limits[1])?);
        self.kernels.clamp_in_place(low, high, mat);
        Ok(())
    }

    fn unlimited(
        &self,
        x: MatRef<'_>,
        linear: &Linear,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let bias = self.optional(linear.bias)?;
        let bias = bias.as_deref();
        self.show(&[linear.weight], (0, 1), x, Which::Next);
        self.product(x, (linear.weight, bias), Store::Set, out.reborrow())?;
        let Some(Adapter { down, up, rank }) = linear.adapter else {
            return Ok(());
        };
        let mut between = Mat::new(x.rows(), rank);
        self.product(x, (down, None), Store::Set, between.view_mut())?;
        self.product(between.view(), (up, None), Store::Add, out)
    }

    /// `x W^T + b` to `out`.
    fn product(
        &self,
        x: MatRef<'_>,
        (weight, bias): (WeightIndex, Option<&[f32]>),
        store: Store,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let is_rounded = self.bound(weight).rounds_inputs();
        if is_rounded && matches!(store, Store::Add) {
            let problem = "an adapter whose inputs are rounded";
            return Err(EngineError::Internal(problem.into()));
        }
        let product = |packed: &PackedWeights, bias: Option<&[f32]>, out: MatMut<'_>| {
            if is_rounded {
                rounded::product(self.kernels, x, packed, bias, out);
            } else {
                self.kernels.gemm(x, packed, bias, store, out);
            }
        };
        match self.residency {
            Residency::Resident => {
                let weight = self.weight(weight)?;
                if let Weight::Matrix(packed) = &*weight {
                    product(packed, bias, out);
                }
                Ok(())
            }
            Residency::Tiled(tile_bytes) => {
                let compute = self.kernels.compute();
                let leaf = self.bound(weight);
                let rows = leaf.rows();
                let tile = tile_rows(load::packed_bytes(leaf, rows, compute), rows, tile_bytes);
                let tiles = tiles(rows, tile);
                let groups: Vec<_> = tiles
                    .iter()
                    .map(|rows| {
                        let key = self.key(weight);
                        vec![Piece {
                            key,
                            leaf,
                            slice: 0,
                            rows: rows.clone(),
                        }]
                    })
                    .collect();
                self.stream(&groups, |index, packed| {
                    let rows = tiles[index].clone();
                    let bias = bias.map(|bias| &bias[rows.clone()]);
                    let columns = out.reborrow().cols_range(rows);
                    product(&packed[0], bias, columns);
                    Ok(())
                })
            }
        }
    }
}

/// Rows of a tile of at most `tile_bytes`: a multiple of [`TILE_COLUMNS`], at least one such.
pub(crate) fn tile_rows(bytes: u64, rows: usize, tile_bytes: u64) -> usize {
    let row_bytes = bytes.div_ceil(rows.max(1) as u64).max(1);
    let fit = (tile_bytes / row_bytes) as usize;
    (fit / TILE_COLUMNS * TILE_COLUMNS).clamp(TILE_COLUMNS, rows.max(TILE_COLUMNS))
}

/// `0..rows` in tiles.
pub(crate) fn tiles(rows: usize, tile: usize) -> Vec<Range<usize>> {
    (0..rows)
        .step_by(tile.max(1))
        .map(|start| start..(start + tile).min(rows))
        .collect()
}
