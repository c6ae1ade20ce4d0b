//! One tensor a record, in safetensors files.
//!
//! The shapes are known before the run, so the header is written first and every value has its place from the
//! start: values may come in any order, each once after the last checkpoint, and the file is the same. Until the
//! run is complete the file is `.sli/<name>.partial`, at its full size; then its header and the sum of its values
//! are compared with what was written, by this process and the interrupted ones before it.
//!
//! A file holds at most 100,000 records and 4 GiB; what is more goes on in the next part, and the parts are
//! `<name>.part-<K>.safetensors` with K from 0. A single record of more than 4 GiB has a part to itself.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::ResultsError;
use super::cells::CellSum;
use crate::durable::{Disk, DiskError, DiskFile};
use crate::fingerprint;
use crate::floats;
use crate::journal::{Durable, Mark, OutputFolder, partial_path};
use crate::records::RecordSpool;
use crate::settings::HiddenDtype;

/// What `safetensors` calls the origin of the tensors; readers for PyTorch look for it.
const METADATA: &str = r#"{"__metadata__":{"format":"pt"}"#;

/// The tensors of a [`TensorFile`]: `[rows_per_token * tokens, cols]` for each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// 1, or the number of residual streams.
    pub rows_per_token: usize,
    /// Values a row.
    pub cols: usize,
    /// How they are stored.
    pub dtype: HiddenDtype,
}

/// A type of values, as files name it.
pub(super) fn dtype_name(dtype: HiddenDtype) -> &'static str {
    match dtype {
        HiddenDtype::F32 => "F32",
        HiddenDtype::Bf16 => "BF16",
        HiddenDtype::F16 => "F16",
    }
}

const EXTENSION: &str = ".safetensors";
const PART: &str = ".part-";

/// The file of the tensors `name`, or of one of its parts.
pub(crate) fn file_name(name: &str, part: Option<usize>) -> String {
    let part = part.map_or_else(String::new, |part| format!("{PART}{part}"));
    format!("{name}{part}{EXTENSION}")
}

/// The name of the tensors that a file is of, or is a part of.
pub(crate) fn name_of_file(file: &str) -> Option<&str> {
    let name = file.strip_suffix(EXTENSION)?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    Some(match name.rsplit_once(PART) {
        Some((whole, number)) if is_number(number) => whole,
        _ => name,
    })
}

impl TensorShape {
    /// The least magnitude that becomes infinite when it is rounded to the nearest value of the type;
    /// `None` where nothing is rounded.
    fn rounds_to_infinity(&self) -> Option<f32> {
        match self.dtype {
            HiddenDtype::F32 => None,
            HiddenDtype::F16 => Some(65_520.0),
            HiddenDtype::Bf16 => Some(f32::from_bits(0x7f7f_8000)),
        }
    }

    fn element(&self) -> usize {
        match self.dtype {
            HiddenDtype::F32 => 4,
            HiddenDtype::Bf16 | HiddenDtype::F16 => 2,
        }
    }

    pub(super) fn row_bytes(&self) -> u64 {
        (self.cols * self.element()) as u64
    }
}

/// When a file is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub records: usize,
    pub bytes: u64,
    /// Readers refuse headers of more than 100 MB.
    pub header: u64,
}

pub(super) const LIMITS: Limits = Limits {
    records: 100_000,
    bytes: 4 << 30,
    header: 90_000_000,
};

/// The tensors of one place in the model, a record each.
pub struct TensorFile {
    /// As in [`Self::open`].
    name: String,
    writer: Arc<PartWriter>,
    records: RecordSpool,
}

/// One file.
#[derive(Debug)]
pub(super) struct FilePart {
    pub(super) records: Range<usize>,
    /// Rows of all records before the part, and before its end.
    pub(super) rows: Range<u64>,
    /// Where the data begin.
    pub(super) data: u64,
    /// Length of the file.
    pub(super) bytes: u64,
    name: String,
    partial: PathBuf,
    /// Whether an earlier process moved it to the output folder already.
    published: bool,
}

