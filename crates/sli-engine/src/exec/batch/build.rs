//! Packs records, or a piece of one, to a batch.

use std::ops::Range;

use sli_spec::{Blocks, ModelSpec, Place, PositionIds, RowRule, Sequence, Stack, TypeRule};

use super::{Batch, BatchRecord, Coordinates, Inputs, Piece, seen_column};
use crate::error::EngineError;
use crate::exec::sources::Sources;
use crate::portion::Portion;
use crate::prefix::{self, PrefixTree, TreeBranch};
use crate::records::{NO_LABEL, Record, RecordSpool};
use crate::shared::Shared;

/// Tokens of records that are read at a time.
const READ_TOKENS: u64 = 1 << 16;

impl Batch {
    /// Packs the rows of a portion for a stack of a model and computes the rotations of all their positions.
    /// `shared`: what its records have in common and is there once.
    pub fn read(
        (spec, stack): (&ModelSpec, usize),
        all: &RecordSpool,
        portion: &Portion,
        shared: Shared,
    ) -> Result<Self, EngineError> {
        let stack = &spec.stacks[stack];
        let records = all.of(stack.sequence);
        let range = portion.records.clone();
        if let Some(piece) = &portion.piece {
            let length = records.tokens_of(range.start);
            let part = part_of(stack, piece, length);
            let part = Part {
                record: records.read_part(range.start, part.clone())?,
                first: part.start,
                length,
            };
            return Ok(Self::of_piece(stack, part, range.start, piece.clone()));
        }
        let owners = if shared.pictures {
            all.owners_of_pictures(range.clone())
        } else {
            (0..range.len()).collect()
        };
        // Rows of pictures see each other.
        let beginnings = match stack.sequence {
            Sequence::Record => shared.tokens,
            _ => 0,
        };
        let mut builder = BatchBuilder::new(beginnings);
        let mut next = range.start;
        while next < range.end {
            let limit = records.token_start(next) + READ_TOKENS;
            let full = |&end: &usize| records.token_start(end + 1) > limit;
            let end = (next + 1..range.end).find(full).unwrap_or(range.end);
            for record in records.read(next..end)? {
                let owner = owners[builder.records.len()];
                builder.push(stack, record, owner)?;
            }
            next = end;
        }
        let first = range.start;
        let (batch, of_branches) = builder.finish(stack, first);
        let sources = Sources::of((spec, stack), all, range, (&owners, &of_branches))?;
        Ok(Self { sources, ..batch })
    }

    /// The rows `rows` of a record, counting those in front of its tokens.
    fn of_piece(stack: &Stack, part: Part, index: usize, rows: Range<usize>) -> Self {
        let Part {
            mut record,
            first: from,
            length: tokens,
        } = part;
        lead_in(stack, &mut record);
        let (lead, length) = (stack.prompt.len(), stack.prompt.len() + tokens);
        let own = rows.start - from..rows.end - from;
        let ids = position_ids(stack.positions, &record.tokens);
        let ids = ids[own.clone()].iter().map(|id| id + from as u32);
        let types = record.token_types.as_ref();
        let first = rows.start.saturating_sub(lead);
        let mut batch = Self {
            first_record: index,
            records: vec![BatchRecord {
                is_repeated: false,
                id: record.id,
                row: record.row,
                tokens: rows.end.saturating_sub(lead) - first,
                first,
                length: tokens,
                lasts: vec![rows.len() - 1],
            }],
            tokens: record.tokens[own.clone()].to_vec(),
            token_types: types.map(|types| types[own.clone()].to_vec()),
            // Records whose tokens have any are not cut.
            inputs: Inputs::default(),
            coordinates: Coordinates::None,
            seen: None,
            // Only where there are several stacks, whose records are not cut.
            labels: None,
            sources: Sources::default(),
            positions: (rows.start as u32..rows.end as u32).collect(),
            position_ids: ids.collect(),
            branches: vec![TreeBranch {
                start: 0,
                parent: None,
            }],
            forks: Vec::new(),
            lead,
            blocks: vec![None],
            ropes: Vec::new(),
            piece: Some(Piece {
                before: rows.start,
                length,
                next: record.tokens.get(own.end).copied(),
            }),
        };
        batch.make_ropes(stack);
        batch
    }
}

