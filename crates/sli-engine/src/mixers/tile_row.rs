//! A row of a table enters, by the tile that a row of a picture is of.

use sli_kernels::{Mat, MatRef};
use sli_spec::TileRow;

use super::buffers::Buffers;
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for TileRow {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let table = at.layer.vector(self.table)?;
        output.reset(x.rows(), x.cols());
        for (target, row) in at.rows.chunk.rows.clone().enumerate() {
            let place = at.rows.batch.place(row)?;
            let number = place.shape as usize * self.tiles + place.tile as usize;
            let own = table.chunks_exact(x.cols()).nth(number).ok_or_else(|| {
                let problem = format!("no row for tile {} of shape {}", place.tile, place.shape);
                EngineError::Internal(problem)
            })?;
            output.row_mut(target).copy_from_slice(own);
        }
        Ok(())
    }
}