struct PartWriter {
    disk: Disk,
    shape: TensorShape,
    parts: Vec<FilePart>,
    /// Of all values written so far.
    sum: CellSum,
    /// Parts written to since the last checkpoint.
    open: Mutex<BTreeMap<usize, Arc<DiskFile>>>,
}

impl TensorFile {
    /// Creates the tensors of all records under `name` (`hidden/decoder.004`, without the ending), or goes on
    /// with those of the last checkpoint. Takes all the space they need, so a disk that is too small shows now.
    pub fn open(
        folder: &OutputFolder,
        records: &RecordSpool,
        name: &str,
        shape: TensorShape,
    ) -> Result<Self, ResultsError> {
        Self::open_limited(folder, records, name, shape, LIMITS)
    }

    pub(super) fn open_limited(
        folder: &OutputFolder,
        records: &RecordSpool,
        name: &str,
        shape: TensorShape,
        limits: Limits,
    ) -> Result<Self, ResultsError> {
        let mut parts = layout(records, &shape, limits)?;
        let single = parts.len() == 1;
        for (index, part) in parts.iter_mut().enumerate() {
            part.name = file_name(name, (!single).then_some(index));
            part.partial = partial_path(folder.work_dir(), &part.name);
        }
        let mark = folder.mark(name);
        let damaged = || ResultsError::Damaged {
            path: partial_path(folder.work_dir(), name),
            problem: "the state of the interrupted run has no sum of its values".into(),
        };
        let sum = match &mark {
            Some(mark) => CellSum::resume(&mark.digest).ok_or_else(damaged)?,
            None => CellSum::default(),
        };
        for part in &mut parts {
            if mark.is_some() {
                part.published = part.find(folder)?;
            } else {
                part.create(folder.disk(), records, &shape)?;
            }
        }
        let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
        let open = Mutex::default();
        let writer = Arc::new(PartWriter {
            disk: folder.disk().clone(),
            shape,
            parts,
            sum,
            open,
        });
        folder.register(name, Arc::clone(&writer) as Arc<dyn Durable>, names);
        Ok(Self {
            name: name.to_owned(),
            writer,
            records: records.clone(),
        })
    }

    /// Writes whole rows `[n, cols]`, beginning with row `first_row` of `record`.
    ///
    /// With one row a token they may run on into the records that follow, so that a packed super-batch is one
    /// call. Several threads may write at once.
    pub fn write_rows(
        &self,
        record: usize,
        first_row: usize,
        values: &[f32],
    ) -> Result<(), ResultsError> {
        let writer = &*self.writer;
        let cols = writer.shape.cols;
        debug_assert!(values.len().is_multiple_of(cols), "whole rows");
        self.check(self.row(record, first_row), 0..cols, values)?;
        let mut row = self.row(record, first_row);
        let mut values = values;
        while !values.is_empty() {
            let (index, part) = writer.part(row)?;
            let count = ((part.rows.end - row) as usize).min(values.len() / cols);
            let (here, rest) = values.split_at(count * cols);
            let offset = part.data + (row - part.rows.start) * writer.shape.row_bytes();
            writer.write(index, offset, here)?;
            row += count as u64;
            values = rest;
        }
        Ok(())
    }

    /// Writes some columns of consecutive rows: `values` is `[n, columns.len()]`; else as [`Self::write_rows`].
    pub fn write_columns(
        &self,
        record: usize,
        first_row: usize,
        columns: Range<usize>,
        values: &[f32],
    ) -> Result<(), ResultsError> {
        let writer = &*self.writer;
        if columns == (0..writer.shape.cols) {
            return self.write_rows(record, first_row, values);
        }
        let row_bytes = writer.shape.row_bytes();
        let skipped = row_bytes / writer.shape.cols as u64 * columns.start as u64;
        let first = self.row(record, first_row);
        self.check(first, columns.clone(), values)?;
        for (row, values) in (first..).zip(values.chunks_exact(columns.len())) {
            let (index, part) = writer.part(row)?;
            let offset = part.data + (row - part.rows.start) * row_bytes + skipped;
            writer.write(index, offset, values)?;
        }
        Ok(())
    }

