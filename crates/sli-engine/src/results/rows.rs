//! Rows of a table on their way to a Parquet file: appended to a flat file whose length and hash the checkpoints
//! remember, cut back to it and compared after a kill, and read once when the run is complete.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err::File;

use super::ResultsError;
use super::record_name::RecordName;
use crate::durable::{DiskError, DiskFile};
use crate::fingerprint;
use crate::journal::{Durable, Mark, OutputFolder};

/// Buffer of each spool; a router has one spool a layer.
const BUFFER: usize = 1 << 14;

/// A file of rows, each with its length before it.
pub(super) struct RowSpool {
    path: PathBuf,
    file: Arc<SpoolFile>,
}

struct SpoolFile(Mutex<Appender>);

struct Appender {
    writer: BufWriter<DiskFile>,
    length: u64,
    /// Of everything appended.
    hasher: blake3::Hasher,
    /// Whether anything was appended since it was last made durable.
    dirty: bool,
    row: Vec<u8>,
}

impl RowSpool {
    /// Starts the spool `name`, or continues it from the last checkpoint. `result`: the file it will become.
    pub fn open(folder: &OutputFolder, name: &str, result: &str) -> Result<Self, ResultsError> {
        let name = format!("{name}.rows");
        let path = folder.work_dir().join(&name);
        let (file, length, hasher) = match folder.mark(&name) {
            None => (folder.disk().create(&path)?, 0, blake3::Hasher::new()),
            Some(mark) => {
                let damaged = |problem| ResultsError::Damaged {
                    path: path.clone(),
                    problem,
                };
                let mut file = folder.disk().open(&path)?;
                let length = mark.length;
                if file.length()? < length {
                    let problem = format!("it is shorter than the {length} bytes written to it");
                    return Err(damaged(problem));
                }
                file.set_length(length)?;
                let hasher = fingerprint::hasher_of(&path)?;
                if fingerprint::text_of(&hasher) != mark.digest {
                    return Err(damaged("its content is not what was written to it".into()));
                }
                file.set_position(length);
                (file, length, hasher)
            }
        };
        let appender = Appender {
            writer: BufWriter::with_capacity(BUFFER, file),
            length,
            hasher,
            dirty: true,
            row: Vec::new(),
        };
        let file = Arc::new(SpoolFile(Mutex::new(appender)));
        folder.register(
            &name,
            Arc::clone(&file) as Arc<dyn Durable>,
            [result.to_owned()],
        );
        Ok(Self { path, file })
    }

    /// Appends the row that `encode` writes.
    pub fn push(&self, encode: impl FnOnce(&mut RowEncoder<'_>)) -> Result<(), ResultsError> {
        let appender = &mut *self.file.lock();
        appender.row.clear();
        encode(&mut RowEncoder(&mut appender.row));
        let length = appender.row.len() as u64;
        let written = appender
            .writer
            .write_all(&length.to_le_bytes())
            .and_then(|()| appender.writer.write_all(&appender.row));
        written.map_err(DiskError::from)?;
        appender.hasher.update(&length.to_le_bytes());
        appender.hasher.update(&appender.row);
        appender.length += 8 + length;
        appender.dirty = true;
        // A long row must not keep its memory for the rest of the run.
        appender.row.clear();
        appender.row.shrink_to(BUFFER);
        Ok(())
    }

    /// Reads all rows from the first.
    pub fn reader(&self) -> Result<RowReader, ResultsError> {
        let mut appender = self.file.lock();
        appender.writer.flush().map_err(DiskError::from)?;
        let file = File::open(&self.path).map_err(DiskError::from)?;
        Ok(RowReader {
            path: self.path.clone(),
            file: BufReader::with_capacity(BUFFER, file),
            left: appender.length,
        })
    }
}

impl SpoolFile {
    fn lock(&self) -> MutexGuard<'_, Appender> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Durable for SpoolFile {
    fn make_durable(&self) -> Result<Mark, DiskError> {
        let mut appender = self.lock();
        if appender.dirty {
            appender.writer.flush()?;
            appender.writer.get_ref().sync()?;
            appender.dirty = false;
        }
        Ok(Mark {
            length: appender.length,
            digest: fingerprint::text_of(&appender.hasher),
        })
    }
}

/// Reads the rows of a spool in order.
pub(super) struct RowReader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl RowReader {
    /// Reads the next row into `row`; `false` after the last.
    pub fn next(&mut self, row: &mut Vec<u8>) -> Result<bool, ResultsError> {
        if self.left == 0 {
            return Ok(false);
        }
        let mut length = [0; 8];
        self.file.read_exact(&mut length).map_err(DiskError::from)?;
        let length = u64::from_le_bytes(length);
        match self
            .left
            .checked_sub(8)
            .and_then(|left| left.checked_sub(length))
        {
            Some(left) => self.left = left,
            None => return Err(self.damaged()),
        }
        row.clear();
        row.resize(length as usize, 0);
        self.file.read_exact(row).map_err(DiskError::from)?;
        Ok(true)
    }

