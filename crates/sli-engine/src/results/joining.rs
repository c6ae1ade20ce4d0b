//! Results of consecutive records, of several finished folders, become one: rows and values one after the other, row
//! groups and files cut as when they are written by one run.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

use fs_err::File;
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::ResultsError;
use super::columns::{Kind, write_table};
use super::reading::TableReader;
use super::safetensors::{FilePart, LIMITS, TensorShape, dtype_name, file_name, layout};
use crate::durable::DiskError;
use crate::fingerprint;
use crate::journal::{OutputFolder, ResultWriter};
use crate::records::{Record, RecordSpool, RecordSpoolWriter};
use crate::settings::HiddenDtype;

/// Bytes of values that are copied at a time.
const PIECE: usize = 1 << 20;

/// The records of the tensors that are being joined, in the work folder.
const NAMES: &str = "joined";

/// A file of a finished folder.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub path: PathBuf,
    pub bytes: u64,
    /// Of its content, where the folder says so.
    pub blake3: Option<String>,
}

impl Stored {
    fn damaged(&self, problem: impl Into<String>) -> ResultsError {
        ResultsError::Damaged {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// That it is there, as long as it was.
    pub fn check_length(&self) -> Result<(), ResultsError> {
        match fs_err::metadata(&self.path) {
            Ok(metadata) if metadata.len() == self.bytes => Ok(()),
            Ok(metadata) => {
                let (was, is) = (self.bytes, metadata.len());
                Err(self.damaged(format!("run.json says {was} bytes, it has {is}")))
            }
            Err(_) => Err(self.damaged("run.json lists it, but it is not there")),
        }
    }

    /// That its content is what was written.
    pub fn check(&self) -> Result<(), ResultsError> {
        let hash = fingerprint::of_file(&self.path)?;
        self.compare(&hash)
    }

    fn compare(&self, hash: &str) -> Result<(), ResultsError> {
        if self.blake3.as_deref().is_none_or(|wanted| wanted == hash) {
            return Ok(());
        }
        Err(self.damaged("its content is not what run.json says was written"))
    }
}

/// Publishes the rows of tables of the same columns, one table after the other.
pub(crate) fn join_tables(
    folder: &mut OutputFolder,
    name: &str,
    files: &[Stored],
) -> Result<(), ResultsError> {
    if folder.publish_again(name)? {
        return Ok(());
    }
    let mut rest = files.iter();
    let Some(first) = rest.next() else {
        return Ok(());
    };
    first.check()?;
    let mut table = TableReader::open(&first.path)?;
    let columns = table.columns().to_vec();
    let kinds: Vec<(&str, Kind)> = columns
        .iter()
        .map(|(name, kind)| (&**name, *kind))
        .collect();
    write_table(folder, name, &kinds, |row| {
        while !table.next(row)? {
            let Some(file) = rest.next() else {
                return Ok(false);
            };
            file.check()?;
            table = TableReader::open(&file.path)?;
            if table.columns() != columns {
                return Err(file.damaged("it has not the columns of the other parts"));
            }
        }
        Ok(true)
    })
}

/// Publishes the tensors of files of the same type and columns, one file after the other.
pub(crate) fn join_tensors(
    folder: &mut OutputFolder,
    name: &str,
    files: &[Stored],
) -> Result<(), ResultsError> {
    let (records, shape) = names(folder, files)?;
    let mut values = Values::new(files);
    let parts = layout(&records, &shape, LIMITS)?;
    let count = parts.len();
    for (index, part) in parts.iter().enumerate() {
        let file = file_name(name, (count > 1).then_some(index));
        if folder.publish_again(&file)? {
            values.copy(part.bytes - part.data, &mut std::io::sink())?;
            continue;
        }
        folder.publish_new(&file, |writer| {
            write_part(writer, part, (&records, &shape), &mut values)
        })?;
    }
    values.end()
}

fn write_part(
    mut writer: ResultWriter,
    part: &FilePart,
    (records, shape): (&RecordSpool, &TensorShape),
    values: &mut Values<'_>,
) -> Result<ResultWriter, ResultsError> {
    part.write_header(&mut writer, records, shape)?;
    values.copy(part.bytes - part.data, &mut writer)?;
    writer.flush().map_err(DiskError::from)?;
    Ok(writer)
}

/// The records of files by their headers, with a row in the place of each token; and what the values are.
fn names(
    folder: &OutputFolder,
    files: &[Stored],
) -> Result<(RecordSpool, TensorShape), ResultsError> {
    let path = folder.work_dir().join(NAMES);
    let mut writer = RecordSpoolWriter::create_on(folder.disk(), &path)?;
    // No folder has one twice, and the dataset has not.
    writer.trust_ids();
    let mut shape: Option<TensorShape> = None;
    for file in files {
        let mut end = 0;
        let data = each_tensor(file, |id, tensor| {
            let mut dtypes = [HiddenDtype::F32, HiddenDtype::Bf16, HiddenDtype::F16].into_iter();
            let dtype = dtypes.find(|dtype| dtype_name(*dtype) == tensor.dtype);
            let Some(dtype) = dtype else {
                return Err("a tensor has a type that no result has".to_owned());
            };
            let [rows, cols] = tensor.shape;
            let own = TensorShape {
                rows_per_token: 1,
                cols,
                dtype,
            };
            if *shape.get_or_insert(own) != own {
                return Err(format!(
                    "the tensor `{id}` is of another kind than the others"
                ));
            }
            let [from, to] = tensor.data_offsets;
            if from != end || (rows as u64).checked_mul(own.row_bytes()) != to.checked_sub(from) {
                return Err(format!(
                    "the place of the tensor `{id}` does not fit its shape"
                ));
            }
            end = to;
            let record = Record {
                id,
                tokens: vec![0; rows],
                ..Record::default()
            };
            writer.push(&record).map_err(|error| error.to_string())
        })?;
        if data + end != file.bytes {
            return Err(file.damaged("it is not as long as its header says"));
        }
    }
    // Of a dataset whose parts have no records there are no results.
    let shape = shape.unwrap_or(TensorShape {
        rows_per_token: 1,
        cols: 0,
        dtype: HiddenDtype::F32,
    });
    Ok((writer.finish()?, shape))
}

/// What a header says of a tensor.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: [usize; 2],
    data_offsets: [u64; 2],
}

/// Shows every tensor of a file's header in its order, one in memory at a time; where the values begin.
fn each_tensor(
    file: &Stored,
    see: impl FnMut(String, Tensor) -> Result<(), String>,
) -> Result<u64, ResultsError> {
    struct Header<F>(F);
    impl<'de, F: FnMut(String, Tensor) -> Result<(), String>> Visitor<'de> for Header<F> {
        type Value = ();

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("tensors by their names")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<String>()? {
                if name == "__metadata__" {
                    map.next_value::<IgnoredAny>()?;
                } else {
                    let tensor = map.next_value()?;
                    (self.0)(name, tensor).map_err(serde::de::Error::custom)?;
                }
            }
            Ok(())
        }
    }
    let mut reader = BufReader::new(File::open(&file.path).map_err(DiskError::from)?);
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(DiskError::from)?;
    let length = u64::from_le_bytes(length);
    if length > file.bytes.saturating_sub(8) {
        return Err(file.damaged("its header is longer than the file"));
    }
    let mut json = serde_json::Deserializer::from_reader(reader.take(length));
    let read = json.deserialize_map(Header(see)).and_then(|()| json.end());
    match read {
        Ok(()) => Ok(8 + length),
        Err(error) if error.is_io() => Err(DiskError::from(std::io::Error::from(error)).into()),
        Err(error) => Err(file.damaged(error.to_string())),
    }
}

