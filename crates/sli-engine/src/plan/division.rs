//! How records divide into super-batches, and how many rows those have.

use std::ops::Range;

use sli_spec::{ModelSpec, Sequence, Stack};

use crate::portion::Portion;
use crate::records::RecordSpool;
use crate::shared::Shared;

/// Divides records into consecutive ranges. Where there are several stacks, the rows of a record are those it has in the
/// stack where it has most.
#[derive(Clone, Copy)]
pub(crate) struct Division<'a> {
    spec: &'a ModelSpec,
    records: &'a RecordSpool,
    /// What costs nothing as an earlier record of the range has it.
    shared: Shared,
    /// Rows beyond which a record is cut into pieces.
    most: Option<usize>,
}

/// Rows of a record in a stack.
pub(crate) fn rows_in(stack: &Stack, records: &RecordSpool, record: usize) -> usize {
    match records.of(stack.sequence).tokens_of(record) {
        0 => 0,
        tokens => stack.prompt.len() + tokens,
    }
}

impl<'a> Division<'a> {
    /// Of records that share what they have in common.
    pub fn new(spec: &'a ModelSpec, records: &'a RecordSpool, shared: Shared) -> Self {
        Self {
            spec,
            records,
            shared,
            most: None,
        }
    }

    /// The same where records of more than `most` rows are cut into pieces of as many.
    pub fn cut(self, most: Option<usize>) -> Self {
        Self { most, ..self }
    }

    /// Whether a record is cut into pieces.
    fn is_cut(self, record: usize) -> bool {
        self.most.is_some_and(|most| self.length(record) > most)
    }

    /// Rows of a record alone.
    pub fn length(self, record: usize) -> usize {
        let stacks = self.spec.stacks.iter();
        let rows = stacks.map(|stack| rows_in(stack, self.records, record));
        rows.max().unwrap_or(0)
    }

    /// Rows of a record alone in one stack.
    pub fn length_in(self, stack: usize, record: usize) -> usize {
        rows_in(&self.spec.stacks[stack], self.records, record)
    }

    /// Rows of the longest record.
    pub fn longest(self) -> usize {
        let rows =
            self.spec
                .stacks
                .iter()
                .map(|stack| match self.records.of(stack.sequence).longest() {
                    0 => 0,
                    tokens => stack.prompt.len() + tokens,
                });
        rows.max().unwrap_or(0)
    }

    /// Rows of the longest piece of a record that is in memory at a time.
    pub fn longest_piece(self) -> usize {
        self.longest().min(self.most.unwrap_or(usize::MAX))
    }

    /// Leading tokens of a record that the one before it has as well, if it is in the range that begins with `first`.
    pub fn shared(self, record: usize, first: usize) -> usize {
        let alone = record == first
            || self.is_cut(record)
            || self.is_cut(record - 1)
            || self.records.differs_in_pictures(record);
        match self.shared.tokens {
            0 => 0,
            _ if alone => 0,
            _ => self.records.shared_with_previous(record),
        }
    }

    /// Rows in one stack by which a record makes the range longer that begins with `first`, at most: what records farther
    /// apart have in common of their tokens is not counted.
    pub fn added(self, stack: usize, record: usize, first: usize) -> usize {
        let alone = self.length_in(stack, record);
        match self.spec.stacks[stack].sequence {
            Sequence::Record => alone - self.shared(record, first),
            sequence if sequence.is_of_pictures() && self.shared.pictures => {
                let earlier = self.records.same_pictures(record);
                match earlier {
                    Some(earlier) if earlier >= first => 0,
                    _ => alone,
                }
            }
            _ => alone,
        }
    }

    /// What a record costs, in rows. One that adds no token costs memory as well.
    fn cost(self, record: usize, first: usize) -> usize {
        let stacks = 0..self.spec.stacks.len();
        let added = stacks.map(|stack| self.added(stack, record, first));
        added.max().unwrap_or(0).max(1)
    }

    /// Rows of a range of records, at most.
    pub fn rows(self, range: Range<usize>) -> usize {
        let first = range.start;
        range.map(|record| self.cost(record, first)).sum()
    }

    /// First records of ranges of at most `rows` rows each (or one longer record).
    pub fn starts(self, range: Range<usize>, rows: usize) -> Vec<usize> {
        let (mut starts, mut start) = (Vec::new(), range.start);
        while start < range.end {
            starts.push(start);
            start = self.end_of(start..range.end, rows);
        }
        starts
    }

    /// Where a range of at most `rows` rows (or one longer record) ends that begins as this one does.
    pub fn end_of(self, range: Range<usize>, rows: usize) -> usize {
        let mut total = 0;
        let first = range.start;
        for record in range.clone() {
            total += self.cost(record, first);
            if total > rows && record > first {
                return record;
            }
        }
        range.end
    }

    /// Rows of a portion, at most.
    pub fn rows_of(self, portion: &Portion) -> usize {
        match &portion.piece {
            Some(piece) => piece.len(),
            None => self.rows(portion.records.clone()),
        }
    }

    /// Portions of at most `rows` rows each (or one longer record that is not cut).
    pub fn portions(self, range: Range<usize>, rows: usize) -> Vec<Portion> {
        let mut portions = Vec::new();
        let mut start = range.start;
        for record in range.clone().filter(|&record| self.is_cut(record)) {
            let before = self.ranges(start..record, rows);
            portions.extend(before.into_iter().map(Portion::whole));
            let (length, most) = (self.length(record), self.most.unwrap_or(usize::MAX));
            portions.extend((0..length).step_by(most).map(|first| Portion {
                records: record..record + 1,
                piece: Some(first..length.min(first + most)),
            }));
            start = record + 1;
        }
        let rest = self.ranges(start..range.end, rows);
        portions.extend(rest.into_iter().map(Portion::whole));
        portions
    }

    /// Ranges of at most `rows` rows each (or one longer record).
    pub fn ranges(self, range: Range<usize>, rows: usize) -> Vec<Range<usize>> {
        let starts = self.starts(range.clone(), rows);
        let ends = starts.iter().skip(1).copied().chain([range.end]);
        let ranges = starts.iter().copied().zip(ends);
        ranges.map(|(start, end)| start..end).collect()
    }
}