impl Inputs {
    /// Those of the rows of a record from `first` on, or what stands for them where it has none.
    fn push(&mut self, stack: &Stack, record: &Record, first: usize) {
        let tokens = record.tokens.len();
        let Some(embedding) = stack.input.embedding() else {
            // Places of patches, or the rows that others are made of.
            if let Some(numbers) = &record.inputs {
                self.columns = numbers.len() / tokens.max(1);
                self.values.extend(&numbers[first * self.columns..]);
            }
            return;
        };
        self.columns = embedding.input_columns();
        let given = record.inputs.as_ref();
        if let Some(given) = given.filter(|given| given.len() == tokens * self.columns) {
            self.values.extend(&given[first * self.columns..]);
            return;
        }
        for position in first..tokens {
            for input in &embedding.inputs {
                let value = input.otherwise(position);
                self.values
                    .extend(std::iter::repeat_n(value, input.columns));
            }
        }
    }
}

/// Collects the records of a batch.
struct BatchBuilder {
    tree: PrefixTree,
    shared: usize,
    typed: bool,
    inputs: Inputs,
    labels: Vec<u32>,
    labelled: bool,
    records: Vec<BatchRecord>,
    positions: Vec<u32>,
    position_ids: Vec<u32>,
    blocks: Vec<Option<Blocks>>,
    /// Of every branch the record that it was made for.
    of_branches: Vec<usize>,
}

impl BatchBuilder {
    fn new(shared: usize) -> Self {
        Self {
            tree: PrefixTree::default(),
            shared,
            typed: false,
            inputs: Inputs::default(),
            labels: Vec::new(),
            labelled: false,
            records: Vec::new(),
            positions: Vec::new(),
            position_ids: Vec::new(),
            blocks: Vec::new(),
            of_branches: Vec::new(),
        }
    }

    /// `owner`: the first record that has the same pictures, by its place among these.
    fn push(&mut self, stack: &Stack, mut record: Record, owner: usize) -> Result<(), EngineError> {
        let (tokens, offset) = (record.tokens.len(), self.records.len());
        if stack.sequence.is_of_pictures() && owner < offset {
            self.records.push(BatchRecord {
                id: record.id,
                row: record.row,
                tokens,
                first: 0,
                length: tokens,
                is_repeated: true,
                lasts: self.records[owner].lasts.clone(),
            });
            return Ok(());
        }
        lead_in(stack, &mut record);
        let blocks = stack
            .positions
            .blocks(&record.tokens, record.token_types.as_deref())
            .map_err(|problem| EngineError::Record {
                id: record.id.clone(),
                problem,
            })?;
        let length = record.tokens.len();
        let mut nodes = record.nodes();
        let embedding = stack.input.embedding();
        if let Some(scattered) = embedding.and_then(|own| own.scattered) {
            let mut seen = nodes.iter_mut();
            while let Some(node) = seen.find(|node| node.token == scattered.token) {
                node.pictures = owner as u32 + 1;
            }
        }
        let ids = position_ids(stack.positions, &record.tokens);
        let (mut lasts, mut all_shared) = (Vec::new(), 0);
        for part in parts_of(stack, &record) {
            let own = &nodes[part.clone()];
            let inserted = self.tree.insert(own, self.shared);
            let first = part.start + inserted.shared;
            self.positions
                .extend(inserted.shared as u32..own.len() as u32);
            self.position_ids.extend(&ids[first..part.end]);
            if inserted.shared < own.len() {
                self.blocks.push(blocks);
                self.of_branches.push(offset);
            }
            lasts.extend(inserted.last);
            all_shared = inserted.shared;
        }
        self.typed |= record.token_types.is_some();
        // They come with stacks that have no prompt.
        self.inputs.push(stack, &record, all_shared);
        // Labels come with stacks whose records share no rows, and that have no prompt.
        match &record.labels {
            Some(labels) => self.labels.extend(labels),
            None => self.labels.extend((all_shared..length).map(|_| NO_LABEL)),
        }
        self.labelled |= record.labels.is_some();
        self.records.push(BatchRecord {
            id: record.id,
            row: record.row,
            tokens,
            first: 0,
            length: tokens,
            is_repeated: false,
            lasts,
        });
        Ok(())
    }

