//! Inputs that somebody has prepared: tensors of files that records name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::{BoundLeaf, Checkpoint, Dtype};
use sli_spec::{Features, Leaf, Source};

use crate::input::{InputError, Place, RawRecord, Tensors};

/// Most bytes of whole numbers beside a record's pictures.
const WHOLE_BYTES: u64 = 1 << 20;

/// A tensor as somebody has prepared it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: Vec<f32>,
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
        let Some(Prepared {
            shape: found,
            values,
        }) = self.tensor(tensors, name, record)?
        else {
            let problem = format!("{} has no tensor `{}{name}`", tensors.file, tensors.prefix);
            return refused(
                problem,
                "a tensor's name is `tensor_prefix` and the name of the input",
            );
        };
        let axes = features.shape(1).len();
        let shape: &[usize] = match &found[..] {
            [1, rest @ ..] if rest.len() == axes => rest,
            all => all,
        };
        let file = || &tensors.file;
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
        let mut values = values;
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

    /// Whole numbers of a record's file, `tensor_prefix` in front of the name; `None`: they are not there.
    pub fn whole_numbers(
        &mut self,
        tensors: &Tensors,
        name: &str,
        record: &RawRecord,
    ) -> Result<Option<Vec<u32>>, InputError> {
        let id = &record.id;
        let refused = |problem: String, hint: &str| {
            let problem = format!("record `{id}`: {problem}");
            Err(InputError::record(&record.place, problem).with_hint(hint))
        };
        let path = path_of(&record.place, tensors);
        let name = format!("{}{name}", tensors.prefix);
        let checkpoint = self.checkpoint(&path, &record.place, id)?;
        let Some(found) = checkpoint.tensor(&name) else {
            return Ok(None);
        };
        let file = path.display();
        let size = match found.dtype {
            Dtype::I64 => 8,
            Dtype::I32 => 4,
            other => {
                let problem = format!("`{name}` of {file} is of type {other}");
                return refused(
                    problem,
                    "store it as I64 or I32, as the model's processor does",
                );
            }
        };
        if found.bytes > WHOLE_BYTES {
            let problem = format!("`{name}` of {file} has {} bytes", found.bytes);
            return refused(problem, "it has three numbers for a picture");
        }
        let mut bytes = vec![0; found.bytes as usize];
        if let Err(error) = checkpoint.read_at(found.file, found.offset, &mut bytes) {
            return refused(format!("`{name}` of {file}: {error}"), "is the file whole?");
        }
        let number = |bytes: &[u8]| {
            let mut padded = [0; 8];
            padded[..size].copy_from_slice(bytes);
            if size == 4 && bytes[3] & 0x80 != 0 {
                return None;
            }
            u32::try_from(i64::from_le_bytes(padded)).ok()
        };
        let numbers: Option<Vec<u32>> = bytes.chunks_exact(size).map(number).collect();
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => refused(
                format!("`{name}` of {file} has a number below 0 or beyond 2^32"),
                "prepare it as the model's processor does",
            ),
        }
    }

    /// Whether whole numbers or flags of a record's file have any that are 0, `tensor_prefix` in front of the name; those
    /// that are not there have none.
    pub fn has_zeros(
        &mut self,
        tensors: &Tensors,
        name: &str,
        record: &RawRecord,
    ) -> Result<bool, InputError> {
        let id = &record.id;
        let refused = |problem: String, hint: &str| {
            let problem = format!("record `{id}`: {problem}");
            Err(InputError::record(&record.place, problem).with_hint(hint))
        };
        let path = path_of(&record.place, tensors);
        let name = format!("{}{name}", tensors.prefix);
        let checkpoint = self.checkpoint(&path, &record.place, id)?;
        let Some(found) = checkpoint.tensor(&name) else {
            return Ok(false);
        };
        let file = path.display();
        let size = match found.dtype {
            Dtype::I64 => 8,
            Dtype::I32 => 4,
            Dtype::U8 | Dtype::Bool => 1,
            other => {
                let problem = format!("`{name}` of {file} is of type {other}");
                return refused(problem, "store it as I64, I32, U8 or BOOL");
            }
        };
        let mut piece = vec![0_u8; 1 << 16];
        let mut at = 0;
        while at < found.bytes {
            let length = (found.bytes - at).min(piece.len() as u64) as usize;
            let part = &mut piece[..length];
            if let Err(error) = checkpoint.read_at(found.file, found.offset + at, part) {
                return refused(format!("`{name}` of {file}: {error}"), "is the file whole?");
            }
            let is_zero = |number: &[u8]| number.iter().all(|&byte| byte == 0);
            if part.chunks_exact(size).any(is_zero) {
                return Ok(true);
            }
            at += length as u64;
        }
        Ok(false)
    }

    /// A tensor of a record's file, `tensor_prefix` in front of its name; `None`: it is not there.
    pub fn tensor(
        &mut self,
        tensors: &Tensors,
        name: &str,
        record: &RawRecord,
    ) -> Result<Option<Prepared>, InputError> {
        let id = &record.id;
        let refused = |problem: String, hint: &str| {
            let problem = format!("record `{id}`: {problem}");
            Err(InputError::record(&record.place, problem).with_hint(hint))
        };
        let path = path_of(&record.place, tensors);
        let name = format!("{}{name}", tensors.prefix);
        let file = || path.display();
        let checkpoint = self.checkpoint(&path, &record.place, id)?;
        let Some(found) = checkpoint.tensor(&name) else {
            return Ok(None);
        };
        let shape = found.shape.clone();
        let rows = shape.first().copied().unwrap_or(1);
        let source = Source::Reshape(Box::new(Source::tensor(name.as_str())));
        let leaf = Leaf::new(source, [rows, shape.iter().skip(1).product()]);
        let values =
            BoundLeaf::bind(&checkpoint, "", &leaf).and_then(|bound| bound.read_f32(0, 0..rows));
        let values = match values {
            Ok(values) => values,
            Err(error) => {
                return refused(
                    format!("`{name}` of {}: {error}", file()),
                    "is the file whole?",
                );
            }
        };
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            return refused(
                format!(
                    "`{name}` of {} is {} at place {place}",
                    file(),
                    values[place]
                ),
                "every number must be finite",
            );
        }
        let shape = shape.into_vec();
        Ok(Some(Prepared { shape, values }))
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

/// The file that a record names, from the folder of its own.
fn path_of(place: &Place, tensors: &Tensors) -> PathBuf {
    let folder = place.path().parent().unwrap_or(Path::new(""));
    folder.join(&tensors.file)
}

/// The files that records name, in the order of their paths.
pub fn files(
    records: impl Iterator<Item = Result<RawRecord, InputError>>,
) -> Result<BTreeSet<PathBuf>, InputError> {
    let mut files = BTreeSet::new();
    for record in records {
        let record = record?;
        if let Some(tensors) = &record.tensors {
            files.insert(path_of(&record.place, tensors));
        }
    }
    Ok(files)
}
