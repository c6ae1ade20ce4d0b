//! Reading one logical weight.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use sli_spec::{Elementwise, Source};

use crate::checkpoint::Checkpoint;
use crate::codes::Coded;
use crate::decode::{BATCH, Batch, Buffers, LINES};
use crate::dtype::Float;
use crate::error::CheckpointError;
use crate::ledger::{Changed, ReadRows};
use crate::read_plan::{FileRange, ReadPlan, join};
use crate::sample::first_bytes;
use crate::tensors::FileIndex;
use crate::view::{Core, Slices, View};

/// A logical weight bound to stored tensors.
///
/// It is seen as `slices` matrices of `rows` by `columns`:
///
/// | shape | slices | rows | columns |
/// | --- | --- | --- | --- |
/// | `[n]` | 1 | 1 | n |
/// | `[out, in]` | 1 | out | in |
/// | `[experts, out, in]` | experts | out | in |
///
/// Expert biases `[experts, out]` are one matrix with a row an expert.
#[derive(Clone, Debug)]
pub struct BoundLeaf {
    checkpoint: Arc<Checkpoint>,
    stored: Stored,
    float: Float,
    /// What tells it from all other weights of the model, in every process.
    identity: u64,
}

/// How a weight is stored.
#[derive(Clone, Debug)]
enum Stored {
    /// As floats: the rectangles are in files.
    Plain(Slices),
    /// In a code: the rectangles are in coded tensors.
    Coded(Slices),
}

impl BoundLeaf {
    /// `None`: it is neither floats nor coded.
    pub(crate) fn new(
        checkpoint: &Arc<Checkpoint>,
        base_prefix: &str,
        source: &Source,
        slices: Slices,
    ) -> Option<Self> {
        let text = format!("{source:?} {base_prefix}");
        let (stored, float) = if slices.first.coded {
            (Stored::Coded(slices), Float::F32)
        } else {
            let float = slices.first.dtype.float()?;
            (Stored::Plain(slices), float)
        };
        Some(Self {
            checkpoint: Arc::clone(checkpoint),
            stored,
            float,
            identity: first_bytes(&blake3::hash(text.as_bytes())),
        })
    }

    fn views(&self) -> &Slices {
        let (Stored::Plain(slices) | Stored::Coded(slices)) = &self.stored;
        slices
    }

    /// For messages: the name of the tensor, or of the first of several.
    pub fn name(&self) -> String {
        let first = self.views().first.tensors.first();
        let tensor = first.and_then(|&at| self.checkpoint.tensor_at(at as usize));
        tensor.map_or_else(String::new, |tensor| tensor.name.to_string())
    }