    /// The batch, and of every branch of it the record that it was made for, by its place in the batch.
    fn finish(self, stack: &Stack, first_record: usize) -> (Batch, Vec<usize>) {
        let Self {
            tree,
            typed,
            inputs: Inputs { values, columns },
            labels,
            labelled,
            mut records,
            positions,
            position_ids,
            blocks,
            of_branches,
            ..
        } = self;
        let (nodes, branches, map) = tree.depth_first();
        for record in &mut records {
            for last in &mut record.lasts {
                *last = map.row(*last);
            }
        }
        let mut batch = Batch {
            first_record,
            records,
            tokens: nodes.iter().map(|node| node.token).collect(),
            token_types: typed.then(|| nodes.iter().map(|node| node.kind).collect()),
            inputs: Inputs {
                values: map.moved(values, columns),
                columns,
            },
            coordinates: Coordinates::of(stack),
            seen: seen_column(stack),
            labels: labelled.then(|| map.moved(labels, 1)),
            positions: map.moved(positions, 1),
            position_ids: map.moved(position_ids, 1),
            lead: stack.prompt.len(),
            blocks: map.branches(blocks),
            forks: prefix::forks(&branches),
            branches,
            ropes: Vec::new(),
            piece: None,
            sources: Sources::default(),
        };
        batch.make_ropes(stack);
        (batch, map.branches(of_branches))
    }
}

/// Puts the stack's prompt in front of a record, and gives its tokens the types that follow from them.
fn lead_in(stack: &Stack, record: &mut Record) {
    if record.tokens.is_empty() {
        return;
    }
    let embedding = stack.input.embedding();
    let types = embedding.and_then(|embedding| embedding.token_types.as_ref());
    if let Some(TypeRule::OfToken { padding, other }) = types.map(|types| types.rule) {
        let own = record.tokens.iter();
        let own = own.map(|&token| if token == padding { 0 } else { other });
        record.token_types = Some(stack.prompt.iter().map(|_| 0).chain(own).collect());
    }
    record.tokens.splice(0..0, stack.prompt.iter().copied());
}

/// The rows of a record that see each other: those of each view of its pictures, or all.
fn parts_of(stack: &Stack, record: &Record) -> Vec<Range<usize>> {
    let rows = record.tokens.len();
    if let Some(of_view) = stack.rows_of_views() {
        return (0..rows)
            .step_by(of_view.max(1))
            .map(|first| first..rows.min(first + of_view))
            .collect();
    }
    if let Sequence::Rows(RowRule::Pictures(rule)) = stack.sequence
        && rule.keeps_views()
    {
        let views = rule.views_of(record.inputs.as_deref().unwrap_or_default());
        let mut end = 0;
        let views = views.into_iter().flatten().map(|(rows, _)| {
            end += rows;
            end - rows..end
        });
        return views.collect();
    }
    if stack.input.pictures().is_none() {
        return std::iter::once(0..rows).collect();
    }
    let places = Place::all(record.inputs.as_deref().unwrap_or_default());
    let mut start = 0;
    let parts = places.chunk_by(|one, other| one.view == other.view);
    let parts = parts.map(|part| {
        let first = start;
        start += part.len();
        first..start
    });
    parts.collect()
}

/// Some of a record's tokens.
struct Part {
    record: Record,
    /// The first of them.
    first: usize,
    /// Tokens of the whole record.
    length: usize,
}

/// Whether what a row of a record is follows from its token and its place alone.
pub(crate) fn reads_own_rows(stack: &Stack) -> bool {
    let by_place = match stack.positions {
        PositionIds::Sequential | PositionIds::Blocks { .. } => true,
        PositionIds::AfterPadding { .. }
        | PositionIds::BehindPrompt(_)
        | PositionIds::OfKinds(_) => false,
    };
    by_place && stack.prompt.is_empty()
}

/// The tokens of a record of `length` that some of its rows are made of, and the one behind them.
fn part_of(stack: &Stack, rows: &Range<usize>, length: usize) -> Range<usize> {
    if reads_own_rows(stack) {
        rows.start..length.min(rows.end + 1)
    } else {
        0..length
    }
}

/// Position ids of a record for a learned table.
fn position_ids(rule: PositionIds, tokens: &[u32]) -> Vec<u32> {
    match rule {
        PositionIds::Sequential | PositionIds::OfKinds(_) | PositionIds::Blocks { .. } => {
            (0..tokens.len() as u32).collect()
        }
        PositionIds::BehindPrompt(rows) => (0..tokens.len())
            .map(|row| row.saturating_sub(rows) as u32)
            .collect(),
        PositionIds::AfterPadding { padding } => {
            let mut seen = 0;
            tokens
                .iter()
                .map(|&token| {
                    if token == padding {
                        padding
                    } else {
                        seen += 1;
                        padding + seen
                    }
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::position_ids;
    use sli_spec::PositionIds;

    #[test]
    fn padding_tokens_do_not_count() {
        let rule = PositionIds::AfterPadding { padding: 1 };
        assert_eq!(position_ids(rule, &[5, 1, 6, 7]), [2, 1, 3, 4]);
        assert_eq!(position_ids(PositionIds::Sequential, &[5, 1]), [0, 1]);
    }
}
