//! Reading numbers of coded tensors: which areas of which parts are needed, and where the numbers go.
//!
//! Rows of a view become rectangles of coded tensors. The areas of their parts are read together, about [`BATCH`]
//! bytes at a time, and then decoded, a few rows at a time.

use std::ops::Range;

use sli_kernels::{Isa, Vectorized, Vectors};

use crate::checkpoint::Checkpoint;
use crate::codes::{Coded, Fault, Stored, Wanted};
use crate::error::CheckpointError;
use crate::read_plan::{FileRange, ReadPlan};
use crate::tensors::TensorInfo;
use crate::view::{Tile, View};

/// Bytes of parts that are in memory together, unless a single row has more; a part that all numbers need whole is beside
/// them.
pub(crate) const BATCH: usize = 1 << 20;

/// Numbers that are decoded at a time, unless a single row has more.
pub(crate) const LINES: usize = 8 << 10;

/// Columns that are decoded together where they become rows.
const STRIP: usize = 64;

/// A code or what decodes it is NaN or infinite.
const NO_NUMBER: Fault = Fault {
    part: 0,
    reason: "a code, or what decodes it, is NaN, infinite or zero where it divides",
};

/// Bytes of a decoded number.
const NUMBER: usize = size_of::<f32>();

/// A rectangle of a coded tensor, and where its numbers go.
#[derive(Clone, Debug)]
struct Area<'c> {
    coded: &'c Coded,
    slice: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Of the columns, every so many-th is wanted.
    column_step: usize,
    /// Where the first number goes, and how far from there those of the next row and of the next column that is
    /// wanted; in numbers.
    target: usize,
    row_stride: usize,
    column_stride: usize,
}

/// The bytes of a part that an area needs.
#[derive(Clone, Copy, Debug)]
struct PartArea<'c> {
    info: &'c TensorInfo,
    /// First row and column of the part.
    first: [usize; 2],
    rows: usize,
    /// Bytes of a row of the area.
    row_bytes: usize,
    /// First byte in the file.
    offset: u64,
    /// Bytes in the file from a row to the next.
    stride: u64,
    /// Bytes of an element.
    element: usize,
}

/// Areas that are read together.
#[derive(Debug)]
pub(crate) struct Batch<'c> {
    checkpoint: &'c Checkpoint,
    /// Each with where the first of its parts begins among the bytes; the others follow.
    areas: Vec<(Area<'c>, usize)>,
    bytes: usize,
    plan: ReadPlan,
}

impl<'c> Batch<'c> {
    /// Nothing yet.
    pub fn new(checkpoint: &'c Checkpoint) -> Self {
        Self {
            checkpoint,
            areas: Vec::new(),
            bytes: 0,
            plan: ReadPlan::new(checkpoint),
        }
    }

    /// Adds rows of a view, the first number of which goes to byte `target`. `carry_out` gets every batch that is
    /// full and empties it.
    pub fn add(
        &mut self,
        view: &View,
        rows: Range<usize>,
        target: usize,
        carry_out: &mut dyn FnMut(&mut Self) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        for tile in view.tiles.iter().take_while(|tile| tile.row < rows.end) {
            let first = tile.row.max(rows.start);
            let end = (tile.row + tile.rows).min(rows.end);
            let at = tile.tensor as usize;
            let known = self.checkpoint.tensor_at(at).zip(self.checkpoint.coded(at));
            let (true, Some((_, Ok(coded)))) = (first < end, known) else {
                continue;
            };
            let target = target / NUMBER + (first - rows.start) * view.columns() + tile.column;
            for area in areas(coded, tile, first..end, target, view.columns()) {
                self.add_area(&area, carry_out)?;
            }
        }
        Ok(())
    }

