//! A super-batch: records packed end to end, and what follows from their tokens alone.
//!
//! A *row* is a token that runs through the layers. Records that begin with the same tokens share the
//! rows of that beginning: rows are the nodes of a tree, in depth-first order, and a record is a path
//! through it. Without sharing every record is a branch of its own, and rows are tokens in input
//! order.

use std::ops::Range;

use sli_kernels::{CommonKeys, Mat, MatRef, Segment};
use sli_spec::rope::{PositionAxis, Rope, RopeFrequencies, StoredTurns, TurnsForm};
use sli_spec::{Blocks, ModelSpec, PositionIds, Stack, TypeRule};

use super::place::{Place, Start};
use super::sources::Sources;
use super::target::Target;
use crate::error::EngineError;
use crate::portion::Portion;
use crate::prefix::{self, PrefixTree, TreeBranch};
use crate::records::{NO_LABEL, Record, RecordSpool};
use crate::results::RecordName;

/// Tokens of records that are read at a time.
const READ_TOKENS: u64 = 1 << 16;

/// Records of a super-batch, packed: `[rows]` of everything.
pub(crate) struct Batch {
    /// Number of the first record among all.
    pub first_record: usize,
    pub records: Vec<BatchRecord>,
    pub tokens: Vec<u32>,
    pub token_types: Option<Vec<u32>>,
    /// What tokens have beside them, in rows; no columns where the stack reads no such.
    pub inputs: Inputs,
    /// What every row is to predict, where records say so; [`NO_LABEL`] where they do not.
    labels: Option<Vec<u32>>,
    /// Position within the record.
    pub positions: Vec<u32>,
    /// Position ids for learned tables.
    pub position_ids: Vec<u32>,
    branches: Vec<TreeBranch>,
    /// Rows that branches go on from, in order, each with the last such branch.
    forks: Vec<(usize, usize)>,
    /// Rows in front of every record, of which nothing is shown.
    lead: usize,
    /// How the record of every branch divides, for models that place their tokens by it.
    blocks: Vec<Option<Blocks>>,
    ropes: Vec<RopeTable>,
    /// Where the rows are those of a piece of one record.
    piece: Option<Piece>,
    /// Where the same records are in the earlier stacks that this one reads.
    sources: Sources,
}

/// What tokens have beside them: integers, or bits of f32.
#[derive(Default)]
pub(crate) struct Inputs {
    values: Vec<u32>,
    columns: usize,
}

impl Inputs {
    /// Those of a row.
    pub fn of(&self, row: usize) -> &[u32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// Those of a record whose first row is `lead`, or what stands for them where it has none.
    fn push(&mut self, stack: &Stack, record: &Record) {
        let Some(embedding) = stack.input.embedding() else {
            return;
        };
        self.columns = embedding.input_columns();
        let given = record.inputs.iter().flatten();
        let tokens = record.tokens.len();
        if record
            .inputs
            .as_ref()
            .is_some_and(|given| given.len() == tokens * self.columns)
        {
            self.values.extend(given);
            return;
        }
        for _ in 0..tokens {
            for input in &embedding.inputs {
                let value = input.otherwise();
                self.values
                    .extend(std::iter::repeat_n(value, input.columns));
            }
        }
    }
}

/// A piece of a record that is cut, whose rows a batch has.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Rows of the record before the piece.
    pub before: usize,
    /// Rows of the whole record.
    pub length: usize,
    /// The token behind the piece; `None`: the record ends.
    pub next: Option<u32>,
}

/// One record of a batch.
pub(crate) struct BatchRecord {
    pub id: String,
    /// Its row in the input.
    pub row: u64,
    /// Its tokens that are in the batch, without the prompt.
    pub tokens: usize,
    /// The first of them: 0 unless the batch has a later piece of the record.
    pub first: usize,
    /// Tokens of the whole record.
    pub length: usize,
    /// The row of its last token, where it has any.
    last: Option<usize>,
}

impl BatchRecord {
    /// Whether the batch has all of its tokens.
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.ends()
    }

    /// Whether the batch has its last token.
    pub fn ends(&self) -> bool {
        self.first + self.tokens == self.length
    }

    /// What its rows in result tables begin with.
    pub fn name(&self) -> RecordName<'_> {
        RecordName {
            row: self.row,
            id: &self.id,
        }
    }
}

