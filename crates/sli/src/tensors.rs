//! Inputs that somebody has prepared: tensors of files that records name.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::{BoundLeaf, Checkpoint, Dtype, TensorInfo};
use sli_pictures::{Tensor, Values};
use sli_spec::{Features, Leaf, Source};

use crate::input::{InputError, Place, RawRecord, Tensors};

/// A tensor as somebody has prepared it.
#[derive(Clone, Debug)]
pub struct Prepared<'r> {
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: Cow<'r, [f32]>,
}

/// Reads the tensors of records; the file of the one before stays open.
#[derive(Default)]
pub struct TensorReader {
    open: Option<(PathBuf, Arc<Checkpoint>)>,
}

impl TensorReader {
    /// The numbers of a record's features, row by row, and how many frames they are.
    pub fn read(
        &mut self,
        features: &Features,
        record: &RawRecord,
    ) -> Result<(Vec<f32>, usize), InputError> {
        let id = &record.id;
        let refused = |problem: String, hint: &str| {
            let problem = format!("record `{id}`: {problem}");
            Err(InputError::record(&record.place, problem).with_hint(hint))
        };
        let Some(tensors) = &record.tensors else {
            return refused(
                format!(
                    "the encoder reads `{}`, and the record has no `tensors`",
                    features.name
                ),
                "name a safetensors file that holds it: {\"tensors\": \"FILE\", \"tensor_prefix\": \"...\"}",
            );
        };
        let name = features.name;
        let file = || tensors.source();
        let Some(Prepared {
            shape: found,
            values,
        }) = self.tensor(tensors, name, record)?
        else {
            return refused(
                format!("{} has no tensor `{}`", file(), tensors.name(name)),
                "a tensor's name is `tensor_prefix` and the name of the input",
            );
        };
        let axes = features.shape(1).len();
        let shape: &[usize] = match &found[..] {
            [1, rest @ ..] if rest.len() == axes => rest,
            all => all,
        };
        let Some(frames) = features.frames_in(shape) else {
            let problem = format!(
                "`{name}` of {} has shape {found:?}, the model wants {}",
                file(),
                features.wanted()
            );
            return refused(
                problem,
                "prepare it as the model's processor does, padding included",
            );
        };
        let padding = features.padding(&values);
        let mut values = values.into_owned();
        values.truncate((frames - padding) * features.channels);
        let problem = match features.wrong(&values) {
            None if features.rows(frames - padding) == 0 => Some("holds nothing but zeros".into()),
            problem => problem,
        };
        match problem {
            Some(problem) => refused(
                format!("`{name}` of {}: {problem}", file()),
                "prepare it as the model's processor does, padding included",
            ),
            None => Ok((values, frames - padding)),
        }
    }

    /// Whole numbers from 0 on of a record's file, at most so many, `tensor_prefix` in front of the name; `None`: they are not
    /// there.
    pub fn whole_numbers(
        &mut self,
        tensors: &Tensors,
        (name, most): (&str, usize),
        record: &RawRecord,
    ) -> Result<Option<Vec<u32>>, InputError> {
        let Some(numbers) = self.signed_numbers(tensors, (name, most), record)? else {
            return Ok(None);
        };
        let numbers = numbers.into_iter().map(u32::try_from);
        match numbers.collect::<Result<_, _>>() {
            Ok(numbers) => Ok(Some(numbers)),
            Err(_) => {
                let problem = format!(
                    "record `{}`: `{}` of {} has a number below 0 or beyond 2^32",
                    record.id,
                    tensors.name(name),
                    tensors.source()
                );
                let hint = "prepare it as the model's processor does";
                Err(InputError::record(&record.place, problem).with_hint(hint))
            }
        }
    }

