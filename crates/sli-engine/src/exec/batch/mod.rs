//! A super-batch: records packed end to end, and what follows from their tokens alone.
//!
//! A *row* is a token that runs through the layers. Records that begin with the same tokens share the
//! rows of that beginning: rows are the nodes of a tree, in depth-first order, and a record is a path
//! through it. Without sharing every record is a branch of its own, and rows are tokens in input
//! order.

mod build;
mod chunks;
mod rotations;

pub(crate) use build::reads_own_rows;
pub(crate) use chunks::{Chunk, Run, Segments};
pub(crate) use rotations::distinct_ropes;

use std::ops::Range;

use sli_kernels::Mat;
use sli_spec::rope::Rope;
use sli_spec::{Blocks, InputKind, Place, Scattered, Stack, TokenKind};

use super::sources::Sources;
use super::target::Target;
use crate::error::EngineError;
use crate::prefix::{self, TreeBranch};
use crate::records::NO_LABEL;
use crate::results::RecordName;

/// Records of a super-batch, packed: `[rows]` of everything.
pub(crate) struct Batch {
    /// Number of the first record among all.
    pub first_record: usize,
    pub records: Vec<BatchRecord>,
    pub tokens: Vec<u32>,
    pub token_types: Option<Vec<u32>>,
    /// What tokens have beside them, in rows; no columns where the stack reads no such.
    pub inputs: Inputs,
    /// Where rows have what rotations by several coordinates turn by.
    coordinates: Coordinates,
    /// The first column of inputs that say what a row sees of the pictures of its record.
    seen: Option<usize>,
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

/// Cosines and sines of a rotation, `[rows, dims / 2]` each.
struct RopeTable {
    rope: Rope,
    cos: Mat,
    sin: Mat,
}

/// Where time, row and column of a row are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coordinates {
    /// Nowhere: they are its position.
    #[default]
    None,
    /// In the place of a patch.
    Places,
    /// In the inputs, from this column on.
    At(usize),
}

/// The first column of what tokens see of their pictures, where a stack reads such.
fn seen_column(stack: &Stack) -> Option<usize> {
    let inputs = &stack.input.embedding()?.inputs;
    let at = inputs
        .iter()
        .position(|input| matches!(input.kind, InputKind::Seen { .. }))?;
    Some(inputs[..at].iter().map(|input| input.columns).sum())
}

impl Coordinates {
    fn of(stack: &Stack) -> Self {
        if stack.input.pictures().is_some() {
            return Self::Places;
        }
        let embedding = stack.input.embedding();
        let inputs = embedding.map_or(&[][..], |embedding| &embedding.inputs);
        let mut first = 0;
        for input in inputs {
            if input.kind == InputKind::Positions {
                return Self::At(first);
            }
            first += input.columns;
        }
        Self::None
    }
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
    /// Whether its pictures are those of an earlier record, whose rows it has.
    pub is_repeated: bool,
    /// The row of its last token, where it has any; of pictures the last of each view.
    lasts: Vec<usize>,
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

impl Batch {
    /// Where a row of a stack of pictures is.
    pub fn place(&self, row: usize) -> Result<Place, EngineError> {
        let place = self.inputs.of(row).try_into().map(Place::of);
        place.map_err(|_| EngineError::Internal("patches without places".into()))
    }

    /// The rows of its record's pictures that a row sees, of none where it sees none.
    pub fn seen(&self, row: usize) -> Result<Range<usize>, EngineError> {
        let own = self
            .seen
            .and_then(|first| self.inputs.of(row).get(first..first + 2));
        match own {
            Some(&[first, end]) => Ok(first as usize..end as usize),
            _ => Err(EngineError::Internal("tokens that see no pictures".into())),
        }
    }

    /// Whether the token of a row is of a kind.
    pub fn is_of(&self, kind: TokenKind, row: usize) -> bool {
        let token = match kind {
            TokenKind::Run(token) => token,
            TokenKind::Learned(rows) => return (self.positions[row] as usize) < rows,
        };
        let next = row + 1;
        // Where a branch ends, none goes on with the token: records that share it have the same pictures.
        let goes_on = self.branches.binary_search_by_key(&next, |one| one.start);
        self.tokens[row] == token && goes_on.is_err() && self.tokens.get(next) == Some(&token)
    }