    /// The error of a row that is not as it was written.
    pub fn damaged(&self) -> ResultsError {
        ResultsError::Damaged {
            path: self.path.clone(),
            problem: "a row is not as it was written".into(),
        }
    }
}

/// Writes the cells of a row, little-endian, in the order of the table's columns.
pub(super) struct RowEncoder<'a>(&'a mut Vec<u8>);

/// Added to a list's length if a null precedes its values.
const AFTER_NULL: u32 = 1 << 31;

impl<'a> RowEncoder<'a> {
    /// An encoder that appends to `row`.
    pub fn new(row: &'a mut Vec<u8>) -> Self {
        Self(row)
    }

    /// Makes room for so many bytes, and for no more.
    pub fn reserve(&mut self, bytes: usize) {
        self.0.reserve_exact(bytes);
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// The columns `row` and `id`.
    pub fn named(&mut self, record: RecordName<'_>) {
        self.u64(record.row);
        self.text(record.id);
    }

    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub fn optional_u32(&mut self, value: Option<u32>) {
        self.u32(u32::from(value.is_some()));
        self.u32(value.unwrap_or(0));
    }

    pub fn optional_f64(&mut self, value: Option<f64>) {
        self.u32(u32::from(value.is_some()));
        self.f64(value.unwrap_or(0.0));
    }

    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
    }

    pub fn list_u32(&mut self, values: &[u32]) {
        self.u32(values.len() as u32);
        self.0
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub fn list_f32(&mut self, values: &[f32]) {
        self.u32(values.len() as u32);
        self.0
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// A null, then `values`.
    pub fn list_f32_after_null(&mut self, values: &[f32]) {
        self.u32(values.len() as u32 | AFTER_NULL);
        self.0
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// A vector, or null.
    pub fn vector(&mut self, values: Option<&[f32]>) {
        match values {
            Some(values) => self.list_f32(values),
            None => self.list_f32_after_null(&[]),
        }
    }

    pub fn names(&mut self, names: &[String]) {
        self.u32(names.len() as u32);
        for name in names {
            self.text(name);
        }
    }

    /// A list of lists of two values each, or null.
    pub fn optional_pairs(&mut self, pairs: Option<&[[u32; 2]]>) {
        self.u32(u32::from(pairs.is_some()));
        self.list_u32(pairs.unwrap_or_default().as_flattened());
    }

    /// A list of lists of `width` values each, `count` in all.
    pub fn matrix(&mut self, width: usize, count: usize, values: impl Iterator<Item = [u8; 4]>) {
        self.u32(width as u32);
        self.u32(count as u32);
        self.0.extend(values.flatten());
    }
}

/// Reads the cells of a row; `None` from any method means that the row is damaged.
pub(super) struct RowDecoder<'a>(pub &'a [u8]);

/// The values of a list as they are stored, and whether a null precedes them.
pub(super) struct List<'a> {
    pub values: &'a [[u8; 4]],
    pub after_null: bool,
}

impl<'a> RowDecoder<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*value)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()?;
        std::str::from_utf8(self.slice(length as usize)?).ok()
    }

    pub fn list(&mut self) -> Option<List<'a>> {
        let length = self.u32()?;
        let bytes = self.slice((length & !AFTER_NULL) as usize * 4)?;
        Some(List {
            values: bytes.as_chunks().0,
            after_null: length & AFTER_NULL != 0,
        })
    }
}
