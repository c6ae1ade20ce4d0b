//! The hidden states of a finished run, record by record.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use serde::Deserialize;
use serde_json::Value;

use super::error::ExportError;

/// The longest header that is read, bytes.
const HEADER: u64 = 1 << 30;

/// Hidden states of the last stack that has any.
pub struct States {
    /// Layers of that stack.
    pub layers: usize,
    /// Boundaries between them that are there, in order: 0 is what enters the first layer.
    pub boundaries: Vec<(usize, Boundary)>,
    /// Columns of a state.
    pub columns: usize,
    /// How they are stored.
    pub dtype: Dtype,
    /// A hash of what the results are.
    pub content: blake3::Hash,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Dtype {
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    BF16,
}

impl Dtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// As safetensors call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// Whether all numbers are.
    fn is_finite(self, bytes: &[u8]) -> bool {
        let half = |mask: u16| {
            let mut values = bytes.as_chunks().0.iter();
            values.all(|value| u16::from_le_bytes(*value) & mask != mask)
        };
        match self {
            Self::F32 => {
                let mut values = bytes.as_chunks().0.iter();
                values.all(|value| f32::from_le_bytes(*value).is_finite())
            }
            Self::F16 => half(0x7c00),
            Self::BF16 => half(0x7f80),
        }
    }
}

/// The states at a boundary, in one file or several.
pub struct Boundary {
    name: String,
    files: Vec<(PathBuf, File)>,
    /// By a record's id: the file, the place, and the rows.
    records: HashMap<String, (usize, u64, usize)>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl States {
    /// Finds them in the folder of a run.
    pub fn open(folder: &Path) -> Result<Self, ExportError> {
        let unfinished = || ExportError::Unfinished {
            folder: folder.to_owned(),
        };
        let manifest = fs_err::read(folder.join("run.json")).map_err(|_| unfinished())?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|_| unfinished())?;
        let files = manifest["files"].as_array().ok_or_else(unfinished)?;
        let names = files.iter().filter_map(|file| file["name"].as_str());
        let mut stacks: BTreeMap<&str, BTreeMap<usize, Vec<&str>>> = BTreeMap::new();
        let mut last = None;
        for name in names {
            let Some(own) = name.strip_prefix("hidden/") else {
                continue;
            };
            let own = own.strip_suffix(".safetensors").unwrap_or(own);
            let own = own.split_once(".part-").map_or(own, |(own, _)| own);
            if let Some((stack, number)) = own.rsplit_once('.')
                && let Ok(number) = number.parse()
            {
                stacks
                    .entry(stack)
                    .or_default()
                    .entry(number)
                    .or_default()
                    .push(name);
                // Of several, that which the tokens are of.
                last = last.filter(|last| *last == "decoder").or(Some(stack));
            }
        }
        let found = last.and_then(|stack| Some((stack, stacks.remove(stack)?)));
        let (stack, found) = found.ok_or(ExportError::Lacking {
            folder: folder.to_owned(),
            what: "hidden states between layers",
            hint: "run with --take hidden:LAYERS and --take scores",
        })?;
        let parts = manifest["parts"].as_array().and_then(|parts| parts.first());
        let of_run = parts.unwrap_or(&manifest);
        let layers = of_run["layer_seconds"][stack].as_array().map(Vec::len);
        let mut states = Self {
            layers: layers.unwrap_or(0),
            boundaries: Vec::new(),
            columns: 0,
            dtype: Dtype::F32,
            content: blake3::hash(manifest["files"].to_string().as_bytes()),
        };
        for (number, mut names) in found {
            // part-10 comes behind part-9.
            names.sort_by_key(|name| (name.len(), *name));
            let boundary = states.boundary(folder, &names)?;
            states.boundaries.push((number, boundary));
        }
        Ok(states)
    }

    fn boundary(&mut self, folder: &Path, names: &[&str]) -> Result<Boundary, ExportError> {
        let mut boundary = Boundary {
            name: names
                .first()
                .map_or_else(String::new, |name| (*name).to_owned()),
            files: Vec::new(),
            records: HashMap::new(),
        };
        for name in names {
            let path = folder.join(name);
            let damaged = |problem: String| ExportError::Damaged {
                path: path.clone(),
                problem,
            };
            let file = File::open(&path).map_err(|error| damaged(error.to_string()))?;
            let length = file
                .metadata()
                .map_err(|error| damaged(error.to_string()))?
                .len();
            let (entries, begin) = header(&file, length).map_err(damaged)?;
            for (id, entry) in entries {
                if id == "__metadata__" {
                    continue;
                }
                let entry: Entry = serde_json::from_value(entry)
                    .map_err(|error| damaged(format!("`{id}`: {error}")))?;
                let is_first = self.columns == 0;
                let &[rows, columns] = &entry.shape[..] else {
                    return Err(damaged(format!("`{id}` is no matrix")));
                };
                if is_first {
                    (self.columns, self.dtype) = (columns, entry.dtype);
                }
                if (columns, entry.dtype) != (self.columns, self.dtype) {
                    return Err(damaged(format!(
                        "`{id}` is of another size or type than others"
                    )));
                }
                let [start, end] = entry.data_offsets;
                let bytes = columns.checked_mul(self.dtype.size());
                let bytes = bytes.and_then(|bytes| bytes.checked_mul(rows));
                if bytes.is_none() || end.checked_sub(start) != bytes.map(|bytes| bytes as u64) {
                    return Err(damaged(format!(
                        "`{id}` has other bytes than its shape says"
                    )));
                }
                if begin.checked_add(end).is_none_or(|end| end > length) {
                    return Err(damaged(format!("it ends before `{id}` does")));
                }
                let place = (boundary.files.len(), begin + start, rows);
                boundary.records.insert(id, place);
            }
            boundary.files.push((path, file));
        }
        Ok(boundary)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.columns * self.dtype.size()
    }

    /// The rows of a record at a boundary; they must be as many as its tokens, and numbers.
    pub fn rows(
        &self,
        boundary: &Boundary,
        id: &str,
        tokens: usize,
    ) -> Result<Vec<u8>, ExportError> {
        let place = boundary.records.get(id);
        let first = boundary.files.first().map(|(path, _)| path.clone());
        let damaged = |path: Option<PathBuf>, problem: String| ExportError::Damaged {
            path: path.unwrap_or_default(),
            problem,
        };
        let Some(&(file, offset, rows)) = place else {
            return Err(damaged(first, format!("it has no record `{id}`")));
        };
        if rows != tokens {
            let problem = format!("record `{id}` has {rows} rows for {tokens} tokens");
            return Err(damaged(first, problem));
        }
        let (path, file) = &boundary.files[file];
        let mut bytes = vec![0; rows * self.row_bytes()];
        let read = file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| damaged(Some(path.clone()), error.to_string()))?;
        if self.dtype.is_finite(&bytes) {
            Ok(bytes)
        } else {
            Err(ExportError::NotFinite {
                id: id.to_owned(),
                boundary: boundary.name.clone(),
            })
        }
    }
}

/// The header of a safetensors file, and where its values begin.
fn header(file: &File, length: u64) -> Result<(serde_json::Map<String, Value>, u64), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    let header = u64::from_le_bytes(bytes);
    if header > HEADER || header > length.saturating_sub(8) {
        return Err("it is no safetensors file".into());
    }
    let mut text = vec![0; header as usize];
    file.read_exact_at(&mut text, 8).map_err(failed)?;
    let entries = serde_json::from_slice(&text);
    let entries = entries.map_err(|_| "its header is none of a safetensors file".to_owned())?;
    Ok((entries, 8 + header))
}
