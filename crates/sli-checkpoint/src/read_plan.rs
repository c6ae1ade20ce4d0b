//! From tiles to reads: few, in file order, without more bytes than pay.
//!
//! Tiles become [`Run`]s, pieces of a file with the places where their elements go. Runs are sorted
//! by place in the file and joined to [`Slab`]s over gaps that their source does not mind; a slab is one read.
//! Large contiguous runs are read into the caller's buffer, others through a bounded scratch buffer.

use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::scatter::{Run, scatter};
use crate::source::RangeRead;
use crate::tensors::FileIndex;
use crate::view::{Tile, View};

/// Largest slab in bytes that goes through scratch.
const MAX_SLAB: u64 = 2 << 20;

/// Bytes of slabs that go through scratch together, unless one has more.
const TOGETHER: usize = 256 << 10;

/// A contiguous run of at least this many bytes is read into place, not through scratch.
const DIRECT: usize = 256 << 10;

/// Contiguous pieces shorter than this are described together, as a pattern.
const SMALL_PIECE: usize = 4 << 10;

/// Largest span in bytes of a pattern.
const MAX_PATTERN: usize = 64 << 10;

/// Runs of one plan, so that a plan stays small.
const MAX_RUNS: usize = 1 << 16;

/// One read and the runs it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slab {
    file: FileIndex,
    bytes: Range<u64>,
    runs: Range<usize>,
}

/// Bytes of a weight file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub file: FileIndex,
    /// Its bytes.
    pub bytes: Range<u64>,
}

/// Sorts ranges and joins those that touch.
pub(crate) fn join(mut ranges: Vec<FileRange>) -> Vec<FileRange> {
    ranges.sort_unstable_by_key(|range| (range.file, range.bytes.start));
    let mut joined: Vec<FileRange> = Vec::new();
    for FileRange { file, bytes } in ranges {
        match joined.last_mut() {
            Some(last) if last.file == file && bytes.start <= last.bytes.end => {
                last.bytes.end = last.bytes.end.max(bytes.end);
            }
            _ => joined.push(FileRange { file, bytes }),
        }
    }
    joined
}

/// Reads that fill a buffer.
#[derive(Debug)]
pub(crate) struct ReadPlan {
    /// Widest gap between wanted bytes that is read through rather than around.
    gap: u64,
    runs: Vec<Run>,
}

