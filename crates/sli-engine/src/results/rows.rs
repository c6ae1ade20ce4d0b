//! Rows of a table on their way to a Parquet file: appended to a flat file whose length and hash the checkpoints
//! remember, cut back to it and compared after a kill, and read once when the run is complete. A long row is never in
//! memory as a whole: neither when it is appended nor when it is read.

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
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

/// A row of more bytes stays where it is, and its cells are read one by one.
pub(crate) const LONG_ROW: usize = 4 << 20;

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
    /// What is appended next.
    piece: Vec<u8>,
}

impl Appender {
    fn append_piece(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.piece)?;
        self.hasher.update(&self.piece);
        self.length += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
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
            piece: Vec::new(),
        };
        let file = Arc::new(SpoolFile(Mutex::new(appender)));
        folder.register(
            &name,
            Arc::clone(&file) as Arc<dyn Durable>,
            [result.to_owned()],
        );
        Ok(Self { path, file })
    }

    /// Appends the row that `encode` writes; it is asked twice, at first for the length alone.
    pub fn push(&self, encode: impl Fn(&mut RowEncoder<'_>)) -> Result<(), ResultsError> {
        let mut length = 0;
        encode(&mut RowEncoder(Target::Length(&mut length)));
        let appender = &mut *self.file.lock();
        appender.dirty = true;
        appender.piece.clear();
        appender.piece.extend((length as u64).to_le_bytes());
        let mut result = Ok(());
        encode(&mut RowEncoder(Target::Spool(appender, &mut result)));
        result
            .and_then(|()| appender.append_piece())
            .map_err(DiskError::from)?;
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
    pub fn next(&mut self, row: &mut EncodedRow) -> Result<bool, ResultsError> {
        row.stored = None;
        row.bytes.clear();
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
        if length > LONG_ROW as u64 {
            row.stored = Some(self.pass(length).map_err(DiskError::from)?);
        } else {
            row.bytes.resize(length as usize, 0);
            self.file
                .read_exact(&mut row.bytes)
                .map_err(DiskError::from)?;
        }
        Ok(true)
    }

    /// Leaves a row where it is.
    fn pass(&mut self, length: u64) -> io::Result<Stored> {
        let from = self.file.stream_position()?;
        self.file.seek(SeekFrom::Start(from + length))?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(from))?;
        Ok(BufReader::with_capacity(BUFFER, file).take(length))
    }

    /// The error of a row that is not as it was written.
    pub fn damaged(&self) -> ResultsError {
        ResultsError::Damaged {
            path: self.path.clone(),
            problem: "a row is not as it was written".into(),
        }
    }
}

/// Cells in a file, from the first that is not read yet.
type Stored = io::Take<BufReader<File>>;

/// An encoded row: cells in a spool, where it is long, and behind them cells in memory.
#[derive(Default)]
pub(super) struct EncodedRow {
    stored: Option<Stored>,
    pub bytes: Vec<u8>,
}

impl EncodedRow {
    /// Bytes of its cells.
    pub fn length(&self) -> usize {
        let stored = self.stored.as_ref().map_or(0, Stored::limit);
        stored as usize + self.bytes.len()
    }

    /// All cells, from the first; once.
    pub fn cells(&mut self) -> impl Read + '_ {
        let stored: Box<dyn Read + '_> = match &mut self.stored {
            Some(stored) => Box::new(stored),
            None => Box::new(io::empty()),
        };
        stored.chain(&self.bytes[..])
    }

    /// Writes it anew in memory.
    pub fn encode(&mut self, encode: impl FnOnce(&mut RowEncoder<'_>)) {
        self.stored = None;
        self.bytes.clear();
        self.append(encode);
    }

    /// Writes cells behind those that are there.
    pub fn append(&mut self, encode: impl FnOnce(&mut RowEncoder<'_>)) {
        encode(&mut RowEncoder(Target::Memory(&mut self.bytes)));
    }
}

/// Writes the cells of a row, little-endian, in the order of the table's columns.
pub(super) struct RowEncoder<'a>(Target<'a>);

