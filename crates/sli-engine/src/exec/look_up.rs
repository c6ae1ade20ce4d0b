//! Rows of tables by what tokens have beside them: a block of rows at a time.

use std::ops::Range;

use sli_kernels::{Mat, MatMut};
use sli_spec::{InputRow, InputTable, Linear, LookedUp, Norm, WeightIndex};

use super::BoundLayer;
use super::batch::Batch;
use super::embed::SPREAD_ROWS;
use crate::error::EngineError;

impl BoundLayer<'_> {
    /// Adds what is looked up to the embedding of all rows.
    pub(super) fn add_looked_up(
        &self,
        looked_up: &LookedUp,
        batch: &Batch,
        x: &mut Mat,
    ) -> Result<(), EngineError> {
        if looked_up.layers.is_empty() {
            return self.look_up(looked_up, batch, 0..x.rows(), x.view_mut());
        }
        for block in blocks(x.rows()) {
            let rows = self.looked_up(looked_up, batch, block.clone())?;
            self.kernels.add(rows.view(), 1.0, x.rows_view_mut(block));
        }
        Ok(())
    }

    /// The projection of the tokens' rows and of what is looked up, side by side.
    pub(super) fn project_beside(
        &self,
        (projection, looked_up): (&Linear, &LookedUp),
        batch: &Batch,
        tokens: &Mat,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let width = tokens.cols();
        let mut both = Mat::default();
        for block in blocks(tokens.rows()) {
            both.reset(block.len(), width + looked_up.width);
            both.as_mut_slice().fill(0.0);
            let (own, beside) = both.view_mut().split_cols(width);
            self.kernels.copy(tokens.rows_view(block.clone()), own);
            self.look_up(looked_up, batch, block.clone(), beside)?;
            self.linear(both.view(), projection, hidden.rows_view_mut(block))?;
        }
        Ok(())
    }

    /// Fills a stream beside the hidden state.
    pub(super) fn layout_stream(
        &self,
        looked_up: &LookedUp,
        (positions, norm): (WeightIndex, &Norm),
        batch: &Batch,
        stream: &mut Mat,
    ) -> Result<(), EngineError> {
        for block in blocks(stream.rows()) {
            let rows = self.looked_up(looked_up, batch, block.clone())?;
            self.kernels.copy(rows.view(), stream.rows_view_mut(block));
        }
        self.gather(positions, &batch.position_ids, stream, true)?;
        self.norm_in_place(norm, stream.view_mut())
    }

    /// What is looked up for some rows, behind its layers.
    fn looked_up(
        &self,
        looked_up: &LookedUp,
        batch: &Batch,
        rows: Range<usize>,
    ) -> Result<Mat, EngineError> {
        let mut found = Mat::new(rows.len(), looked_up.width);
        self.look_up(looked_up, batch, rows, found.view_mut())?;
        for layer in &looked_up.layers {
            found = self.transformed(layer, found.view())?;
        }
        Ok(found)
    }

    /// Adds the rows of all tables to their columns.
    fn look_up(
        &self,
        looked_up: &LookedUp,
        batch: &Batch,
        rows: Range<usize>,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        for InputTable { weight, at, row } in &looked_up.tables {
            let own = |index: usize, column: usize| batch.inputs.of(index)[column];
            let number = |index: usize| match *row {
                InputRow::Column(column) => own(index, column),
                InputRow::Difference([of, less]) => own(index, of).saturating_sub(own(index, less)),
                InputRow::Fraction { column, rows } => InputRow::fraction(own(index, column), rows),
                InputRow::Hashed { prime, rows } => {
                    let hash = (u64::from(batch.tokens[index]) + 1) * u64::from(prime);
                    (hash % u64::from(rows)) as u32
                }
            };
            let ids: Vec<u32> = rows.clone().map(number).collect();
            let columns = self.bound(*weight).columns();
            let out = out.reborrow().cols_range(*at..at + columns);
            self.gather_at(*weight, &ids, out, true)?;
        }
        Ok(())
    }
}

fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..rows).step_by(SPREAD_ROWS);
    starts.map(move |start| start..rows.min(start + SPREAD_ROWS))
}