struct RopeTable {
    rope: Rope,
    cos: Mat,
    sin: Mat,
}

impl Batch {
    /// Packs the rows of a portion for a stack of a model and computes the rotations of all their positions.
    /// `shared`: tokens that a record may have in common with others, at most.
    pub fn read(
        (spec, stack): (&ModelSpec, usize),
        all: &RecordSpool,
        portion: &Portion,
        shared: usize,
    ) -> Result<Self, EngineError> {
        let stack = &spec.stacks[stack];
        let records = all.of(stack.sequence);
        let range = portion.records.clone();
        if let Some(piece) = &portion.piece {
            let record = records.read(range.clone())?.into_iter().next();
            let record = record.unwrap_or_default();
            return Ok(Self::of_piece(stack, record, range.start, piece.clone()));
        }
        let mut builder = BatchBuilder::new(shared);
        let mut next = range.start;
        while next < range.end {
            let limit = records.token_start(next) + READ_TOKENS;
            let full = |&end: &usize| records.token_start(end + 1) > limit;
            let end = (next + 1..range.end).find(full).unwrap_or(range.end);
            for record in records.read(next..end)? {
                builder.push(stack, record)?;
            }
            next = end;
        }
        let first = range.start;
        let sources = Sources::of(spec, stack, all, range);
        Ok(Self {
            sources,
            ..builder.finish(stack, first)
        })
    }