    /// That every finite value of some rows from `first` on stays finite in the file's type.
    fn check(&self, first: u64, columns: Range<usize>, values: &[f32]) -> Result<(), ResultsError> {
        let shape = &self.writer.shape;
        let Some(beyond) = shape.rounds_to_infinity() else {
            return Ok(());
        };
        let is_beyond = |value: &f32| value.abs() >= beyond && value.is_finite();
        // All at once, as almost always there is none.
        if !values
            .iter()
            .fold(false, |any, value| any | is_beyond(value))
        {
            return Ok(());
        }
        let Some(at) = values.iter().position(is_beyond) else {
            return Ok(());
        };
        let row = first + (at / columns.len().max(1)) as u64;
        let per_token = shape.rows_per_token as u64;
        let record = self.records.record_of(row / per_token);
        let own = row - self.records.token_start(record) * per_token;
        let ids = self.records.ids(record..record + 1)?;
        let (dtype, largest) = match shape.dtype {
            HiddenDtype::F32 => ("f32", f32::MAX),
            HiddenDtype::Bf16 => ("bf16", bf16::MAX.to_f32()),
            HiddenDtype::F16 => ("f16", f16::MAX.to_f32()),
        };
        Err(ResultsError::Overflow {
            id: ids.concat(),
            token: own as usize % self.records.tokens_of(record).max(1),
            column: columns.start + at % columns.len().max(1),
            place: place_name(&self.name),
            value: values.get(at).copied().unwrap_or_default(),
            dtype,
            largest,
        })
    }

    /// The number of a row among those of all records.
    fn row(&self, record: usize, row: usize) -> u64 {
        let per_token = self.writer.shape.rows_per_token as u64;
        self.records.token_start(record) * per_token + row as u64
    }

    /// Gives the files their names in the output folder, once they are known to hold what was written.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        self.writer.make_durable()?;
        let found = CellSum::default();
        for part in &self.writer.parts {
            let hash = part.read(&self.records, &self.writer.shape, folder, &found)?;
            folder.publish(&part.partial, &part.name, hash)?;
        }
        if found.digest() == self.writer.sum.digest() {
            return Ok(());
        }
        Err(ResultsError::Damaged {
            path: folder.path().join(format!("{}*.safetensors", self.name)),
            problem: "values in it are not what was written: it was changed while the run was interrupted"
                .into(),
        })
    }
}

impl PartWriter {
    fn part(&self, row: u64) -> Result<(usize, &FilePart), ResultsError> {
        let index = self.parts.partition_point(|part| part.rows.end <= row);
        match self.parts.get(index) {
            Some(part) if !part.published => Ok((index, part)),
            Some(part) => Err(ResultsError::Damaged {
                path: part.partial.clone(),
                problem: "it is complete and was moved, but the state says otherwise".into(),
            }),
            None => Err(ResultsError::Damaged {
                path: self
                    .parts
                    .last()
                    .map(|part| part.partial.clone())
                    .unwrap_or_default(),
                problem: format!("there is no row {row}"),
            }),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<DiskFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, index: usize) -> Result<Arc<DiskFile>, DiskError> {
        let mut open = self.open();
        if let Some(file) = open.get(&index) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.disk.open(&self.parts[index].partial)?);
        open.insert(index, Arc::clone(&file));
        Ok(file)
    }