/// Where cells are written to.
enum Target<'a> {
    Memory(&'a mut Vec<u8>),
    /// Only their length counts.
    Length(&'a mut usize),
    /// To a spool a piece after the other, until that fails.
    Spool(&'a mut Appender, &'a mut io::Result<()>),
}

/// Added to a list's length if a null precedes its values.
const AFTER_NULL: u32 = 1 << 31;

impl RowEncoder<'_> {
    fn put(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Target::Memory(row) => row.extend(bytes),
            Target::Length(length) => **length += bytes.len(),
            Target::Spool(appender, _) => appender.piece.extend(bytes),
        }
        self.end_piece();
    }

    fn put_values(&mut self, count: usize, values: impl Iterator<Item = [u8; 4]>) {
        match &mut self.0 {
            Target::Memory(row) => row.extend(values.flatten()),
            Target::Length(length) => **length += 4 * count,
            Target::Spool(..) => {
                let mut values = values.peekable();
                while values.peek().is_some() {
                    if let Target::Spool(appender, _) = &mut self.0 {
                        let some = values.by_ref().take(BUFFER / 4);
                        appender.piece.extend(some.flatten());
                    }
                    self.end_piece();
                }
            }
        }
    }

    /// Appends the piece to the spool if it is long enough.
    fn end_piece(&mut self) {
        if let Target::Spool(appender, result) = &mut self.0
            && appender.piece.len() >= BUFFER
            && result.is_ok()
        {
            **result = appender.append_piece();
        }
    }

    pub fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
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
        self.put(text.as_bytes());
    }

    pub fn list_u32(&mut self, values: impl ExactSizeIterator<Item = u32>) {
        self.u32(values.len() as u32);
        self.put_values(values.len(), values.map(u32::to_le_bytes));
    }

    pub fn list_f32(&mut self, values: impl ExactSizeIterator<Item = f32>) {
        self.u32(values.len() as u32);
        self.put_values(values.len(), values.map(f32::to_le_bytes));
    }

    /// A null, then `values`.
    pub fn list_f32_after_null(&mut self, values: &[f32]) {
        self.u32(values.len() as u32 | AFTER_NULL);
        self.put_values(values.len(), values.iter().map(|value| value.to_le_bytes()));
    }

    /// A vector, or null.
    pub fn vector(&mut self, values: Option<&[f32]>) {
        match values {
            Some(values) => self.list_f32(values.iter().copied()),
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
        self.list_u32(pairs.unwrap_or_default().as_flattened().iter().copied());
    }

    /// A list of lists of `width` values each, `count` in all.
    pub fn matrix(&mut self, width: usize, count: usize, values: impl Iterator<Item = [u8; 4]>) {
        self.u32(width as u32);
        self.u32(count as u32);
        self.put_values(count, values);
    }
}

/// Reads some bytes behind those that are in `cell`, as many as there are if there are fewer.
fn extend(cell: &mut Vec<u8>, bytes: usize, from: &mut impl Read) -> io::Result<()> {
    from.take(bytes as u64).read_to_end(cell).map(drop)
}

/// Reads a length, behind which so many things follow.
fn length(cell: &mut Vec<u8>, from: &mut impl Read) -> io::Result<usize> {
    extend(cell, 4, from)?;
    let length = cell
        .last_chunk()
        .map_or(0, |last| u32::from_le_bytes(*last));
    Ok((length & !AFTER_NULL) as usize)
}

/// Reads the bytes of a cell of a row, one after the other; what is not there is noticed when they are decoded.
pub(super) struct CellReader<R>(pub R);

impl<R: Read> CellReader<R> {
    /// A value, or several, of so many bytes together.
    pub fn fixed(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut cell = Vec::new();
        extend(&mut cell, bytes, &mut self.0)?;
        Ok(cell)
    }

    /// A list behind `before` bytes, of things of `size` bytes.
    pub fn list(&mut self, before: usize, size: usize) -> io::Result<Vec<u8>> {
        let mut cell = self.fixed(before)?;
        let count = length(&mut cell, &mut self.0)?;
        let bytes = count.saturating_mul(size);
        extend(&mut cell, bytes, &mut self.0)?;
        Ok(cell)
    }

    /// A list of texts.
    pub fn texts(&mut self) -> io::Result<Vec<u8>> {
        let mut cell = Vec::new();
        for _ in 0..length(&mut cell, &mut self.0)? {
            let before = cell.len();
            let text = length(&mut cell, &mut self.0)?;
            if cell.len() == before {
                break;
            }
            extend(&mut cell, text, &mut self.0)?;
        }
        Ok(cell)
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
