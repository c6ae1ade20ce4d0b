//! Where the records of a batch are in the earlier stacks that its stack reads.

use std::ops::Range;

use sli_spec::{Mechanism, ModelSpec, PictureRows, Place, RowRule, Sequence, Stack};

use crate::plan::division::rows_in;
use crate::records::RecordSpool;
use crate::results::ResultsError;

/// The rows of every record in every earlier stack that is read. Records that have the same pictures share theirs.
#[derive(Default)]
pub(super) struct Sources(Vec<Source>);

struct Source {
    stack: usize,
    /// Of the record, or the view, of every branch; `0..0` where it has none.
    rows: Vec<Range<usize>>,
    /// Kinds of all rows, where they are asked for and a record has any.
    kinds: Option<Vec<u32>>,
}

impl Sources {
    /// For the records of a range. `owners`: of every one the first that has the same pictures, `of_branches`: of every branch
    /// of `stack` the record, both by places in the range.
    pub fn of(
        (spec, stack): (&ModelSpec, &Stack),
        records: &RecordSpool,
        range: Range<usize>,
        (owners, of_branches): (&[usize], &[usize]),
    ) -> Result<Self, ResultsError> {
        let reads_kinds = stack.mechanisms().any(Mechanism::reads_kinds);
        let source = |source: usize| {
            let earlier = &spec.stacks[source];
            let own = records.of(earlier.sequence);
            let pictures = records.of(Sequence::Pictures);
            let all = rows_of_records(earlier, records, range.clone(), owners);
            let rows = if stack.keeps_views() {
                let mut rows = Vec::new();
                for (offset, record) in range.clone().enumerate() {
                    if owners[offset] < offset {
                        continue;
                    }
                    let of_record = all[offset].clone();
                    let views = [records.of(stack.sequence), pictures];
                    let views = view_lengths(stack, views, record)?;
                    let views = views.map_or(0, |views| views.len());
                    let Some(lengths) = view_lengths(earlier, [own, pictures], record)? else {
                        // Every view reads all of it.
                        rows.extend((0..views).map(|_| of_record.clone()));
                        continue;
                    };
                    let mut first = of_record.start;
                    for length in lengths {
                        rows.push(first..first + length);
                        first += length;
                    }
                }
                rows
            } else {
                let lead = earlier.prompt.len();
                // Nothing is shown of the rows in front.
                let shown = |rows: &Range<usize>| (rows.start + lead).min(rows.end)..rows.end;
                let branches = of_branches.iter();
                branches.map(|&record| shown(&all[record])).collect()
            };
            let none_at_zero = |rows: Range<usize>| if rows.is_empty() { 0..0 } else { rows };
            let kinds = (reads_kinds && own.has_token_types()).then(|| own.kinds(range.clone()));
            Ok(Source {
                stack: source,
                rows: rows.into_iter().map(none_at_zero).collect(),
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
        let rows = branches.map(|branch| self.of_branch(stack, branch));
        let rows = rows.filter(|rows| !rows.is_empty());
        let both = |one: Range<usize>, other: Range<usize>| {
            one.start.min(other.start)..one.end.max(other.end)
        };
        rows.reduce(both).unwrap_or(0..0)
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

/// The rows of every record of a range in a stack.
fn rows_of_records(
    stack: &Stack,
    records: &RecordSpool,
    range: Range<usize>,
    owners: &[usize],
) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::with_capacity(range.len());
    let mut end = 0;
    for (offset, record) in range.enumerate() {
        let owner = owners[offset];
        if stack.sequence.is_of_pictures() && owner < offset {
            all.push(all[owner].clone());
            continue;
        }
        let start = end;
        end += rows_in(stack, records, record);
        all.push(start..end);
    }
    all
}

/// Rows of every view that a record has in a stack; `None`: it has no views there.
fn view_lengths(
    stack: &Stack,
    [records, pictures]: [&RecordSpool; 2],
    record: usize,
) -> Result<Option<Vec<usize>>, ResultsError> {
    if let Some(of_view) = stack.rows_of_views() {
        let views = records.tokens_of(record) / of_view.max(1);
        return Ok(Some(vec![of_view; views]));
    }
    if let Sequence::Rows(RowRule::Pictures(rule)) = stack.sequence
        && rule.keeps_views()
    {
        let record = records.read(record..record + 1)?.into_iter().next();
        let sources = record.and_then(|record| record.inputs);
        let views = rule.views_of(&sources.unwrap_or_default());
        let lengths = views.into_iter().flatten().map(|(rows, _)| rows);
        return Ok(Some(lengths.collect()));
    }
    let (records, rule) = match stack.sequence {
        _ if stack.input.pictures().is_some() => (records, None),
        Sequence::Rows(RowRule::Pictures(rule @ PictureRows::Patches { .. })) => {
            (pictures, Some(rule))
        }
        _ => return Ok(None),
    };
    let mut lengths = Vec::new();
    for record in records.read(record..record + 1)? {
        let places = Place::all(record.inputs.as_deref().unwrap_or_default());
        let views = places.chunk_by(|one, other| one.view == other.view);
        lengths.extend(views.map(|view| match rule {
            None => view.len(),
            Some(rule) => rule.sources(view).len(),
        }));
    }
    Ok(Some(lengths))
}
