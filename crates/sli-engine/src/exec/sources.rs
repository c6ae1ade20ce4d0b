//! Where the records of a batch are in the earlier stacks that its stack reads.

use std::ops::Range;

use sli_spec::{Mechanism, ModelSpec, Place, Stack};

use crate::plan::division::rows_in;
use crate::records::RecordSpool;
use crate::results::ResultsError;

/// The rows of every record in every earlier stack that is read. Records share none there.
#[derive(Default)]
pub(super) struct Sources(Vec<Source>);

struct Source {
    stack: usize,
    /// Of the record of every branch.
    rows: Vec<Range<usize>>,
    /// Kinds of all rows, where they are asked for and a record has any.
    kinds: Option<Vec<u32>>,
}

impl Sources {
    /// For the records of a range; a record without rows in `stack` has no branch.
    pub fn of(
        spec: &ModelSpec,
        stack: &Stack,
        records: &RecordSpool,
        range: Range<usize>,
    ) -> Result<Self, ResultsError> {
        let reads_kinds = stack.mechanisms().any(Mechanism::reads_kinds);
        let source = |source: usize| {
            let lead = spec.stacks[source].prompt.len();
            let mut start = 0;
            let mut rows = Vec::new();
            let own = records.of(spec.stacks[source].sequence);
            for record in range.clone() {
                let length = rows_in(&spec.stacks[source], records, record);
                if let Some(of_view) = stack.rows_of_views() {
                    let views = rows_in(stack, records, record) / of_view.max(1);
                    let lengths = view_lengths(&spec.stacks[source], own, record)?;
                    match lengths {
                        Some(lengths) => {
                            let mut first = start;
                            for length in lengths {
                                rows.push(first..first + length);
                                first += length;
                            }
                        }
                        // Every view reads all of it.
                        None => rows.extend((0..views).map(|_| start..start + length)),
                    }
                } else if rows_in(stack, records, record) > 0 {
                    // Nothing is shown of the rows in front.
                    rows.push((start + lead).min(start + length)..start + length);
                }
                start += length;
            }
            let kinds = (reads_kinds && own.has_token_types()).then(|| own.kinds(range.clone()));
            Ok(Source {
                stack: source,
                rows,
                kinds: kinds.transpose()?,
            })
        };
        let sources = stack.sources().into_iter().map(source);
        Ok(Self(sources.collect::<Result<_, ResultsError>>()?))
    }

    /// The kinds of all rows of a stack, where a record has any.
    pub fn kinds(&self, stack: usize) -> Option<&[u32]> {
        let source = self.0.iter().find(|source| source.stack == stack);
        source?.kinds.as_deref()
    }

    /// The rows that the record of a branch has.
    pub fn of_branch(&self, stack: usize, branch: usize) -> Range<usize> {
        let source = self.0.iter().find(|source| source.stack == stack);
        source.map_or(0..0, |source| source.rows[branch].clone())
    }

    /// From the first row of some branches to the last.
    pub fn span(&self, stack: usize, branches: Range<usize>) -> Range<usize> {
        let last = branches.end.max(branches.start + 1) - 1;
        let first = self.of_branch(stack, branches.start);
        first.start..self.of_branch(stack, last).end
    }

    /// How many rows of any one stack some branches span.
    pub fn rows(&self, branches: Range<usize>) -> usize {
        let spans = self
            .0
            .iter()
            .map(|source| self.span(source.stack, branches.clone()).len());
        spans.max().unwrap_or(0)
    }
}

/// Rows of every view that a record has in a stack; `None`: it has no views there.
fn view_lengths(
    stack: &Stack,
    records: &RecordSpool,
    record: usize,
) -> Result<Option<Vec<usize>>, ResultsError> {
    if let Some(of_view) = stack.rows_of_views() {
        let views = records.tokens_of(record) / of_view.max(1);
        return Ok(Some(vec![of_view; views]));
    }
    if stack.input.pictures().is_none() {
        return Ok(None);
    }
    let mut lengths = Vec::new();
    for record in records.read(record..record + 1)? {
        let places = Place::all(record.inputs.as_deref().unwrap_or_default());
        let views = places.chunk_by(|one, other| one.view == other.view);
        lengths.extend(views.map(<[Place]>::len));
    }
    Ok(Some(lengths))
}