    /// The same of any sign.
    pub fn signed_numbers(
        &mut self,
        tensors: &Tensors,
        (name, most): (&str, usize),
        record: &RawRecord,
    ) -> Result<Option<Vec<i64>>, InputError> {
        let found = match self.find(tensors, name, record)? {
            None
            | Some(Found::Made(Tensor {
                values: Values::F32(_),
                ..
            })) => return Ok(None),
            Some(Found::Made(Tensor {
                values: Values::I64(numbers),
                ..
            })) => return Ok(Some(numbers.clone())),
            Some(Found::Stored(found)) => found,
        };
        let size = found.size_of_whole()?;
        let count = found.info().bytes as usize / size;
        if count > most {
            let hint = "it has no more numbers than the pictures that it is beside";
            return found.refused(&format!(" has {count} numbers"), hint);
        }
        let mut numbers = Vec::with_capacity(count);
        found.pieces(|piece| {
            numbers.extend(piece.chunks_exact(size).map(|bytes| {
                let is_negative = size > 1 && bytes[size - 1] & 0x80 != 0;
                let mut padded = [if is_negative { 0xff } else { 0 }; 8];
                padded[..size].copy_from_slice(bytes);
                i64::from_le_bytes(padded)
            }));
            true
        })?;
        Ok(Some(numbers))
    }

    /// Whether whole numbers or flags of a record's file have any that are 0, `tensor_prefix` in front of the name; those
    /// that are not there have none.
    pub fn has_zeros(
        &mut self,
        tensors: &Tensors,
        name: &str,
        record: &RawRecord,
    ) -> Result<bool, InputError> {
        let found = match self.find(tensors, name, record)? {
            None => return Ok(false),
            Some(Found::Made(made)) => {
                return Ok(match &made.values {
                    Values::I64(numbers) => numbers.contains(&0),
                    Values::F32(numbers) => numbers.contains(&0.0),
                });
            }
            Some(Found::Stored(found)) => found,
        };
        let size = found.size_of_whole()?;
        let mut has_zeros = false;
        found.pieces(|piece| {
            let is_zero = |number: &[u8]| number.iter().all(|&byte| byte == 0);
            has_zeros = piece.chunks_exact(size).any(is_zero);
            !has_zeros
        })?;
        Ok(has_zeros)
    }

    /// A tensor of a record's file, `tensor_prefix` in front of its name; `None`: it is not there.
    pub fn tensor<'r>(
        &mut self,
        tensors: &'r Tensors,
        name: &str,
        record: &'r RawRecord,
    ) -> Result<Option<Prepared<'r>>, InputError> {
        let found = match self.find(tensors, name, record)? {
            None => return Ok(None),
            Some(Found::Made(made)) => {
                return Ok(Some(Prepared {
                    shape: made.shape.clone(),
                    values: match &made.values {
                        Values::F32(values) => Cow::Borrowed(&values[..]),
                        Values::I64(values) => values.iter().map(|&value| value as f32).collect(),
                    },
                }));
            }
            Some(Found::Stored(found)) => found,
        };
        let shape = found.info().shape.to_vec();
        let rows = shape.first().copied().unwrap_or(1);
        let source = Source::Reshape(Box::new(Source::tensor(found.name.as_str())));
        let leaf = Leaf::new(source, [rows, shape.iter().skip(1).product()]);
        let bound = BoundLeaf::bind(&found.checkpoint, "", &leaf);
        let values = match bound.and_then(|bound| bound.read_f32(0, 0..rows)) {
            Ok(values) => values,
            Err(error) => return found.refused(&format!(": {error}"), "is the file whole?"),
        };
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let problem = format!(" is {} at place {place}", values[place]);
            return found.refused(&problem, "every number must be finite");
        }
        let values = values.into();
        Ok(Some(Prepared { shape, values }))
    }

    /// The tensor of this name, if it is there.
    fn find<'r>(
        &mut self,
        tensors: &'r Tensors,
        name: &str,
        record: &'r RawRecord,
    ) -> Result<Option<Found<'r>>, InputError> {
        let file = match tensors {
            Tensors::Made(made) => {
                let found = made.iter().find(|tensor| tensor.name == name);
                return Ok(found.map(Found::Made));
            }
            Tensors::File { file, .. } => file,
        };
        let path = path_of(&record.place, file);
        let name = tensors.name(name);
        let checkpoint = self.checkpoint(&path, &record.place, &record.id)?;
        let is_there = checkpoint.tensor(&name).is_some();
        Ok(is_there.then_some(Found::Stored(Stored {
            checkpoint,
            name,
            path,
            record,
        })))
    }

    fn checkpoint(
        &mut self,
        path: &Path,
        place: &Place,
        id: &str,
    ) -> Result<Arc<Checkpoint>, InputError> {
        if let Some((open, checkpoint)) = &self.open
            && open == path
        {
            return Ok(Arc::clone(checkpoint));
        }
        let opened = Checkpoint::open(path).map_err(|error| {
            let problem = format!("record `{id}`: cannot read its `tensors`: {error}");
            InputError::record(place, problem)
                .with_hint("the path of a safetensors file, from the folder of the dataset")
        })?;
        let opened = Arc::new(opened);
        self.open = Some((path.to_owned(), Arc::clone(&opened)));
        Ok(opened)
    }
}

