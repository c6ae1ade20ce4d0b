//! How probable the tokens of a record are, of what the head says of the rows of a batch.

use std::ops::Range;

use crate::exec::batch::{Batch, BatchRecord};
use crate::exec::head::LogitResults;
use crate::expansion;

/// The tokens of a record and the log-probabilities of all but the first.
#[derive(Default)]
pub(crate) struct Scores {
    pub tokens: Vec<u32>,
    pub logprobs: Vec<f32>,
}

impl Scores {
    /// Adds the rows of a batch that are a record's.
    pub fn add(
        &mut self,
        batch: &Batch,
        record: &BatchRecord,
        runs: &[Range<usize>],
        results: &LogitResults,
    ) {
        let rows = runs.iter().cloned().flatten();
        let logprob = |(row, place): (usize, usize)| {
            (f64::from(results.target[place]) - results.log_sum_exp[row]) as f32
        };
        // The rows of a record with labels are one run.
        if let Some(labels) = runs.first().and_then(|run| batch.labels_of(run.clone())) {
            self.tokens.extend(labels);
            self.logprobs.extend(rows.map(|row| logprob((row, row))));
            return;
        }
        // Behind a piece is the first row of the next one.
        let behind = (!record.ends() && record.tokens > 0).then_some(batch.rows());
        let next = rows.clone().skip(1).chain(behind);
        self.logprobs.extend(rows.zip(next).map(logprob));
        self.tokens
            .extend(expansion::values(&batch.tokens, 1, runs));
    }
}
