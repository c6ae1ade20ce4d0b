//! Rows of a batch that run together, what they follow, and the keys that they see.

use std::ops::Range;

use sli_kernels::{CommonKeys, MatRef, Segment};
use sli_spec::Mask;

use super::Batch;
use crate::error::EngineError;
use crate::exec::place::{Place, Start};
use crate::prefix;

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
    /// Queries that see all of some keys.
    pub fn push(&mut self, q: Range<usize>, k: Range<usize>) {
        self.own.push(Segment {
            q,
            k,
            q_start: 0,
            prefix: 0,
        });
        self.ranges.push(0..0);
    }

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

impl Chunk {
    /// Numbers of its branches.
    pub fn branch_numbers(&self) -> Range<usize> {
        self.branches.clone()
    }
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

impl Batch {
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

    /// The rows of an earlier stack that the record of a branch has.
    pub fn source_of(&self, stack: usize, branch: usize) -> Range<usize> {
        self.sources.of_branch(stack, branch)
    }

    /// The kinds of the rows of an earlier stack, where a record has any.
    pub fn source_kinds(&self, stack: usize) -> Option<&[u32]> {
        self.sources.kinds(stack)
    }

    /// The attention segments of a chunk whose keys are those rows.
    pub fn segments_of_source(&self, stack: usize, chunk: &Chunk) -> Segments {
        let first = self.source_rows(stack, chunk).start;
        let mut segments = Segments::default();
        for index in chunk.branches.clone() {
            let (queries, keys) = (self.branch(index), self.sources.of_branch(stack, index));
            let keys = match keys.len() {
                0 => 0..0,
                _ => keys.start - first..keys.end - first,
            };
            segments.push(
                queries.start - chunk.rows.start..queries.end - chunk.rows.start,
                keys,
            );
        }
        segments
    }

    /// The attention segments of a chunk of whole views: their windows.
    pub fn segments_of_windows(&self, chunk: &Chunk) -> Result<Segments, EngineError> {
        let mut segments = Segments::default();
        for rows in self.branches_of(chunk) {
            let windows = rows.clone().map(|row| Ok(self.place(row)?.window));
            let windows: Vec<u32> = windows.collect::<Result<_, EngineError>>()?;
            let mut start = rows.start - chunk.rows.start;
            for window in windows.chunk_by(|one, other| one == other) {
                let own = start..start + window.len();
                start = own.end;
                segments.push(own.clone(), own);
            }
        }
        Ok(segments)
    }

    /// The attention segments of a chunk of whole views: rows that see all of their view, and blank ones, which see those.
    pub fn segments_of_blank(&self, chunk: &Chunk) -> Result<Segments, EngineError> {
        let mut segments = Segments::default();
        for rows in self.branches_of(chunk) {
            let mut blank = 0;
            for row in rows.clone() {
                blank += usize::from(self.place(row)?.is_blank);
            }
            let own = rows.start - chunk.rows.start..rows.end - chunk.rows.start;
            let first_blank = own.end - blank;
            let shown = own.start..first_blank;
            segments.push(shown.clone(), own.clone());
            if blank > 0 {
                segments.push(first_blank..own.end, shown);
            }
        }
        Ok(segments)
    }

    /// The attention segments of a chunk whose keys are those rows of an earlier stack that its tokens see, or all of their
    /// record's where they see none. What has no keys is in no segment.
    pub fn segments_of_seen(&self, stack: usize, chunk: &Chunk) -> Result<Segments, EngineError> {
        let first = self.source_rows(stack, chunk).start;
        let mut segments = Segments::default();
        for index in chunk.branches.clone() {
            let (queries, keys) = (self.branch(index), self.sources.of_branch(stack, index));
            if keys.is_empty() {
                continue;
            }
            let seen = queries.clone().map(|row| self.seen(row));
            let seen: Vec<Range<usize>> = seen.collect::<Result<_, EngineError>>()?;
            let mut start = queries.start - chunk.rows.start;
            for alike in seen.chunk_by(|one, other| one == other) {
                let own = start..start + alike.len();
                start = own.end;
                let seen = match alike[0].clone() {
                    seen if seen.is_empty() => 0..keys.len(),
                    seen if seen.end <= keys.len() => seen,
                    seen => {
                        let problem = format!("{seen:?} of {} rows are seen", keys.len());
                        return Err(EngineError::Internal(problem));
                    }
                };
                let from = keys.start - first;
                segments.push(own, from + seen.start..from + seen.end);
            }
        }
        Ok(segments)
    }

    /// For every row of a chunk the positions that it sees beside those of its mask's range, where there are such.
    pub fn joined(&self, mask: Mask, chunk: &Chunk) -> Option<Vec<Range<u32>>> {
        let mut joined = Vec::with_capacity(chunk.rows.len());
        for index in chunk.branches.clone() {
            let rows = self.branch(index);
            match mask {
                Mask::CausalRuns { token, whole, .. } => {
                    let tokens = &self.tokens[rows.clone()];
                    let mut first = self.positions[rows.start];
                    for run in tokens.chunk_by(|one, other| (*one == token) == (*other == token)) {
                        let own = first..first + run.len() as u32;
                        let seen = |row: u32| match run[0] == token {
                            true if whole => own.clone(),
                            true => row..own.end,
                            false => row..row + 1,
                        };
                        joined.extend(own.clone().map(seen));
                        first = own.end;
                    }
                }
                Mask::CausalWindowAfterContext(_) => {
                    let context = self.blocks[index].map_or(0, |blocks| blocks.context as u32);
                    let own = rows.map(|row| match self.positions[row] {
                        row if row < context => 0..context,
                        row => row..row + 1,
                    });
                    joined.extend(own);
                }
                _ => return None,
            }
        }
        Some(joined)
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