    /// Stores consecutive values in the file's type.
    fn write(&self, index: usize, mut offset: u64, values: &[f32]) -> Result<(), ResultsError> {
        const PIECE: usize = 1 << 14;
        let file = self.file(index)?;
        let size = self.shape.element();
        let mut element = self
            .parts
            .get(index)
            .map_or(0, |part| part.element(offset, &self.shape));
        if self.shape.dtype == HiddenDtype::F32 && cfg!(target_endian = "little") {
            let bytes = bytemuck::cast_slice(values);
            file.write_all_at(bytes, offset)?;
            self.sum.add(element, size, bytes);
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(PIECE * 4);
        let mut halves = vec![0_u16; PIECE.min(values.len())];
        for piece in values.chunks(PIECE) {
            bytes.clear();
            let halves = &mut halves[..piece.len()];
            match self.shape.dtype {
                HiddenDtype::F32 => floats::write(piece, &mut bytes),
                HiddenDtype::Bf16 => {
                    bytemuck::cast_slice_mut::<u16, bf16>(halves).convert_from_f32_slice(piece);
                    bytes.extend(halves.iter().flat_map(|v| v.to_le_bytes()));
                }
                HiddenDtype::F16 => {
                    bytemuck::cast_slice_mut::<u16, f16>(halves).convert_from_f32_slice(piece);
                    bytes.extend(halves.iter().flat_map(|v| v.to_le_bytes()));
                }
            }
            file.write_all_at(&bytes, offset)?;
            self.sum.add(element, size, &bytes);
            element += piece.len() as u64;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Durable for PartWriter {
    fn make_durable(&self) -> Result<Mark, DiskError> {
        let mut open = self.open();
        for file in open.values() {
            file.sync()?;
        }
        open.clear();
        Ok(Mark {
            length: self.parts.iter().map(|part| part.bytes).sum(),
            digest: self.sum.digest(),
        })
    }
}

/// What the tensors `hidden/STACK.NNN` are, in words.
fn place_name(name: &str) -> String {
    let Some((stack, part)) = name.trim_start_matches("hidden/").rsplit_once('.') else {
        return name.to_owned();
    };
    match part.parse::<usize>() {
        Ok(0) => format!("what enters the first layer of the {stack} (layer 0 of `hidden`)"),
        Ok(layer) => format!("the output of layer {layer} of the {stack}"),
        Err(_) => format!("the normed end of the {stack}"),
    }
}

/// Divides the records over files.
pub(super) fn layout(
    records: &RecordSpool,
    shape: &TensorShape,
    limits: Limits,
) -> Result<Vec<FilePart>, ResultsError> {
    let rows_before = |record: usize| records.token_start(record) * shape.rows_per_token as u64;
    let mut parts: Vec<FilePart> = Vec::new();
    let mut first = 0;
    // Bytes of the header up to the record at hand, without the closing brace.
    let mut header = METADATA.len() as u64;
    let close = |first: usize, end: usize, header: u64| {
        let rows = rows_before(first)..rows_before(end);
        let data = 8 + (header + 1).next_multiple_of(8);
        let bytes = data + (rows.end - rows.start) * shape.row_bytes();
        FilePart {
            records: first..end,
            rows,
            data,
            bytes,
            name: String::new(),
            partial: PathBuf::new(),
            published: false,
        }
    };
    let mut entry = Vec::new();
    records.for_each_id::<ResultsError>(0..records.len(), |record, id| {
        let mut length = entry_length(&mut entry, id, shape, records, first, record)?;
        let with_it = close(first, record + 1, header + length);
        let full = record - first == limits.records
            || with_it.bytes > limits.bytes
            || with_it.data > limits.header;
        if full && record > first {
            parts.push(close(first, record, header));
            first = record;
            header = METADATA.len() as u64;
            length = entry_length(&mut entry, id, shape, records, first, record)?;
        }
        header += length;
        Ok(())
    })?;
    parts.push(close(first, records.len(), header));
    Ok(parts)
}

fn entry_length(
    buffer: &mut Vec<u8>,
    id: &str,
    shape: &TensorShape,
    records: &RecordSpool,
    first: usize,
    record: usize,
) -> Result<u64, ResultsError> {
    buffer.clear();
    write_entry(buffer, id, shape, records, first, record).map_err(DiskError::from)?;
    Ok(buffer.len() as u64)
}

/// `,"id":{"dtype":..,"shape":[..],"data_offsets":[..]}` for a record of the part that begins with `first`.
fn write_entry(
    out: &mut impl Write,
    id: &str,
    shape: &TensorShape,
    records: &RecordSpool,
    first: usize,
    record: usize,
) -> std::io::Result<()> {
    let before = |record: usize| {
        let tokens = records.token_start(record) - records.token_start(first);
        tokens * shape.rows_per_token as u64 * shape.row_bytes()
    };
    let rows = records.tokens_of(record) * shape.rows_per_token;
    out.write_all(b",")?;
    serde_json::to_writer(&mut *out, id)?;
    write!(
        out,
        r#":{{"dtype":"{}","shape":[{rows},{}],"data_offsets":[{},{}]}}"#,
        dtype_name(shape.dtype),
        shape.cols,
        before(record),
        before(record + 1)
    )
}

impl FilePart {
    /// Makes the file at its full size, with its header.
    fn create(
        &self,
        disk: &Disk,
        records: &RecordSpool,
        shape: &TensorShape,
    ) -> Result<(), ResultsError> {
        let file = disk.create(&self.partial)?;
        if let Err(error) = file.reserve(self.bytes) {
            // What was taken may be all that was left.
            let _ = disk.remove_file(&self.partial);
            return Err(error.into());
        }
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        self.write_header(&mut writer, records, shape)?;
        let file = writer
            .into_inner()
            .map_err(|error| DiskError::from(error.into_error()))?;
        Ok(file.sync()?)
    }

    /// Everything before the values.
    pub(super) fn write_header(
        &self,
        out: &mut impl Write,
        records: &RecordSpool,
        shape: &TensorShape,
    ) -> Result<(), ResultsError> {
        let header = self.data - 8;
        let put = |outcome: std::io::Result<()>| outcome.map_err(DiskError::from);
        put(out.write_all(&header.to_le_bytes()))?;
        put(out.write_all(METADATA.as_bytes()))?;
        let mut entry = Vec::new();
        let mut written = METADATA.len() as u64;
        records.for_each_id::<ResultsError>(self.records.clone(), |record, id| {
            written += entry_length(&mut entry, id, shape, records, self.records.start, record)?;
            Ok(put(out.write_all(&entry))?)
        })?;
        put(out.write_all(b"}"))?;
        for _ in written + 1..header {
            put(out.write_all(b" "))?;
        }
        Ok(())
    }

    /// The number of the value at a place of the file among those of all files.
    fn element(&self, offset: u64, shape: &TensorShape) -> u64 {
        self.rows.start * shape.cols as u64
            + offset.saturating_sub(self.data) / shape.element() as u64
    }

    /// Reads the complete file: its hash; its values are added to a sum.
    fn read(
        &self,
        records: &RecordSpool,
        shape: &TensorShape,
        folder: &OutputFolder,
        sum: &CellSum,
    ) -> Result<String, ResultsError> {
        let path = if self.published {
            folder.path().join(&self.name)
        } else {
            self.partial.clone()
        };
        let mut wanted = blake3::Hasher::new();
        self.write_header(&mut wanted, records, shape)?;
        let (mut header, mut whole) = (blake3::Hasher::new(), blake3::Hasher::new());
        fingerprint::each_piece(&path, |at, piece| {
            whole.update(piece);
            let end = self.data.saturating_sub(at).min(piece.len() as u64) as usize;
            let (before, values) = piece.split_at(end);
            header.update(before);
            sum.add(
                self.element(at + end as u64, shape),
                shape.element(),
                values,
            );
        })?;
        if header.finalize() == wanted.finalize() {
            Ok(fingerprint::text_of(&whole))
        } else {
            Err(ResultsError::Damaged {
                path,
                problem: "its header is not what was written to it".into(),
            })
        }
    }

    /// Finds the file of an interrupted run; whether it is in the output folder already.
    fn find(&self, folder: &OutputFolder) -> Result<bool, ResultsError> {
        let is_there = |path| {
            fs_err::metadata(path)
                .is_ok_and(|metadata: std::fs::Metadata| metadata.len() == self.bytes)
        };
        if is_there(self.partial.clone()) {
            Ok(false)
        } else if is_there(folder.path().join(&self.name)) {
            Ok(true)
        } else {
            Err(ResultsError::Damaged {
                path: self.partial.clone(),
                problem: "the interrupted run left it, but it is gone or has another length".into(),
            })
        }
    }
}