    /// The rows of a chunk at which those of an earlier stack stand, each with that one: of every record as many as it has
    /// there, in their order.
    pub fn rows_scattered(
        &self,
        chunk: &Chunk,
        own: Scattered,
    ) -> Result<Vec<(usize, usize)>, EngineError> {
        if own.marks.is_none() {
            return self.rows_of_token(chunk, (own.stack, own.token));
        }
        let mut pairs = Vec::new();
        // Records with marks share no rows.
        for (branch, rows) in chunk.branch_numbers().zip(self.branches_of(chunk)) {
            let sources = self.source_of(own.stack, branch);
            let targets = rows.filter(|&row| self.inputs.of(row).first() == Some(&1));
            let targets: Vec<usize> = targets.collect();
            if targets.len() != sources.len() {
                return Err(EngineError::Internal(format!(
                    "{} rows for {} marked tokens",
                    sources.len(),
                    targets.len()
                )));
            }
            pairs.extend(targets.into_iter().zip(sources));
        }
        Ok(pairs)
    }

    /// The rows of a chunk whose token is `token`, each with the row of an earlier stack that stands for it: of every record
    /// as many as it has there, in their order.
    pub fn rows_of_token(
        &self,
        chunk: &Chunk,
        (stack, token): (usize, u32),
    ) -> Result<Vec<(usize, usize)>, EngineError> {
        let mut pairs = Vec::new();
        for (branch, rows) in chunk.branch_numbers().zip(self.branches_of(chunk)) {
            let sources = self.source_of(stack, branch);
            let stands = |row: &usize| self.tokens[*row] == token;
            let parent = self.branches[branch].parent;
            let before = prefix::path(&self.branches, parent);
            let before = before.into_iter().flatten().filter(stands).count();
            let targets: Vec<usize> = rows.filter(stands).collect();
            if before + targets.len() > sources.len() {
                return Err(EngineError::Internal(format!(
                    "{} rows for {} places of token {token}",
                    sources.len(),
                    before + targets.len()
                )));
            }
            pairs.extend(targets.into_iter().zip(sources.skip(before)));
        }
        Ok(pairs)
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

    /// The row in front of each in its record.
    pub fn before(&self) -> Vec<Option<usize>> {
        let rows = 0..self.rows();
        let mut before: Vec<Option<usize>> = rows.map(|row| row.checked_sub(1)).collect();
        for branch in &self.branches {
            if let Some(first) = before.get_mut(branch.start) {
                *first = branch.parent;
            }
        }
        before
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The number of the record and the place in it of some rows, none of which are shared; views of pictures follow each other.
    pub fn tokens_of_rows(&self, rows: Range<usize>) -> Vec<(usize, usize)> {
        let numbered = (self.first_record..).zip(&self.records);
        let mut parts = numbered.flat_map(|(number, record)| {
            let mut before = 0;
            record.lasts.iter().map(move |&last| {
                let part = (number, before, last);
                before += self.positions[last] as usize + 1;
                part
            })
        });
        let mut now = parts.next();
        let token = |row: usize| {
            while now.is_some_and(|(.., last)| last < row) {
                now = parts.next();
            }
            let (number, before, _) = now.unwrap_or((self.first_record, 0, row));
            (number, before + self.positions[row] as usize)
        };
        rows.map(token).collect()
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
        let lasts = record.lasts.iter();
        let mut runs: Vec<_> = lasts
            .flat_map(|&last| prefix::path(&self.branches, Some(last)))
            .collect();
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
        for &row in self.records.iter().flat_map(|record| &record.lasts) {
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

    /// The rows of a branch.
    fn branch(&self, index: usize) -> Range<usize> {
        prefix::rows_of(&self.branches, self.rows(), index)
    }
}