    /// The rows `rows` of a record, counting those in front of its tokens.
    fn of_piece(stack: &Stack, mut record: Record, index: usize, rows: Range<usize>) -> Self {
        let tokens = record.tokens.len();
        lead_in(stack, &mut record);
        let (lead, length) = (stack.prompt.len(), record.tokens.len());
        let ids = position_ids(stack.positions, &record.tokens);
        let types = record.token_types.as_ref();
        let first = rows.start.saturating_sub(lead);
        let mut batch = Self {
            first_record: index,
            records: vec![BatchRecord {
                id: record.id,
                row: record.row,
                tokens: rows.end.saturating_sub(lead) - first,
                first,
                length: tokens,
                last: Some(rows.len() - 1),
            }],
            tokens: record.tokens[rows.clone()].to_vec(),
            token_types: types.map(|types| types[rows.clone()].to_vec()),
            // Records whose tokens have any are not cut.
            inputs: Inputs::default(),
            // Only where there are several stacks, whose records are not cut.
            labels: None,
            sources: Sources::default(),
            positions: (rows.start as u32..rows.end as u32).collect(),
            position_ids: ids[rows.clone()].to_vec(),
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
                next: record.tokens.get(rows.end).copied(),
            }),
        };
        batch.make_ropes(stack);
        batch
    }

    /// Where the rows are those of a piece of one record.
    pub fn piece(&self) -> Option<&Piece> {
        self.piece.as_ref()
    }

    /// Rows of the whole record of a branch, as far as the branch.
    fn length_of(&self, branch: usize) -> usize {
        match &self.piece {
            Some(piece) => piece.length,
            None => self.positions[self.branch(branch).end - 1] as usize + 1,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Rows in front of every record, of which nothing is shown.
    pub fn lead(&self) -> usize {
        self.lead
    }

    /// Whether the rows are the tokens of all records, in their order.
    pub fn is_plain(&self) -> bool {
        let tokens: usize = self.records.iter().map(|record| record.tokens).sum();
        tokens == self.rows()
    }

    /// The rows of a record, in the order of its tokens.
    pub fn path(&self, record: &BatchRecord) -> Vec<Range<usize>> {
        let mut runs = prefix::path(&self.branches, record.last);
        let before = self.piece.as_ref().map_or(0, |piece| piece.before);
        let mut hidden = self.lead.saturating_sub(before);
        runs.retain_mut(|run| {
            let cut = hidden.min(run.len());
            run.start += cut;
            hidden -= cut;
            run.start < run.end
        });
        runs
    }

    /// How many records pass through each row.
    pub fn passes(&self) -> Vec<u64> {
        let mut passes = vec![0; self.rows()];
        for row in self.records.iter().filter_map(|record| record.last) {
            passes[row] += 1;
        }
        // Rows follow the ones they go on from.
        for branch in (0..self.branches.len()).rev() {
            let rows = self.branch(branch);
            for row in rows.clone().skip(1).rev() {
                passes[row - 1] += passes[row];
            }
            if let Some(parent) = self.branches[branch].parent {
                passes[parent] += passes[rows.start];
            }
        }
        for (passes, &position) in passes.iter_mut().zip(&self.positions) {
            if (position as usize) < self.lead {
                *passes = 0;
            }
        }
        passes
    }

    /// What rows of one record are to predict, where the record says so.
    pub fn labels_of(&self, rows: Range<usize>) -> Option<&[u32]> {
        let labels = &self.labels.as_ref()?[rows];
        labels
            .first()
            .is_some_and(|&label| label != NO_LABEL)
            .then_some(labels)
    }

    /// What the rows are to predict: their labels, else the token of every row but the first ones of records as the
    /// target of the row that it follows; behind the rows there is a place for the one that a piece of a record ends before.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::with_capacity(self.rows());
        for (index, branch) in self.branches.iter().enumerate() {
            let rows = self.branch(index);
            if let Some(labels) = self.labels_of(rows.clone()) {
                targets.extend(rows.zip(labels).map(|(row, &token)| Target {
                    row: row as u32,
                    token,
                    place: row as u32,
                }));
                continue;
            }
            let previous = branch.parent.into_iter().chain(rows.clone());
            let skipped = usize::from(branch.parent.is_none());
            let pairs = rows.skip(skipped).zip(previous);
            // What stands in front of a record predicts nothing.
            let pairs = pairs.filter(|&(row, _)| self.positions[row] as usize > self.lead);
            targets.extend(pairs.map(|(row, previous)| Target {
                row: previous as u32,
                token: self.tokens[row],
                place: row as u32,
            }));
        }
        if let Some(Piece {
            before,
            next: Some(token),
            ..
        }) = self.piece
        {
            let rows = self.rows();
            targets.extend((before + rows > self.lead).then_some(Target {
                row: rows as u32 - 1,
                token,
                place: rows as u32,
            }));
        }
        targets.sort_unstable_by_key(|target| target.row);
        targets
    }

    /// Cosines and sines `[rows, dims / 2]` of a rotation of this stack.
    pub fn rotation(&self, rope: &Rope) -> Option<(&Mat, &Mat)> {
        let table = self.ropes.iter().find(|table| &table.rope == rope)?;
        Some((&table.cos, &table.sin))
    }

    /// All rows as one chunk.
    pub fn whole(&self) -> Chunk {
        Chunk {
            rows: 0..self.rows(),
            branches: 0..self.branches.len(),
            carried: 0,
            kept: KeptRows::default(),
        }
    }

    /// Splits the branches into runs of at most `limit` rows each (or one longer branch).
    pub fn chunks(&self, limit: usize) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for index in 0..self.branches.len() {
            let rows = self.branch(index);
            match chunks.last_mut() {
                Some(chunk)
                    if rows.end - chunk.rows.start <= limit
                        && self.sources.rows(chunk.branches.start..index + 1) <= limit =>
                {
                    chunk.rows.end = rows.end;
                    chunk.branches.end = index + 1;
                }
                _ => chunks.push(Chunk {
                    carried: self.positions[rows.start] as usize,
                    rows,
                    branches: index..index + 1,
                    kept: KeptRows::default(),
                }),
            }
        }
        for index in 1..chunks.len() {
            let start = chunks[index - 1].rows.start;
            let first = chunks[index].branches.start;
            chunks[index - 1].kept = self.kept(start, self.branches[first].parent);
        }
        chunks
    }

    /// What the path to `parent` has before the row `start` and from it on.
    fn kept(&self, start: usize, parent: Option<usize>) -> KeptRows {
        let mut kept = KeptRows::default();
        for run in prefix::path(&self.branches, parent) {
            let cut = start.clamp(run.start, run.end);
            kept.carried += cut - run.start;
            if cut < run.end {
                kept.rows.push(cut - start..run.end - start);
            }
        }
        kept
    }

    /// The runs of a chunk: consecutive rows that each follow the one before.
    pub fn runs(&self, chunk: &Chunk) -> Vec<Run> {
        let first = chunk.rows.start;
        let run = |branch: usize| {
            let rows = self.branch(branch);
            let parent = self.branches[branch].parent;
            let before = self.piece.as_ref().is_some_and(|piece| piece.before > 0);
            let start = match parent {
                Some(row) => Some(Start {
                    place: Place::Row(row),
                    is_last: self
                        .fork(row..row + 1)
                        .first()
                        .is_some_and(|fork| fork.1 == branch),
                }),
                None => before.then_some(Start {
                    place: Place::Piece,
                    is_last: true,
                }),
            };
            let forks = self.fork(rows.clone()).iter();
            let mut kept: Vec<_> = forks
                .map(|&(row, _)| (row - first, Place::Row(row)))
                .collect();
            if self
                .piece
                .as_ref()
                .is_some_and(|piece| piece.next.is_some())
            {
                kept.push((rows.end - 1 - first, Place::Piece));
            }
            Run {
                rows: rows.start - first..rows.end - first,
                start,
                kept,
            }
        };
        chunk.branches.clone().map(run).collect()
    }

    /// The forks among some rows.
    fn fork(&self, rows: Range<usize>) -> &[(usize, usize)] {
        let before = |row: usize| self.forks.partition_point(|fork| fork.0 < row);
        &self.forks[before(rows.start)..before(rows.end)]
    }

    /// The rows of the branches of a chunk.
    pub fn branches_of(&self, chunk: &Chunk) -> Vec<Range<usize>> {
        chunk
            .branches
            .clone()
            .map(|branch| self.branch(branch))
            .collect()
    }

    /// The rows of a branch.
    fn branch(&self, index: usize) -> Range<usize> {
        prefix::rows_of(&self.branches, self.rows(), index)
    }

    /// The attention segments of a chunk, in rows of the chunk.
    pub fn segments(&self, chunk: &Chunk) -> Segments {
        self.segments_at(chunk, chunk.rows.start, |row| {
            // What lies before the chunk is carried, in the order of positions.
            match row.checked_sub(chunk.rows.start) {
                Some(row) => row,
                None => chunk.rows.len() + self.positions[row] as usize,
            }
        })
    }

    /// The rows of an earlier stack that the records of a chunk have.
    pub fn source_rows(&self, stack: usize, chunk: &Chunk) -> Range<usize> {
        self.sources.span(stack, chunk.branches.clone())
    }

    /// The attention segments of a chunk whose keys are those rows.
    pub fn segments_of_source(&self, stack: usize, chunk: &Chunk) -> Segments {
        let first = self.source_rows(stack, chunk).start;
        let mut segments = Segments::default();
        for index in chunk.branches.clone() {
            let (queries, keys) = (self.branch(index), self.sources.of_branch(stack, index));
            segments.own.push(Segment {
                q: queries.start - chunk.rows.start..queries.end - chunk.rows.start,
                k: keys.start - first..keys.end - first,
                q_start: 0,
                prefix: 0,
            });
            segments.ranges.push(0..0);
        }
        segments
    }

    /// The same with keys in rows of the batch.
    pub fn segments_of_all(&self, chunk: &Chunk) -> Segments {
        self.segments_at(chunk, 0, |row| row)
    }

    fn segments_at(
        &self,
        chunk: &Chunk,
        first_key: usize,
        place: impl Fn(usize) -> usize,
    ) -> Segments {
        let mut segments = Segments::default();
        for index in chunk.branches.clone() {
            let rows = self.branch(index);
            let common = match self.branches[index].parent {
                None => 0..0,
                Some(parent) => self.common(parent, &mut segments, &place),
            };
            segments.own.push(Segment {
                q: rows.start - chunk.rows.start..rows.end - chunk.rows.start,
                k: rows.start - first_key..rows.end - first_key,
                q_start: self.positions[rows.start] as usize,
                prefix: self.blocks[index].map_or(0, |blocks| blocks.context),
            });
            segments.ranges.push(common);
        }
        segments
    }

    /// Enters the path to a row into the list of common keys, if it is not there.
    fn common(
        &self,
        parent: usize,
        segments: &mut Segments,
        place: impl Fn(usize) -> usize,
    ) -> Range<usize> {
        let length = self.positions[parent] as usize + 1;
        let list = &mut segments.places;
        // Depth-first, the last path that was entered is often the same or its beginning.
        let last = segments.last.clone();
        if last.len() >= length && list[last.start + length - 1] == place(parent) as u32 {
            return last.start..last.start + length;
        }
        let start = list.len();
        for run in prefix::path(&self.branches, Some(parent)) {
            list.extend(run.map(|row| place(row) as u32));
        }
        segments.last = start..list.len();
        segments.last.clone()
    }
}

