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
        let (batch, chunk) = (at.rows.batch, at.rows.chunk);
        let first = chunk.rows.start;
        let branches = chunk.branch_numbers().zip(batch.branches_of(chunk));
        for (branch, rows) in branches {
            let source = batch.source_of(self.stack, branch);
            let is_own = |row: &usize| batch.tokens[*row] == self.token;
            let targets: Vec<usize> = rows.filter(is_own).collect();
            if targets.len() != source.len() {
                let problem = format!("{} rows for {} tokens", source.len(), targets.len());
                return Err(EngineError::Internal(problem));
            }
            if targets.is_empty() {
                continue;
            }
            let end = end_of(&at.kept.ends, self.stack)?;
            for (row, source) in targets.into_iter().zip(source) {
                output.row_mut(row - first).copy_from_slice(end.row(source));
            }
        }
        Ok(())
    }
}