    /// Adds an area in pieces that a batch can hold.
    fn add_area(
        &mut self,
        area: &Area<'c>,
        carry_out: &mut dyn FnMut(&mut Self) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        if let Some((left, right)) = self.halves(area) {
            self.add_area(&left, carry_out)?;
            return self.add_area(&right, carry_out);
        }
        let mut start = area.rows.start;
        while start < area.rows.end {
            let end = start + self.rows_that_fit(area, start);
            let bytes = self.bytes_of(area, start..end);
            if self.bytes > 0 && (self.bytes + bytes > area.most() || self.plan.is_full()) {
                carry_out(self)?;
            }
            let begins = self.bytes;
            for part in area.parts(self.checkpoint, &(start..end)) {
                let tile = part.tile();
                let (rows, to, row) = (0..part.rows, self.bytes, part.row_bytes);
                self.plan
                    .add_tile(part.info.file, &tile, rows, to, part.element, row);
                self.bytes += part.bytes();
            }
            let piece = Area {
                rows: start..end,
                target: area.target + (start - area.rows.start) * area.row_stride,
                ..area.clone()
            };
            self.areas.push((piece, begins));
            start = end;
        }
        Ok(())
    }

    /// How many rows from `start` on a batch can hold: whole blocks, or one row at least.
    fn rows_that_fit(&self, area: &Area<'_>, start: usize) -> usize {
        let most = area.rows.end - start;
        let fits = |rows: usize| self.bytes_of(area, start..start + rows) <= area.most();
        let (mut rows, mut step) = (1, 1);
        while rows < most && fits((rows + step).min(most)) {
            rows = (rows + step).min(most);
            step *= 2;
        }
        while step > 1 {
            step /= 2;
            if rows + step <= most && fits(rows + step) {
                rows += step;
            }
        }
        let [block, _] = area.coded.code.block();
        match (start + rows) / block.max(1) * block.max(1) {
            whole if whole > start && rows < most => whole - start,
            _ => rows,
        }
    }

    /// The left and the right of an area, whose rows are too long to be read or written a few at a time.
    fn halves(&self, area: &Area<'c>) -> Option<(Area<'c>, Area<'c>)> {
        let [high, wide] = area.coded.code.block().map(|side| side.max(1));
        let is_turned = area.column_stride > 1 && area.columns.len() > LINES;
        let rows = area.rows.start..(area.rows.start + high).min(area.rows.end);
        if !is_turned && self.bytes_of(area, rows) <= area.most() {
            return None;
        }
        // The left half ends with a block and before a column that is wanted.
        let step = area.column_step;
        let middle = area.columns.start + area.columns.len() / 2;
        let middle = middle / wide * wide;
        let before = middle.checked_sub(area.columns.start)? / step * step;
        if before == 0 {
            return None;
        }
        let middle = area.columns.start + before;
        let left = Area {
            columns: area.columns.start..middle - step + 1,
            ..area.clone()
        };
        let right = Area {
            columns: middle..area.columns.end,
            target: area.target + before / step * area.column_stride,
            ..area.clone()
        };
        Some((left, right))
    }

    fn bytes_of(&self, area: &Area<'_>, rows: Range<usize>) -> usize {
        let parts = area.parts(self.checkpoint, &rows);
        parts.map(|part| part.bytes()).sum()
    }

    /// The reads of the batch, in file order; empties it.
    pub fn take_reads(&mut self) -> Vec<FileRange> {
        self.areas.clear();
        self.bytes = 0;
        self.plan.take_reads()
    }

    /// Reads the batch, decodes it into `out`, little-endian, and empties it.
    pub fn read(&mut self, out: &mut [u8], buffers: &mut Buffers) -> Result<(), CheckpointError> {
        let Buffers {
            raw,
            scratch,
            lines,
        } = buffers;
        if raw.len() < self.bytes {
            raw.resize(self.bytes, 0);
        }
        self.plan.read(self.checkpoint, raw, scratch)?;
        let (numbers, _) = out.as_chunks_mut::<NUMBER>();
        self.bytes = 0;
        for (area, begins) in self.areas.drain(..) {
            let decoded = area.decode(self.checkpoint, &raw[begins..], lines, numbers);
            decoded.map_err(|fault| self.checkpoint.undecodable(area.coded, fault))?;
        }
        Ok(())
    }
}

/// What reading coded weights holds beside the result. It serves again: [`crate::BoundLeaf::beside`] has its bytes.
#[derive(Debug, Default)]
pub struct Buffers {
    raw: Vec<u8>,
    scratch: Vec<u8>,
    lines: Vec<f32>,
}