/// The values of files, one after the other, without the headers.
struct Values<'a> {
    rest: VecDeque<&'a Stored>,
    /// The file at hand, and what was read of it.
    open: Option<(&'a Stored, File, Box<blake3::Hasher>)>,
    piece: Vec<u8>,
    /// Bytes of the piece that are copied.
    used: usize,
}

impl<'a> Values<'a> {
    fn new(files: &'a [Stored]) -> Self {
        Self {
            rest: files.iter().collect(),
            open: None,
            piece: Vec::with_capacity(PIECE),
            used: 0,
        }
    }

    /// Copies so many bytes.
    fn copy(&mut self, mut bytes: u64, to: &mut impl Write) -> Result<(), ResultsError> {
        while bytes > 0 {
            if self.used == self.piece.len() && !self.read()? {
                let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(DiskError::from(error).into());
            }
            let here = &self.piece[self.used..];
            let count = usize::try_from(bytes).map_or(here.len(), |bytes| bytes.min(here.len()));
            to.write_all(&here[..count]).map_err(DiskError::from)?;
            self.used += count;
            bytes -= count as u64;
        }
        Ok(())
    }

    /// Reads the next piece that has values; `false`: there is none.
    fn read(&mut self) -> Result<bool, ResultsError> {
        loop {
            if let Some((file, reader, hasher)) = &mut self.open {
                self.piece.clear();
                self.used = 0;
                let more = reader.take(PIECE as u64).read_to_end(&mut self.piece);
                if more.map_err(DiskError::from)? > 0 {
                    hasher.update(&self.piece);
                    return Ok(true);
                }
                file.compare(&fingerprint::text_of(hasher))?;
            }
            let Some(file) = self.rest.pop_front() else {
                self.open = None;
                return Ok(false);
            };
            self.open = Some(opened(file)?);
        }
    }

    /// That the last file ends here, and is what was written.
    fn end(mut self) -> Result<(), ResultsError> {
        while self.read()? {
            if let Some((file, ..)) = &self.open {
                return Err(file.damaged("it has more values than its header says"));
            }
        }
        Ok(())
    }
}

/// A file behind its header.
fn opened(file: &Stored) -> Result<(&Stored, File, Box<blake3::Hasher>), ResultsError> {
    let mut hasher = Box::new(blake3::Hasher::new());
    let mut reader = File::open(&file.path).map_err(DiskError::from)?;
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(DiskError::from)?;
    hasher.update(&length);
    let header = (&mut reader).take(u64::from_le_bytes(length));
    hasher.update_reader(header).map_err(DiskError::from)?;
    Ok((file, reader, hasher))
}
