//! From tiles to reads: few, in file order, without more bytes than pay.
//!
//! Tiles become [`Run`]s, pieces of a file with the places where their elements go. Runs are sorted
//! by place in the file and joined to [`Slab`]s over gaps of at most [`MAX_GAP`]; a slab is one read.
//! Large contiguous runs are read into the caller's buffer, others through a bounded scratch buffer.

use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::scatter::{Run, scatter};
use crate::tensors::FileIndex;
use crate::view::{Tile, View};

/// Widest gap in bytes between wanted bytes that is read through rather than around: disks and caches
/// work in such pages, so reading around it saves nothing.
const MAX_GAP: u64 = 4 << 10;

/// Largest slab in bytes that goes through scratch.
const MAX_SLAB: u64 = 2 << 20;

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
#[derive(Debug, Default)]
pub(crate) struct Plan {
    runs: Vec<Run>,
}

impl Plan {
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
            && outer.source.saturating_sub(run.unit) as u64 <= MAX_GAP
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

    /// Adds a run, in pieces if it is a long pattern.
    fn add_run(&mut self, run: Run) {
        if run.count == 1 {
            self.runs.push(run);
            return;
        }
        let most = (MAX_PATTERN / run.source_stride.max(1)).max(1);
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
                && run.start.saturating_sub(slab.bytes.end) <= MAX_GAP
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
        for slab in self.slabs() {
            let runs = &self.runs[slab.runs.clone()];
            if let &[
                Run {
                    count: 1,
                    target,
                    unit,
                    ..
                },
            ] = runs
            {
                checkpoint.read_at(slab.file, slab.bytes.start, &mut out[target..target + unit])?;
                continue;
            }
            let length = (slab.bytes.end - slab.bytes.start) as usize;
            if scratch.len() < length {
                scratch.resize(length, 0);
            }
            checkpoint.read_at(slab.file, slab.bytes.start, &mut scratch[..length])?;
            scatter(runs, slab.bytes.start, &scratch[..length], out);
        }
        self.runs.clear();
        Ok(())
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