/// The rectangles of a tensor that some rows of a tile are.
fn areas<'c>(
    coded: &'c Coded,
    tile: &Tile,
    rows: Range<usize>,
    target: usize,
    out_columns: usize,
) -> Vec<Area<'c>> {
    let [height, width] = coded.sides().map(|side| side as u64);
    let start = tile.offset + (rows.start - tile.row) as u64 * tile.row_stride;
    let (slice, within) = (start / (height * width), start % (height * width));
    let (row, column) = ((within / width) as usize, (within % width) as usize);
    let step = |stride: u64| ((stride / width) as usize).max(1);
    let is_upright = if tile.columns == 1 {
        rows.len() == 1 || tile.row_stride.is_multiple_of(width)
    } else {
        width > 1 && tile.column_stride == 1
    };
    let area = Area {
        coded,
        slice: slice as usize,
        rows: row..row,
        columns: column..column + tile.columns,
        column_step: 1,
        target,
        row_stride: out_columns,
        column_stride: 1,
    };
    let (area, count, step) = if is_upright {
        (area, rows.len(), step(tile.row_stride))
    } else {
        // Transposed: the rows are evenly spaced columns of the tensor, and all between them are decoded.
        let between = (tile.row_stride as usize).max(1);
        let turned = Area {
            columns: column..column + (rows.len() - 1) * between + 1,
            column_step: between,
            row_stride: 1,
            column_stride: out_columns,
            ..area
        };
        (turned, tile.columns, step(tile.column_stride))
    };
    let (runs, length) = if step == 1 { (1, count) } else { (count, 1) };
    let runs = (0..runs).map(|at| Area {
        rows: row + at * step..row + at * step + length,
        target: target + at * area.row_stride,
        ..area.clone()
    });
    runs.collect()
}

impl<'c> Area<'c> {
    /// Bytes of parts that a batch may have together with some of it.
    fn most(&self) -> usize {
        BATCH + self.coded.whole_bytes()
    }