/// The attention segments of a chunk and the keys in front of their own.
#[derive(Default)]
pub(crate) struct Segments {
    pub own: Vec<Segment>,
    ranges: Vec<Range<usize>>,
    places: Vec<u32>,
    /// The last path in `places`.
    last: Range<usize>,
}

impl Segments {
    /// For the kernel; `earlier` are the keys and values of the rows that were carried.
    pub fn common<'a>(&'a self, earlier: (MatRef<'a>, MatRef<'a>)) -> Option<CommonKeys<'a>> {
        (!self.places.is_empty()).then_some(CommonKeys {
            segments: &self.ranges,
            rows: &self.places,
            earlier_k: earlier.0,
            earlier_v: earlier.1,
        })
    }
}

/// Branches that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Branches of the batch.
    branches: Range<usize>,
    /// Earlier rows that the branches go on from: the path to the first one.
    pub carried: usize,
    /// What the next chunk goes on from.
    pub kept: KeptRows,
}

/// Consecutive rows of a chunk, each the successor of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Rows of the chunk.
    pub rows: Range<usize>,
    /// What they go on from; `None`: a record begins.
    pub start: Option<Start>,
    /// Rows of the chunk, in order, that others go on from.
    pub kept: Vec<(usize, Place)>,
}

/// The rows that the next chunk goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptRows {
    /// That many of the rows that were carried already.
    pub carried: usize,
    /// Rows of this chunk.
    pub rows: Vec<Range<usize>>,
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
        }
    }

    fn push(&mut self, stack: &Stack, mut record: Record) -> Result<(), EngineError> {
        let tokens = record.tokens.len();
        lead_in(stack, &mut record);
        let blocks = stack
            .positions
            .blocks(&record.tokens, record.token_types.as_deref())
            .map_err(|problem| EngineError::Record {
                id: record.id.clone(),
                problem,
            })?;
        let length = record.tokens.len();
        let inserted = self.tree.insert(&record.nodes(), self.shared);
        self.positions.extend(inserted.shared as u32..length as u32);
        let ids = position_ids(stack.positions, &record.tokens);
        self.position_ids.extend(&ids[inserted.shared..]);
        if inserted.shared < length {
            self.blocks.push(blocks);
        }
        self.typed |= record.token_types.is_some();
        // They come with stacks whose records share no rows, and that have no prompt.
        self.inputs.push(stack, &record);
        // Labels come with stacks whose records share no rows, and that have no prompt.
        match &record.labels {
            Some(labels) => self.labels.extend(labels),
            None => self
                .labels
                .extend((inserted.shared..length).map(|_| NO_LABEL)),
        }
        self.labelled |= record.labels.is_some();
        self.records.push(BatchRecord {
            id: record.id,
            row: record.row,
            tokens,
            first: 0,
            length: tokens,
            last: inserted.last,
        });
        Ok(())
    }

    fn finish(self, stack: &Stack, first_record: usize) -> Batch {
        let Self {
            tree,
            typed,
            inputs,
            labels,
            labelled,
            mut records,
            positions,
            position_ids,
            blocks,
            ..
        } = self;
        let (nodes, branches, map) = tree.depth_first();
        for record in &mut records {
            record.last = record.last.map(|row| map.row(row));
        }
        let mut batch = Batch {
            first_record,
            records,
            tokens: nodes.iter().map(|node| node.0).collect(),
            token_types: typed.then(|| nodes.iter().map(|node| node.1).collect()),
            inputs,
            labels: labelled.then(|| map.moved(labels)),
            positions: map.moved(positions),
            position_ids: map.moved(position_ids),
            lead: stack.prompt.len(),
            blocks,
            forks: prefix::forks(&branches),
            branches,
            ropes: Vec::new(),
            piece: None,
            sources: Sources::default(),
        };
        batch.make_ropes(stack);
        batch
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

/// Position ids of a record for a learned table.
fn position_ids(rule: PositionIds, tokens: &[u32]) -> Vec<u32> {
    match rule {
        PositionIds::Sequential | PositionIds::OfKinds | PositionIds::Blocks { .. } => {
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

/// Every different rotation of a stack.
pub(crate) fn distinct_ropes(stack: &Stack) -> Vec<Rope> {
    let mut ropes: Vec<Rope> = Vec::new();
    for rope in stack.mechanisms().flat_map(|mechanism| mechanism.ropes()) {
        if !ropes.contains(rope) {
            ropes.push(rope.clone());
        }
    }
    ropes
}

impl Batch {
    fn make_ropes(&mut self, stack: &Stack) {
        let tables = distinct_ropes(stack).into_iter().map(|rope| {
            let (cos, sin) = self.turns(&rope, stack.turns.as_ref());
            RopeTable { rope, cos, sin }
        });
        self.ropes = tables.collect();
    }

    /// Cosines and sines of every row. Angles are products in f32, as the reference computes them;
    /// records of one length class share the angles of a position.
    fn turns(&self, rope: &Rope, stored: Option<&StoredTurns>) -> (Mat, Mat) {
        let (rows, half) = (self.rows(), rope.dims / 2);
        let (mut cos, mut sin) = (Mat::new(rows, half), Mat::new(rows, half));
        // First row of every position that some record of the class already has.
        let mut known: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, blocks) in self.blocks.iter().enumerate() {
            let rows = self.branch(index);
            // Where branches go on from others, all lengths are of one class.
            let length = self.length_of(index);
            let class = rope.length_class(length);
            let slot = known
                .iter()
                .position(|(other, _)| *other == class)
                .unwrap_or_else(|| {
                    known.push((class, Vec::new()));
                    known.len() - 1
                });
            let turn = turns_of(rope, stored, length);
            for row in rows {
                let position = self.positions[row] as usize;
                if let Some(blocks) = *blocks {
                    let position = axis_position(rope.axis, blocks, position);
                    turn(position, cos.row_mut(row), sin.row_mut(row));
                    continue;
                }
                if self.piece.is_some() {
                    turn(position, cos.row_mut(row), sin.row_mut(row));
                    continue;
                }
                if let Some(&source) = known[slot].1.get(position) {
                    cos.as_mut_slice()
                        .copy_within(source * half..(source + 1) * half, row * half);
                    sin.as_mut_slice()
                        .copy_within(source * half..(source + 1) * half, row * half);
                    continue;
                }
                known[slot].1.push(row);
                turn(position, cos.row_mut(row), sin.row_mut(row));
            }
        }
        (cos, sin)
    }
}

/// Writes the cosines and sines of a position.
type Turn<'t> = Box<dyn Fn(usize, &mut [f32], &mut [f32]) + 't>;

/// What gives cosines and sines of a position in a record of this length: what the checkpoint has, or the rotation's frequencies.
fn turns_of<'t>(rope: &Rope, stored: Option<&'t StoredTurns>, length: usize) -> Turn<'t> {
    let frequencies = match stored {
        None => rope.frequencies(length),
        Some(turns) => match turns.form {
            TurnsForm::Frequencies => RopeFrequencies {
                inverse: turns.values.clone(),
                attention_factor: 1.0,
            },
            TurnsForm::SinesThenCosines => {
                return Box::new(move |position, cos, sin| {
                    let pairs = sin.len();
                    let row = &turns.values[position * 2 * pairs..(position + 1) * 2 * pairs];
                    sin.copy_from_slice(&row[..pairs]);
                    cos.copy_from_slice(&row[pairs..]);
                });
            }
        },
    };
    Box::new(move |position, cos, sin| turn(&frequencies, position, cos, sin))
}

/// Cosines and sines of one position.
fn turn(frequencies: &RopeFrequencies, position: usize, cos: &mut [f32], sin: &mut [f32]) {
    for ((&inverse, cos), sin) in frequencies.inverse.iter().zip(cos).zip(sin) {
        let angle = f64::from(inverse * position as f32);
        *cos = angle.cos() as f32 * frequencies.attention_factor;
        *sin = angle.sin() as f32 * frequencies.attention_factor;
    }
}

/// What a rotation turns the token at `position` by.
fn axis_position(axis: PositionAxis, blocks: Blocks, position: usize) -> usize {
    match axis {
        PositionAxis::Token => position,
        PositionAxis::Context if position < blocks.context => position,
        PositionAxis::Context => blocks.mask,
        PositionAxis::Block => (position + 1).saturating_sub(blocks.context),
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