    /// The tensors of a slice, by the names that they are stored under.
    pub fn tensor_names(&self, slice: usize) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let view = self.views().get(slice);
        for tile in &view.tiles {
            let tensor = self.checkpoint.tensor_at(tile.tensor as usize);
            let name = tensor.map(|tensor| tensor.name.to_string());
            names.extend(name.filter(|name| !names.contains(name)));
        }
        names
    }

    /// Logical shape.
    pub fn shape(&self) -> &[usize] {
        &self.views().first.shape
    }

    /// What its numbers are when they are read.
    pub fn float(&self) -> Float {
        self.float
    }

    /// What is to be made of every element. [`Self::read_f32`] does it, raw reads do not.
    pub fn elementwise(&self) -> Option<Elementwise> {
        self.views().first.elementwise
    }

    /// Whether the inputs of products with it are rounded to 8 bits a row, which its code makes part of the model.
    pub fn rounds_inputs(&self) -> bool {
        let tensors = self.views().first.tensors.iter();
        let mut coded = tensors.filter_map(|&at| self.checkpoint.coded(at as usize));
        coded.any(|coded| {
            let coded = coded.as_ref();
            coded.is_ok_and(|coded| coded.code.rounds_inputs())
        })
    }

    /// Product of the axes in front of the last two.
    pub fn slices(&self) -> usize {
        match self.views().first.core {
            Core::Vector => 1,
            Core::Matrix => self.views().first.slices(),
        }
    }

    /// Rows of a slice: the second axis from the end; 1 for a vector.
    pub fn rows(&self) -> usize {
        self.shape().iter().rev().nth(1).copied().unwrap_or(1)
    }

    /// Elements of a row: the last axis.
    pub fn columns(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.columns().saturating_mul(self.float.size())
    }

    /// Bytes that a row takes where it is stored, without what decodes it.
    fn stored_row(&self) -> usize {
        match &self.stored {
            Stored::Plain(_) => self.row_bytes(),
            Stored::Coded(slices) => {
                let first = slices.first.tensors.first();
                let bytes = first.map_or(0, |&at| {
                    self.checkpoint.bytes_of_numbers(at, self.columns())
                });
                bytes as usize
            }
        }
    }

    /// Stored bytes of all elements of all slices.
    pub fn total_bytes(&self) -> u64 {
        let slice = match &self.stored {
            Stored::Plain(_) => (self.row_bytes() as u64).saturating_mul(self.rows() as u64),
            Stored::Coded(_) => self.stored_bytes(0..self.rows()),
        };
        slice.saturating_mul(self.slices() as u64)
    }

    /// Bytes of what all its numbers need, of the tensor that has most of it.
    fn whole_bytes(&self) -> usize {
        let Stored::Coded(slices) = &self.stored else {
            return 0;
        };
        let coded = |&at: &u32| self.checkpoint.coded(at as usize)?.as_ref().ok();
        let whole = slices
            .first
            .tensors
            .iter()
            .filter_map(coded)
            .map(Coded::whole_bytes);
        whole.max().unwrap_or(0)
    }

    /// Bytes of memory that reading so many rows takes beside them.
    pub fn beside(&self, rows: usize) -> usize {
        match &self.stored {
            Stored::Plain(_) => 0,
            Stored::Coded(_) => {
                let row = self.columns().max(1);
                let lines = LINES.max(row).min(rows * row) * size_of::<f32>();
                BATCH.max(2 * row).min(2 * rows * row) + lines + self.whole_bytes()
            }
        }
    }

    /// Bytes that reading these rows of a slice takes from the files: their own and those of the
    /// gaps that are read through.
    pub fn stored_bytes(&self, rows: Range<usize>) -> u64 {
        let reads = self.reads(0, rows).unwrap_or_default();
        let sizes = reads.iter().map(|read| read.bytes.end - read.bytes.start);
        sizes.sum()
    }

    /// Whether numbers that are NaN or infinite are errors of reading already.
    pub fn is_finite(&self) -> bool {
        matches!(self.stored, Stored::Coded(_))
    }

    /// Reads rows of a slice into `out`, row-major, elements as stored (little-endian).
    ///
    /// # Errors
    /// Besides those of reading: rows that are not there, `out` of another size than the rows.
    pub fn read_rows(
        &self,
        slice: usize,
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        Self::read_rows_together(&[self], slice, rows, out, &mut Buffers::default())
    }

    /// Reads the same rows of a slice of several weights of one checkpoint into `out`, one weight
    /// behind the other. Weights that lie between one another in a file ([`Self::overlaps`]) are
    /// read in one go.
    ///
    /// # Errors
    /// As [`Self::read_rows`].
    pub fn read_rows_together(
        leaves: &[&Self],
        slice: usize,
        rows: Range<usize>,
        out: &mut [u8],
        buffers: &mut Buffers,
    ) -> Result<(), CheckpointError> {
        let Some(first) = leaves.first() else {
            return Ok(());
        };
        let wanted = leaves.iter().map(|leaf| leaf.check(slice, &rows));
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        first.check_buffer(wanted.iter().sum(), out)?;
        if leaves.iter().any(|leaf| leaf.views().first.has_holes) {
            out.fill(0);
        }
        let mut scratch = Vec::new();
        let mut plan = ReadPlan::new(&first.checkpoint);
        let mut start = 0;
        for (leaf, bytes) in leaves.iter().zip(wanted) {
            if let Stored::Coded(_) = leaf.stored {
                let out = &mut out[start..start + bytes];
                leaf.decode_rows(slice, rows.clone(), out, buffers)?;
                start += bytes;
                continue;
            }
            for piece in leaf.pieces(slice, rows.clone()) {
                let target = start + piece.target;
                plan.add(&first.checkpoint, &piece.view, piece.rows, target);
                if plan.is_full() {
                    plan.read(&first.checkpoint, out, &mut scratch)?;
                }
            }
            start += bytes;
        }
        plan.read(&first.checkpoint, out, &mut scratch)?;
        let mut rest = &*out;
        for leaf in leaves {
            let (bytes, after) = rest.split_at(rows.len() * leaf.row_bytes());
            leaf.enter(slice, &rows, bytes)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads and decodes rows of a slice.
    fn decode_rows(
        &self,
        slice: usize,
        rows: Range<usize>,
        out: &mut [u8],
        buffers: &mut Buffers,
    ) -> Result<(), CheckpointError> {
        if rows.start == 0 && rows.end < self.rows() {
            self.announce_strips();
        }
        self.batches(slice, [(rows, 0)], |batch| batch.read(out, buffers))
    }

    /// Tells the source that all of a matrix is read next of which some rows take a strip of every stored row.
    fn announce_strips(&self) {
        let tensors = &self.views().first.tensors;
        let coded = |&at: &u32| self.checkpoint.coded(at as usize)?.as_ref().ok();
        // Of stacked ones, each is read by itself.
        if self.slices() > 1 || !tensors.iter().filter_map(coded).any(|coded| coded.turned) {
            return;
        }
        let infos = tensors
            .iter()
            .filter_map(|&at| self.checkpoint.tensor_at(at as usize));
        for info in infos {
            let range = info.offset..info.offset + info.bytes;
            self.checkpoint.advise_soon(info.file, range);
        }
    }

    /// Hands the batches that put rows of a slice to their places, in bytes, to `carry_out`, which empties them.
    fn batches(
        &self,
        slice: usize,
        wanted: impl IntoIterator<Item = (Range<usize>, usize)>,
        mut carry_out: impl FnMut(&mut Batch<'_>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let whole = self.matrix(slice);
        let mut batch = Batch::new(&self.checkpoint);
        for (rows, target) in wanted {
            if let Some(view) = &whole {
                batch.add(view, rows, target, &mut carry_out)?;
                continue;
            }
            // A vector is seen as a single row, and is a column.
            for (place, row) in rows.enumerate() {
                let view = self.views().get(row);
                let (elements, target) = (0..view.rows(), target + place * self.row_bytes());
                batch.add(&view, elements, target, &mut carry_out)?;
            }
        }
        carry_out(&mut batch)
    }

    /// Enters rows that were read in the ledger, where one is kept.
    fn enter(
        &self,
        slice: usize,
        rows: &Range<usize>,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        let Some(ledger) = self.checkpoint.ledger() else {
            return Ok(());
        };
        let read = ReadRows {
            weight: (self.identity, slice),
            total: self.rows(),
            rows: rows.clone(),
            stored_row: self.stored_row(),
            bytes,
        };
        ledger.read(&read).map_err(|Changed| self.changed(slice))
    }

    /// Adds a hash of all its values, as they were read, to `into`; `None` if not all were read.
    pub fn fold_read(&self, into: &mut blake3::Hasher) -> Option<()> {
        let ledger = self.checkpoint.ledger()?;
        let (rows, row) = (self.rows(), self.stored_row());
        (0..self.slices())
            .try_for_each(|slice| ledger.fold((self.identity, slice), rows, row, into))
    }

    fn changed(&self, slice: usize) -> CheckpointError {
        let file = self.position(slice).map_or_else(
            |_| String::new(),
            |(file, _)| self.checkpoint.file_name(file).to_owned(),
        );
        CheckpointError::Changed {
            place: self.checkpoint.place(),
            file,
            tensor: self.name(),
        }
    }

    /// Whether reading one of the two takes bytes of the other, as with two matrices whose columns
    /// alternate in a tensor.
    pub fn overlaps(&self, other: &Self) -> Result<bool, CheckpointError> {
        let (Stored::Plain(_), Stored::Plain(_)) = (&self.stored, &other.stored) else {
            // Each is decoded from its own areas.
            return Ok(false);
        };
        let (a, b) = (
            self.byte_ranges(0, 0..self.rows())?,
            other.byte_ranges(0, 0..other.rows())?,
        );
        // Both are sorted: the first range of `b` that ends behind the start of a range of `a`.
        Ok(a.iter().any(|a| {
            let near = b.partition_point(|b| (b.file, b.bytes.end) <= (a.file, a.bytes.start));
            b.get(near)
                .is_some_and(|b| b.file == a.file && b.bytes.start < a.bytes.end)
        }))
    }

    /// Reads rows of a slice in any order into `out`, one after another: the rows of a token table
    /// that a batch needs. Neighbours are read together; a row may occur again.
    pub fn gather_rows(
        &self,
        slice: usize,
        rows: &[usize],
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        self.check_buffer(rows.len().saturating_mul(self.row_bytes()), out)?;
        if self.views().first.has_holes {
            out.fill(0);
        }
        match &self.stored {
            Stored::Plain(_) => {
                let mut scratch = Vec::new();
                self.gather_plans(slice, rows, |plan| {
                    plan.read(&self.checkpoint, out, &mut scratch)
                })?;
            }
            Stored::Coded(_) => {
                let mut buffers = Buffers::default();
                let wanted = self.in_order(slice, rows)?;
                self.batches(slice, wanted, |batch| batch.read(out, &mut buffers))?;
            }
        }
        match self.checkpoint.ledger() {
            Some(ledger) if !rows.is_empty() => ledger
                .looked_up((self.identity, slice), self.rows(), rows, out)
                .map_err(|Changed| self.changed(slice)),
            _ => Ok(()),
        }
    }

    /// Bytes that [`Self::gather_rows`] reads.
    pub fn gathered_bytes(&self, slice: usize, rows: &[usize]) -> Result<u64, CheckpointError> {
        let mut bytes = 0;
        let mut count = |reads: Vec<FileRange>| {
            let sizes = reads.iter().map(|read| read.bytes.end - read.bytes.start);
            bytes += sizes.sum::<u64>();
            Ok(())
        };
        match &self.stored {
            Stored::Plain(_) => self.gather_plans(slice, rows, |plan| count(plan.take_reads()))?,
            Stored::Coded(_) => {
                let wanted = self.in_order(slice, rows)?;
                self.batches(slice, wanted, |batch| count(batch.take_reads()))?;
            }
        }
        Ok(bytes)
    }

    /// Rows of a slice, that are there, in order, each with the byte that its place in a buffer begins with.
    fn in_order(
        &self,
        slice: usize,
        rows: &[usize],
    ) -> Result<Vec<(Range<usize>, usize)>, CheckpointError> {
        let row_bytes = self.row_bytes();
        let mut order: Vec<(usize, usize)> = rows.iter().copied().zip(0..).collect();
        order.sort_unstable();
        if let (Some(first), Some(last)) = (order.first(), order.last()) {
            self.check(slice, &(first.0..last.0.saturating_add(1)))?;
        }
        let places = order.into_iter();
        let places = places.map(|(row, place)| (row..row + 1, place * row_bytes));
        Ok(places.collect())
    }

    /// Hands the plans that put these rows of a slice one after another to `carry_out`, which empties
    /// them.
    fn gather_plans(
        &self,
        slice: usize,
        rows: &[usize],
        mut carry_out: impl FnMut(&mut ReadPlan) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut plan = ReadPlan::new(&self.checkpoint);
        let wanted = self.in_order(slice, rows)?;
        let whole = self.matrix(slice);
        for (rows, target) in wanted {
            if let Some(view) = &whole {
                plan.add(&self.checkpoint, view, rows, target);
            } else {
                for piece in self.pieces(slice, rows) {
                    plan.add(&self.checkpoint, &piece.view, piece.rows, target);
                }
            }
            if plan.is_full() {
                carry_out(&mut plan)?;
            }
        }
        carry_out(&mut plan)
    }

    /// What [`Self::read_rows`] reads, in file order; touching ranges are joined.
    pub fn byte_ranges(
        &self,
        slice: usize,
        rows: Range<usize>,
    ) -> Result<Vec<FileRange>, CheckpointError> {
        self.reads(slice, rows).map(join)
    }

    /// The reads of [`Self::read_rows`], one by one.
    fn reads(&self, slice: usize, rows: Range<usize>) -> Result<Vec<FileRange>, CheckpointError> {
        self.check(slice, &rows)?;
        let mut reads = Vec::new();
        if let Stored::Coded(_) = self.stored {
            self.batches(slice, [(rows, 0)], |batch| {
                reads.extend(batch.take_reads());
                Ok(())
            })?;
            return Ok(reads);
        }
        let mut plan = ReadPlan::new(&self.checkpoint);
        for piece in self.pieces(slice, rows) {
            plan.add(&self.checkpoint, &piece.view, piece.rows, piece.target);
            if plan.is_full() {
                reads.extend(plan.take_reads());
            }
        }
        reads.extend(plan.take_reads());
        Ok(reads)
    }

    /// Where in its file the first byte of a row of a slice is.
    pub fn offset(&self, slice: usize, row: usize) -> Result<u64, CheckpointError> {
        let reads = self.reads(slice, row..row + 1)?;
        Ok(reads.first().map_or(0, |read| read.bytes.start))
    }

    /// Where a slice begins: its first file and byte there. For reading slices in file order.
    pub fn position(&self, slice: usize) -> Result<(FileIndex, u64), CheckpointError> {
        self.check(slice, &(0..0))?;
        let view = match self.views().first.core {
            Core::Vector => self.views().get(0),
            Core::Matrix => self.views().get(slice),
        };
        let places = view.tiles.iter().filter_map(|tile| {
            let info = self.checkpoint.tensor_at(tile.tensor as usize)?;
            let offset = match &self.stored {
                Stored::Plain(_) => tile.offset,
                // Its place in the tensor, about.
                Stored::Coded(_) => {
                    let numbers = usize::try_from(tile.offset).unwrap_or(usize::MAX);
                    info.offset + self.checkpoint.bytes_of_numbers(tile.tensor, numbers)
                }
            };
            Some((info.file, offset))
        });
        Ok(places.min().unwrap_or((FileIndex(0), 0)))
    }

    /// Rows of a slice as `f32`, after what the weight's source makes of every number. Floats of 64 bits are
    /// rounded.
    pub fn read_f32(&self, slice: usize, rows: Range<usize>) -> Result<Vec<f32>, CheckpointError> {
        let wanted = self.check(slice, &rows)?;
        // The rows are in files of at least as many bytes: every stored byte is used once, save
        // where an expression names a tensor several times.
        let mut bytes = vec![0; wanted];
        self.read_rows(slice, rows, &mut bytes)?;
        let mut values = self.float.to_f32(&bytes);
        if let Some(by) = self.elementwise() {
            for value in &mut values {
                *value = by.of(*value);
            }
        }
        Ok(values)
    }

    /// All slices as `f32`, one after another.
    pub fn read_all_f32(&self) -> Result<Vec<f32>, CheckpointError> {
        let mut all = Vec::new();
        for slice in 0..self.slices() {
            let values = self.read_f32(slice, 0..self.rows())?;
            if all.is_empty() {
                all = values;
            } else {
                all.extend(values);
            }
        }
        Ok(all)
    }

    /// The checkpoint it reads from.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// These rows are read next.
    pub fn advise_soon(&self, slice: usize, rows: Range<usize>) -> Result<(), CheckpointError> {
        for range in self.byte_ranges(slice, rows)? {
            self.checkpoint.advise_soon(range.file, range.bytes);
        }
        Ok(())
    }

    /// Tells the source that a slice will not be read again soon.
    pub fn advise_done(&self, slice: usize) {
        for range in self.byte_ranges(slice, 0..self.rows()).unwrap_or_default() {
            self.checkpoint.advise_done(range.file, range.bytes);
        }
    }

    /// Bytes of rows that are there.
    fn check(&self, slice: usize, rows: &Range<usize>) -> Result<usize, CheckpointError> {
        if slice >= self.slices() || rows.start > rows.end || rows.end > self.rows() {
            return Err(CheckpointError::OutOfRange {
                weight: self.name(),
                slice,
                start: rows.start,
                end: rows.end,
                slices: self.slices(),
                rows: self.rows(),
            });
        }
        Ok(rows.len().saturating_mul(self.row_bytes()))
    }

    fn check_buffer(&self, wanted: usize, out: &[u8]) -> Result<(), CheckpointError> {
        if out.len() == wanted {
            return Ok(());
        }
        Err(CheckpointError::BufferSize {
            weight: self.name(),
            wanted,
            got: out.len(),
        })
    }

    /// The view of a slice, where all its rows are in one.
    fn matrix(&self, slice: usize) -> Option<Cow<'_, View>> {
        match self.views().first.core {
            Core::Vector => None,
            Core::Matrix => Some(self.views().get(slice)),
        }
    }

    /// Views that together hold the rows of a slice, in pieces that a plan can hold.
    fn pieces(&self, slice: usize, rows: Range<usize>) -> Vec<Piece<'_>> {
        let row_bytes = self.row_bytes();
        let first = rows.start;
        let target = |row: usize| (row - first).saturating_mul(row_bytes);
        if let Some(view) = self.matrix(slice) {
            let windows = ReadPlan::windows(&view, rows).into_iter();
            return windows
                .map(|rows| Piece {
                    view: view.clone(),
                    target: target(rows.start),
                    rows,
                })
                .collect();
        }
        // A matrix whose rows are vectors of their own, or one vector as a single row.
        rows.map(|row| {
            let view = self.views().get(row);
            Piece {
                rows: 0..view.rows(),
                view,
                target: target(row),
            }
        })
        .collect()
    }
}

/// Rows of a view and where they go.
struct Piece<'a> {
    view: Cow<'a, View>,
    rows: Range<usize>,
    target: usize,
}