impl ReadPlan {
    /// Nothing yet.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        Self {
            gap: checkpoint.gap(),
            runs: Vec::new(),
        }
    }

    /// Adds rows of a view, which go to `target` and on, rows of the view's columns side by side.
    pub fn add(&mut self, checkpoint: &Checkpoint, view: &View, rows: Range<usize>, target: usize) {
        let row_bytes = view.columns().saturating_mul(view.element);
        // Tiles are sorted by row, but a tall one may start long before.
        for tile in view.tiles.iter().take_while(|tile| tile.row < rows.end) {
            let (first, end) = (
                tile.row.max(rows.start),
                (tile.row + tile.rows).min(rows.end),
            );
            let Some(info) = checkpoint.tensor_at(tile.tensor as usize) else {
                continue;
            };
            if first < end {
                let target = target + (first - rows.start) * row_bytes + tile.column * view.element;
                self.add_tile(info.file, tile, first..end, target, view.element, row_bytes);
            }
        }
    }

    /// Divides rows of a view so that one plan can hold each of them.
    pub fn windows(view: &View, rows: Range<usize>) -> Vec<Range<usize>> {
        let row_bytes = view.columns().saturating_mul(view.element);
        let per_row = |tile: &&Tile| {
            let inner_columns = tile.columns == 1 || tile.column_stride <= tile.row_stride;
            let dense = tile.row_stride as usize == row_bytes && tile.columns == view.columns();
            inner_columns && !dense
        };
        let runs = |rows: &Range<usize>| {
            let met = view
                .tiles
                .iter()
                .take_while(|tile| tile.row < rows.end)
                .filter(per_row);
            met.map(|tile| {
                (tile.row + tile.rows)
                    .min(rows.end)
                    .saturating_sub(tile.row.max(rows.start))
            })
            .sum::<usize>()
        };
        let mut windows = Vec::new();
        let mut todo = vec![rows];
        while let Some(rows) = todo.pop() {
            if rows.len() > 1 && runs(&rows) > MAX_RUNS {
                let middle = rows.start + rows.len() / 2;
                todo.push(middle..rows.end);
                todo.push(rows.start..middle);
            } else {
                windows.push(rows);
            }
        }
        windows
    }

    /// Whether the plan has as many runs as one should.
    pub fn is_full(&self) -> bool {
        self.runs.len() >= MAX_RUNS
    }

    pub fn add_tile(
        &mut self,
        file: FileIndex,
        tile: &Tile,
        rows: Range<usize>,
        target: usize,
        element: usize,
        row_bytes: usize,
    ) {
        let start = tile.offset + (rows.start - tile.row) as u64 * tile.row_stride;
        let row_axis = Axis {
            count: rows.len(),
            source: tile.row_stride as usize,
            target: row_bytes,
        };
        let column_axis = Axis {
            count: tile.columns,
            source: tile.column_stride as usize,
            target: element,
        };
        // The axis that is denser in the file goes inside, so that runs are long there.
        let (inner, outer) = if row_axis.count == 1
            || (column_axis.count > 1 && column_axis.source <= row_axis.source)
        {
            (column_axis, row_axis)
        } else {
            (row_axis, column_axis)
        };
        let mut run = Run {
            file,
            start,
            target,
            unit: element,
            count: inner.count,
            source_stride: inner.source,
            target_stride: inner.target,
        };
        run.collapse();
        let mut outer = outer;
        if run.count == 1
            && outer.count > 1
            && outer.source.saturating_sub(run.unit) as u64 <= self.gap
        {
            let dense = outer.source == run.unit && outer.target == run.unit;
            if dense || run.unit < SMALL_PIECE {
                (run.count, run.source_stride, run.target_stride) =
                    (outer.count, outer.source, outer.target);
                outer.count = 1;
                run.collapse();
            }
        }
        for i in 0..outer.count {
            let start = run.start + i as u64 * outer.source as u64;
            let target = run.target + i * outer.target;
            self.add_run(Run {
                start,
                target,
                ..run
            });
        }
    }

    /// Adds a run, in pieces if it is a long pattern, one by one if its gaps are worth reading around.
    fn add_run(&mut self, run: Run) {
        if run.count == 1 {
            self.runs.push(run);
            return;
        }
        let most = if run.source_stride.saturating_sub(run.unit) as u64 > self.gap {
            1
        } else {
            (MAX_PATTERN / run.source_stride.max(1)).max(1)
        };
        let mut done = 0;
        while done < run.count {
            let count = most.min(run.count - done);
            self.runs.push(Run {
                start: run.start + (done * run.source_stride) as u64,
                target: run.target + done * run.target_stride,
                count,
                ..run
            });
            done += count;
        }
    }

    /// Joins runs to reads.
    fn slabs(&mut self) -> Vec<Slab> {
        self.runs
            .sort_unstable_by_key(|run| (run.file, run.start, run.target));
        let mut slabs: Vec<Slab> = Vec::new();
        for (i, run) in self.runs.iter().enumerate() {
            if !is_direct(run)
                && let Some(slab) = slabs.last_mut()
                && !is_direct(&self.runs[slab.runs.start])
                && slab.file == run.file
                && run.start.saturating_sub(slab.bytes.end) <= self.gap
                && run.end().max(slab.bytes.end) - slab.bytes.start <= MAX_SLAB
            {
                slab.bytes.end = slab.bytes.end.max(run.end());
                slab.runs.end = i + 1;
            } else {
                slabs.push(Slab {
                    file: run.file,
                    bytes: run.start..run.end(),
                    runs: i..i + 1,
                });
            }
        }
        slabs
    }

    /// The reads of the plan, in file order, and empties it.
    pub fn take_reads(&mut self) -> Vec<FileRange> {
        let slabs = self.slabs();
        self.runs.clear();
        slabs
            .into_iter()
            .map(|slab| FileRange {
                file: slab.file,
                bytes: slab.bytes,
            })
            .collect()
    }

    /// Reads everything into `out` and empties the plan.
    pub fn read(
        &mut self,
        checkpoint: &Checkpoint,
        out: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        let slabs = self.slabs();
        let mut rest = &slabs[..];
        while let Some(first) = rest.first() {
            let mut held = 0;
            let together = rest.iter().take_while(|slab| {
                let more = if self.direct(slab).is_some() {
                    0
                } else {
                    slab.length()
                };
                let fits = slab.file == first.file && (held == 0 || held + more <= TOGETHER);
                held += if fits { more } else { 0 };
                fits
            });
            let (group, after) = rest.split_at(together.count());
            if scratch.len() < held {
                scratch.resize(held, 0);
            }
            self.read_together(checkpoint, group, out, scratch)?;
            rest = after;
        }
        self.runs.clear();
        Ok(())
    }

    /// Where a slab goes that is read into place.
    fn direct(&self, slab: &Slab) -> Option<Range<usize>> {
        match &self.runs[slab.runs.clone()] {
            &[
                Run {
                    count: 1,
                    target,
                    unit,
                    ..
                },
            ] => Some(target..target + unit),
            _ => None,
        }
    }

    /// Reads slabs of one file, into place or through scratch, which has room for all of those.
    fn read_together(
        &self,
        checkpoint: &Checkpoint,
        slabs: &[Slab],
        out: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let Some(file) = slabs.first().map(|slab| slab.file) else {
            return Ok(());
        };
        let mut places: Vec<(Range<usize>, usize)> = slabs
            .iter()
            .enumerate()
            .filter_map(|(at, slab)| Some((self.direct(slab)?, at)))
            .collect();
        places.sort_unstable_by_key(|(place, _)| place.start);
        let mut reads: Vec<(usize, RangeRead<'_>)> = Vec::with_capacity(slabs.len());
        let (mut rest, mut done) = (&mut *out, 0);
        for (place, at) in places {
            let (into, after) = rest
                .get_mut(place.start - done..)
                .unwrap_or_default()
                .split_at_mut(place.len());
            let offset = slabs[at].bytes.start;
            reads.push((at, RangeRead { offset, out: into }));
            (rest, done) = (after, place.end);
        }
        let mut rest = &mut *scratch;
        for (at, slab) in slabs.iter().enumerate() {
            if self.direct(slab).is_none() {
                let (into, after) = rest.split_at_mut(slab.length());
                let offset = slab.bytes.start;
                reads.push((at, RangeRead { offset, out: into }));
                rest = after;
            }
        }
        // In file order.
        reads.sort_unstable_by_key(|(at, _)| *at);
        let mut ranges: Vec<RangeRead<'_>> = reads.into_iter().map(|(_, read)| read).collect();
        checkpoint.read_ranges(file, &mut ranges)?;
        let mut rest = &*scratch;
        for slab in slabs {
            if self.direct(slab).is_none() {
                let (bytes, after) = rest.split_at(slab.length());
                scatter(&self.runs[slab.runs.clone()], slab.bytes.start, bytes, out);
                rest = after;
            }
        }
        Ok(())
    }
}

impl Slab {
    fn length(&self) -> usize {
        (self.bytes.end - self.bytes.start) as usize
    }
}

/// One axis of a tile: how many, and how many bytes apart in the file and in the buffer.
#[derive(Clone, Copy, Debug)]
struct Axis {
    count: usize,
    source: usize,
    target: usize,
}

/// Whether a run is read into place.
fn is_direct(run: &Run) -> bool {
    run.count == 1 && run.unit >= DIRECT
}
