//! Weights of the vocabulary's tokens for a record, from a head that predicts masked tokens (SPLADE): how much each token
//! of the vocabulary is expected anywhere in it.
//!
//! The logits of a record's rows are folded into one number a token of the vocabulary, a tile of the vocabulary at a
//! time; what is not yet all there waits in a file. Rows are folded in the order of the record's tokens, so nothing
//! depends on how they come.

use std::ops::Range;

use sli_kernels::{Mat, MatRef};
use sli_spec::LogitsHead;

use crate::error::EngineError;
use crate::exec::BoundLayer;
use crate::exec::batch::Batch;
use crate::exec::head::Wanted;
use crate::journal::OutputFolder;
use crate::model::Model;
use crate::pooling::{Fold, SparseRecipe, sparse_recipe};
use crate::results::{ResultsError, SparseSink};
use crate::spill::SpillFile;

/// Values of a record that are held while they become a row of the table, bytes a token of the vocabulary: what was
/// folded, its row, and the row again as it is written.
const OF_TOKEN: u64 = 48;

/// What the records of a run have been folded to.
pub(crate) struct Sparse {
    recipe: SparseRecipe,
    sink: SparseSink,
    file: SpillFile,
}

/// Bytes that folding and writing takes.
pub(crate) fn sparse_bytes(vocabulary: usize) -> u64 {
    OF_TOKEN * vocabulary as u64
}

/// The runs of rows of a record of a batch.
struct Runs {
    /// Its number in the batch.
    record: usize,
    /// Some of its rows came before.
    is_begun: bool,
    rows: Vec<Range<usize>>,
}

impl Sparse {
    /// Starts the table, or goes on with it.
    pub fn open(model: &Model, folder: &OutputFolder) -> Result<Self, EngineError> {
        Ok(Self {
            recipe: sparse_recipe(model)?,
            sink: SparseSink::open(folder)?,
            file: SpillFile::create(folder, "folded").map_err(ResultsError::from)?,
        })
    }

    /// Folds the logits of a batch, and hands on what of it comes to its end.
    pub fn fold(
        &self,
        layer: &BoundLayer<'_>,
        head: &LogitsHead,
        (batch, x): (&Batch, &Mat),
        tile_bytes: u64,
    ) -> Result<(), EngineError> {
        let vocabulary = head.projection.out_features;
        let records = batch.records.iter().enumerate();
        let runs: Vec<Runs> = records
            .map(|(number, record)| Runs {
                record: number,
                is_begun: record.first > 0,
                rows: batch.path(record),
            })
            .collect();
        let mut sink = |row: usize, column: usize, block: MatRef<'_>| {
            let rows = row..row + block.rows();
            for runs in &runs {
                self.fold_block(runs, rows.clone(), runs.record * vocabulary + column, block)?;
            }
            Ok(())
        };
        let wanted = Wanted::default();
        layer.logits(head, x.view(), &wanted, tile_bytes, Some(&mut sink))?;
        let mut folded = vec![0.0; vocabulary];
        for (number, record) in batch.records.iter().enumerate() {
            if !record.ends() {
                continue;
            }
            folded.fill(0.0);
            if record.length > 0 {
                let start = number * vocabulary;
                self.file
                    .read(start, &mut folded)
                    .map_err(ResultsError::from)?;
            }
            let weights = (0_u32..).zip(&folded).map(|(token, &value)| {
                let weight = match self.recipe.fold {
                    Fold::Max => self.recipe.weight(value),
                    Fold::Sum => value,
                };
                (token, weight)
            });
            let weights: Vec<(u32, f32)> = weights.filter(|(_, weight)| *weight > 0.0).collect();
            self.sink.push(record.name(), &weights)?;
        }
        Ok(())
    }

    /// Folds the rows of a record that are in a block of logits into what stands at `place` of the file.
    fn fold_block(
        &self,
        runs: &Runs,
        block_rows: Range<usize>,
        place: usize,
        block: MatRef<'_>,
    ) -> Result<(), EngineError> {
        let clip = |run: &Range<usize>| {
            let at = |row: usize| row.clamp(block_rows.start, block_rows.end) - block_rows.start;
            at(run.start)..at(run.end)
        };
        let first = runs.rows.first().map_or(0, |run| run.start);
        let mut rows = runs.rows.iter().map(clip).filter(|rows| !rows.is_empty());
        let Some(some) = rows.next() else {
            return Ok(());
        };
        let mut folded = vec![0.0_f32; block.cols()];
        if runs.is_begun || !block_rows.contains(&first) {
            self.file
                .read(place, &mut folded)
                .map_err(ResultsError::from)?;
        }
        for row in std::iter::once(some).chain(rows).flatten() {
            let logits = folded.iter_mut().zip(block.row(row));
            match self.recipe.fold {
                Fold::Max => logits.for_each(|(most, &logit)| *most = most.max(logit)),
                Fold::Sum => logits.for_each(|(sum, &logit)| *sum += self.recipe.weight(logit)),
            }
        }
        self.file
            .write(place, &folded)
            .map_err(ResultsError::from)?;
        Ok(())
    }

    /// Publishes the table.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        self.sink.finish(folder)
    }
}