    /// What some of its rows need of every part.
    fn parts(
        &self,
        checkpoint: &'c Checkpoint,
        rows: &Range<usize>,
    ) -> impl Iterator<Item = PartArea<'c>> {
        let parts = self.coded.parts.iter().enumerate();
        parts.filter_map(move |(index, part)| {
            let info = checkpoint.tensor_at(part.tensor as usize)?;
            let (element, [height, width]) = (part.element, part.sides);
            let [rows, columns] = self.coded.code.area(index, rows, &self.columns);
            let first = (self.slice * height + rows.start) * width + columns.start;
            Some(PartArea {
                info,
                first: [rows.start, columns.start],
                rows: rows.len(),
                row_bytes: columns.len() * element,
                offset: info.offset + (first * element) as u64,
                stride: (width * element) as u64,
                element,
            })
        })
    }

    /// Decodes it from the bytes of its parts, one behind the other.
    fn decode(
        &self,
        checkpoint: &Checkpoint,
        raw: &[u8],
        lines: &mut Vec<f32>,
        out: &mut [[u8; NUMBER]],
    ) -> Result<(), Fault> {
        let mut begins = 0;
        let parts = self.parts(checkpoint, &self.rows).map(|part| {
            let at = begins;
            begins += part.bytes();
            (part, at)
        });
        let parts: Vec<(PartArea<'_>, usize)> = parts.collect();
        if !self.is_turned() {
            return self.decode_lines(checkpoint, raw, &parts, lines, out);
        }
        // A strip at a time: what is written together lies together.
        let mut start = self.columns.start;
        while start < self.columns.end {
            let end = ((start / STRIP + 1) * STRIP).min(self.columns.end);
            let strip = Area {
                columns: start..end,
                target: self.target + (start - self.columns.start) * self.column_stride,
                ..self.clone()
            };
            strip.decode_lines(checkpoint, raw, &parts, lines, out)?;
            start = end;
        }
        Ok(())
    }

    /// Decodes rows from the bytes of larger areas of its parts, each of which begins somewhere.
    fn decode_lines(
        &self,
        checkpoint: &Checkpoint,
        raw: &[u8],
        whole: &[(PartArea<'_>, usize)],
        lines: &mut Vec<f32>,
        out: &mut [[u8; NUMBER]],
    ) -> Result<(), Fault> {
        let columns = self.columns.len();
        let together = (LINES / columns.max(1)).max(1);
        let isa = Isa::detect();
        let mut start = self.rows.start;
        while start < self.rows.end {
            let end = (start + together).min(self.rows.end);
            let rows = start..end;
            let some = self.parts(checkpoint, &rows).zip(whole);
            let stored = some.map(|(some, (part, at))| {
                let [down, right] = [0, 1].map(|axis| some.first[axis] - part.first[axis]);
                Stored {
                    bytes: &raw[at + down * part.row_bytes + right * part.element..],
                    stride: part.row_bytes,
                }
            });
            let stored: Vec<Stored<'_>> = stored.collect();
            let code = &self.coded.code;
            let first = self.target + (start - self.rows.start) * self.row_stride;
            let out = &mut out[first..];
            let decode = |out: &mut [f32]| -> Result<(), Fault> {
                let wanted = Wanted {
                    rows: rows.clone(),
                    columns: self.columns.clone(),
                    parts: &stored,
                    out: &mut *out,
                };
                code.decode(isa, wanted)?;
                isa.vectorize(Finite(out))
            };
            if let Some(numbers) = self.in_place(rows.len(), out) {
                decode(numbers)?;
            } else {
                lines.resize(rows.len() * columns, 0.0);
                decode(lines)?;
                self.put(isa, lines, out);
            }
            start = end;
        }
        Ok(())
    }

    /// Whether its columns are rows of the outcome, one behind the other.
    fn is_turned(&self) -> bool {
        self.column_step == 1 && self.row_stride == 1 && self.column_stride > 1
    }

    /// The places of some rows as numbers, where they are those of decoded rows one behind the other.
    fn in_place<'o>(&self, rows: usize, out: &'o mut [[u8; NUMBER]]) -> Option<&'o mut [f32]> {
        let columns = self.columns.len();
        let is_whole = self.column_step == 1 && self.column_stride == 1;
        if !is_whole || self.row_stride != columns || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice_mut(out.get_mut(..rows * columns)?).ok()
    }

    /// Puts decoded lines to their places; the first number goes to the first one.
    fn put(&self, isa: Isa, lines: &[f32], out: &mut [[u8; NUMBER]]) {
        let columns = self.columns.len().max(1);
        if self.column_step == 1 && self.column_stride == 1 {
            for (line, to) in lines
                .chunks_exact(columns)
                .zip((0..).step_by(self.row_stride))
            {
                let pairs = out[to..to + columns].iter_mut().zip(line);
                pairs.for_each(|(to, number)| *to = number.to_le_bytes());
            }
            return;
        }
        if self.is_turned() {
            isa.turn(lines, columns, out, self.column_stride);
            return;
        }
        for (line, to) in lines
            .chunks_exact(columns)
            .zip((0..).step_by(self.row_stride))
        {
            let to = out[to..].iter_mut().step_by(self.column_stride);
            let wanted = line.iter().step_by(self.column_step);
            to.zip(wanted)
                .for_each(|(to, number)| *to = number.to_le_bytes());
        }
    }
}

/// Whether all numbers are such.
struct Finite<'a>(&'a [f32]);

impl Vectorized for Finite<'_> {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) -> Result<(), Fault> {
        // An exponent of ones becomes a carry into the sign.
        let carry = |number: &f32| (number.to_bits() & 0x7f80_0000) + 0x0080_0000;
        let all = self.0.iter().fold(0, |all, number| all | carry(number));
        if all >> 31 == 0 {
            Ok(())
        } else {
            Err(NO_NUMBER)
        }
    }
}

impl PartArea<'_> {
    fn bytes(&self) -> usize {
        self.rows * self.row_bytes
    }

    fn tile(&self) -> Tile {
        Tile {
            row: 0,
            rows: self.rows,
            column: 0,
            columns: self.row_bytes / self.element,
            tensor: 0,
            offset: self.offset,
            row_stride: self.stride,
            column_stride: self.element as u64,
            slice_stride: 0,
        }
    }
}
