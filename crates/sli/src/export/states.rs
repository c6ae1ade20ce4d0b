//! The hidden states of a finished run, record by record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sli_checkpoint::{Checkpoint, Dtype, TensorInfo};

use super::error::ExportError;

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

/// Whether all numbers are.
fn is_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    let half = |mask: u16| {
        let mut values = bytes.as_chunks().0.iter();
        values.all(|value| u16::from_le_bytes(*value) & mask != mask)
    };
    match dtype {
        Dtype::F16 => half(0x7c00),
        Dtype::Bf16 => half(0x7f80),
        _ => {
            let mut values = bytes.as_chunks().0.iter();
            values.all(|value| f32::from_le_bytes(*value).is_finite())
        }
    }
}

/// Bytes of a number of a state; `None`: no run stores them so.
fn size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::Bf16 => Some(2),
        _ => None,
    }
}

/// The states at a boundary, in one file or several.
pub struct Boundary {
    name: String,
    files: Vec<(PathBuf, Checkpoint)>,
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
        };
        for name in names {
            let path = folder.join(name);
            let damaged = |problem: String| ExportError::Damaged {
                path: path.clone(),
                problem,
            };
            let file = Checkpoint::open(&path).map_err(|error| damaged(error.to_string()))?;
            for TensorInfo {
                name, dtype, shape, ..
            } in file.tensors()
            {
                let &[_, columns] = &shape[..] else {
                    return Err(damaged(format!("`{name}` is no matrix")));
                };
                if self.columns == 0 {
                    (self.columns, self.dtype) = (columns, *dtype);
                }
                if (columns, *dtype) != (self.columns, self.dtype) || size(*dtype).is_none() {
                    return Err(damaged(format!(
                        "`{name}` is of another size or type than others"
                    )));
                }
            }
            boundary.files.push((path, file));
        }
        Ok(boundary)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.columns * size(self.dtype).unwrap_or(0)
    }

    /// The rows of a record at a boundary; they must be as many as its tokens, and numbers.
    pub fn rows(
        &self,
        boundary: &Boundary,
        id: &str,
        tokens: usize,
    ) -> Result<Vec<u8>, ExportError> {
        let mut files = boundary.files.iter();
        let found = files.find_map(|(path, file)| Some((path, file, file.tensor(id)?)));
        let first = boundary.files.first().map(|(path, _)| path);
        let damaged = |path: Option<&PathBuf>, problem: String| ExportError::Damaged {
            path: path.cloned().unwrap_or_default(),
            problem,
        };
        let Some((path, file, tensor)) = found else {
            return Err(damaged(first, format!("it has no record `{id}`")));
        };
        let rows = tensor.shape[0];
        if rows != tokens {
            let problem = format!("record `{id}` has {rows} rows for {tokens} tokens");
            return Err(damaged(Some(path), problem));
        }
        let mut bytes = vec![0; rows * self.row_bytes()];
        let read = file.read_at(tensor.file, tensor.offset, &mut bytes);
        read.map_err(|error| damaged(Some(path), error.to_string()))?;
        if is_finite(self.dtype, &bytes) {
            Ok(bytes)
        } else {
            Err(ExportError::NotFinite {
                id: id.to_owned(),
                boundary: boundary.name.clone(),
            })
        }
    }
}