/// A tensor of a record.
enum Found<'r> {
    Stored(Stored<'r>),
    Made(&'r Tensor),
}

/// A tensor that is in a record's file.
struct Stored<'r> {
    checkpoint: Arc<Checkpoint>,
    name: String,
    path: PathBuf,
    record: &'r RawRecord,
}

impl Stored<'_> {
    fn info(&self) -> &TensorInfo {
        let info = self.checkpoint.tensor(&self.name);
        info.expect("the checkpoint was looked into")
    }

    /// Reads bytes of it.
    fn read(&self, from: u64, out: &mut [u8]) -> Result<(), InputError> {
        let TensorInfo { file, offset, .. } = *self.info();
        match self.checkpoint.read_at(file, offset + from, out) {
            Ok(()) => Ok(()),
            Err(error) => self.refused(&format!(": {error}"), "is the file whole?"),
        }
    }

    /// Bytes of one of its whole numbers or flags.
    fn size_of_whole(&self) -> Result<usize, InputError> {
        match self.info().dtype {
            Dtype::I64 => Ok(8),
            Dtype::I32 => Ok(4),
            Dtype::U8 | Dtype::Bool => Ok(1),
            other => {
                let hint = "store it as I64, I32, U8 or BOOL";
                self.refused(&format!(" is of type {other}"), hint)
            }
        }
    }

    /// Shows its bytes, some at a time, until one says that it has seen enough.
    fn pieces(&self, mut see: impl FnMut(&[u8]) -> bool) -> Result<(), InputError> {
        let (bytes, mut at) = (self.info().bytes, 0);
        let mut piece = vec![0_u8; 1 << 16];
        while at < bytes {
            let length = (bytes - at).min(piece.len() as u64) as usize;
            let part = &mut piece[..length];
            self.read(at, part)?;
            if !see(part) {
                break;
            }
            at += length as u64;
        }
        Ok(())
    }

    /// An error about it.
    fn refused<T>(&self, problem: &str, hint: &str) -> Result<T, InputError> {
        let (id, name, file) = (&self.record.id, &self.name, self.path.display());
        let problem = format!("record `{id}`: `{name}` of {file}{problem}");
        Err(InputError::record(&self.record.place, problem).with_hint(hint))
    }
}

/// The file that a record names, from the folder of its own.
fn path_of(place: &Place, file: &str) -> PathBuf {
    place.folder().join(file)
}

/// The files that records name, in the order of their paths.
pub fn files(
    records: impl Iterator<Item = Result<RawRecord, InputError>>,
) -> Result<BTreeSet<PathBuf>, InputError> {
    let mut files = BTreeSet::new();
    for record in records {
        let record = record?;
        if let Some(Tensors::File { file, .. }) = &record.tensors {
            files.insert(path_of(&record.place, file));
        }
    }
    Ok(files)
}
