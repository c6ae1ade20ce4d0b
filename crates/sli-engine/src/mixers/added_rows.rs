//! Rows of an earlier stack enter where a token stands for them.

use sli_kernels::{Mat, MatRef};
use sli_spec::AddedRows;

use super::buffers::Buffers;
use super::{At, Mix, end_of};
use crate::error::EngineError;

impl Mix for AddedRows {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), x.cols());
        output.as_mut_slice().fill(0.0);
        let chunk = at.rows.chunk;
        let rows = at
            .rows
            .batch
            .rows_of_token(chunk, (self.stack, self.token))?;
        for (row, source) in rows {
            let end = end_of(&at.kept.ends, self.stack)?;
            let target = output.row_mut(row - chunk.rows.start);
            target.copy_from_slice(end.row(source));
        }
        Ok(())
    }
}
