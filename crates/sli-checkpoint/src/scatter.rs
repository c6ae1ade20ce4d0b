//! From bytes of a file to their places in a buffer.

use std::ops::Range;

use crate::tensors::FileIndex;

/// `count` pieces of `unit` bytes: `source_stride` apart in the file, `target_stride` apart in the
/// buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub file: FileIndex,
    pub start: u64,
    pub target: usize,
    pub unit: usize,
    pub count: usize,
    pub source_stride: usize,
    pub target_stride: usize,
}

impl Run {
    pub fn span(&self) -> usize {
        (self.count - 1) * self.source_stride + self.unit
    }

    pub fn end(&self) -> u64 {
        self.start + self.span() as u64
    }

    /// Pieces that lie side by side on both ends are one.
    pub fn collapse(&mut self) {
        if self.count > 1 && self.source_stride == self.unit && self.target_stride == self.unit {
            self.unit *= self.count;
            self.count = 1;
        }
        if self.count == 1 {
            (self.source_stride, self.target_stride) = (self.unit, self.unit);
        }
    }

    /// Whether `next` is the same in the next column of the buffer.
    fn is_next_column(&self, next: &Self) -> bool {
        let columns = self.count > 1 && (1..self.target_stride).contains(&self.source_stride);
        let moved = Self {
            start: next.start,
            target: self.target + self.unit,
            ..*self
        };
        columns && moved == *next
    }

    /// Where piece `i` is, from the run's start, and where it goes.
    fn places(&self, i: usize) -> (usize, usize) {
        (i * self.source_stride, self.target + i * self.target_stride)
    }
}

/// Copies the pieces of `runs` out of bytes that start at `start` in the file.
pub(crate) fn scatter(runs: &[Run], start: u64, bytes: &[u8], out: &mut [u8]) {
    for group in runs.chunk_by(Run::is_next_column) {
        let columns = Columns {
            runs: group,
            start,
            bytes,
        };
        match (group.len(), group.first().map_or(0, |run| run.unit)) {
            (2.., 1) => columns.transpose::<1, 64>(out),
            (2.., 2) => columns.transpose::<2, 32>(out),
            (2.., 4) => columns.transpose::<4, 16>(out),
            (2.., 8) => columns.transpose::<8, 8>(out),
            _ => group.iter().for_each(|run| copy(run, columns.of(run), out)),
        }
    }
}

/// Copies the pieces of one run.
fn copy(run: &Run, source: &[u8], out: &mut [u8]) {
    match run.unit {
        1 => copy_pieces::<1>(run, source, out),
        2 => copy_pieces::<2>(run, source, out),
        4 => copy_pieces::<4>(run, source, out),
        8 => copy_pieces::<8>(run, source, out),
        unit => {
            for i in 0..run.count {
                let (from, to) = run.places(i);
                out[to..to + unit].copy_from_slice(&source[from..from + unit]);
            }
        }
    }
}

/// Copies pieces of a size known to the compiler.
fn copy_pieces<const N: usize>(run: &Run, source: &[u8], out: &mut [u8]) {
    for i in 0..run.count {
        let (from, to) = run.places(i);
        out[to..to + N].copy_from_slice(&source[from..from + N]);
    }
}

/// Runs that are neighbouring columns of the buffer: stored rows of a transposed matrix.
struct Columns<'a> {
    runs: &'a [Run],
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Columns<'a> {
    fn of(&self, run: &Run) -> &'a [u8] {
        &self.bytes[(run.start - self.start) as usize..]
    }

    /// Transposes in blocks of `B` by `B` elements of `N` bytes, a cache line wide: every line on
    /// both sides is touched once, whatever the distance between rows.
    fn transpose<const N: usize, const B: usize>(&self, out: &mut [u8]) {
        let count = self.runs.first().map_or(0, |run| run.count);
        for row in (0..count).step_by(B) {
            let rows = row..count.min(row + B);
            for block in self.runs.chunks(B) {
                self.transpose_block::<N, B>(block, rows.clone(), out);
            }
        }
    }

    fn transpose_block<const N: usize, const B: usize>(
        &self,
        block: &[Run],
        rows: Range<usize>,
        out: &mut [u8],
    ) {
        let mut turned = [[[0; N]; B]; B];
        for (column, run) in block.iter().enumerate() {
            let source = &self.of(run)[rows.start * run.source_stride..];
            if run.source_stride == N {
                let (pieces, _) = source.as_chunks::<N>();
                for (piece, row) in pieces.iter().zip(&mut turned).take(rows.len()) {
                    row[column] = *piece;
                }
            } else {
                let pieces = source.chunks(run.source_stride).zip(&mut turned);
                for (piece, row) in pieces.take(rows.len()) {
                    row[column].copy_from_slice(&piece[..N]);
                }
            }
        }
        let Some(first) = block.first() else { return };
        for (row, line) in rows.zip(&turned) {
            let (_, to) = first.places(row);
            let line = line[..block.len()].as_flattened();
            out[to..to + line.len()].copy_from_slice(line);
        }
    }
}
