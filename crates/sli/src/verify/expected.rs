//! What a reference expects: facts, and tensors, in one JSON or safetensors file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use sli_checkpoint::{BoundLeaf, Checkpoint};
use sli_spec::{Leaf, Source};

use super::error::VerifyError;

/// The version of the format.
const FORMAT: u32 = 1;

/// What stands behind the id of a record in the names of tensors that the model got, not gave.
const GIVEN: &str = "tensors.";

/// Where the facts are in the metadata of a safetensors file.
const KEY: &str = "sli.verify";

/// The largest file of JSON, and the largest header, bytes.
const LARGEST: u64 = 256 << 20;

/// What is said of the reference's run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The version of the format.
    pub format: u32,
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The class that was run.
    pub class: String,
    /// The type in which it was run.
    pub dtype: Dtype,
    /// Versions of what took part, by name.
    pub versions: BTreeMap<String, String>,
    /// The weight files, by name.
    pub files: BTreeMap<String, FileFacts>,
    /// What was run.
    pub records: Vec<Record>,
    /// The tokens of the rows of tensors that do not have all of them, by name.
    #[serde(default)]
    pub rows: BTreeMap<String, Vec<usize>>,
}

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 64 bits.
    Float64,
    /// 32 bits.
    Float32,
    /// 16 bits, 8 of them exponent.
    Bfloat16,
    /// 16 bits, 5 of them exponent.
    Float16,
}

impl Dtype {
    /// As torch has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float64 => "float64",
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }
}

/// A weight file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// One input.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it is called in the names of tensors.
    pub id: String,
    /// The text, where the tokens are of one.
    #[serde(default)]
    pub text: Option<String>,
    /// The tokens.
    pub input_ids: Vec<u32>,
    /// Their types.
    #[serde(default)]
    pub token_type_ids: Option<Vec<u32>>,
    /// The tokens of the decoder behind an encoder.
    #[serde(default)]
    pub decoder_input_ids: Option<Vec<u32>>,
}

/// Where in the model a tensor was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What enters the first layer, or the output of a layer: stack (`None`: the only one) and boundary.
    Hidden(Option<String>, usize),
    /// The end of a stack: behind the final norm, where there is one.
    End(Option<String>),
    /// The logits.
    Logits,
}

/// What a reference expects.
#[derive(Debug)]
pub struct Expected {
    /// The file.
    pub path: PathBuf,
    /// What is said of the run.
    pub facts: Facts,
    tensors: Tensors,
    /// Shape by name.
    shapes: BTreeMap<String, [usize; 2]>,
    /// The ids of records that have tensors beside their tokens.
    given: BTreeSet<String>,
}

#[derive(Debug)]
enum Tensors {
    Plain(BTreeMap<String, Vec<f32>>),
    Stored(Arc<Checkpoint>),
}

/// A file of JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    facts: Facts,
    tensors: BTreeMap<String, PlainTensor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainTensor {
    shape: [usize; 2],
    values: Vec<f32>,
}

impl Expected {
    /// Reads a file, and checks all that can be checked without the model and the values.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        // Errors of files begin with their path.
        let begin = format!("{}: ", path.display());
        let bad = |problem: String| VerifyError::Expected {
            path: path.to_owned(),
            problem: problem.strip_prefix(&begin).unwrap_or(&problem).to_owned(),
        };
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let (facts, tensors, shapes, given) = if json {
            read_plain(path).map_err(bad)?
        } else {
            read_stored(path).map_err(bad)?
        };
        let expected = Self {
            path: path.to_owned(),
            facts,
            tensors,
            shapes,
            given,
        };
        expected.check().map_err(bad)?;
        Ok(expected)
    }

    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        let facts = &self.facts;
        if facts.format != FORMAT {
            return Err(format!("its format is {}, this is {FORMAT}", facts.format));
        }
        if facts.records.is_empty() {
            return Err("it has no records".into());
        }
        if self.shapes.is_empty() {
            return Err("it has no tensors".into());
        }
        let mut seen = BTreeSet::new();
        for record in &facts.records {
            if !seen.insert(&record.id) || record.id.contains('.') || record.id.is_empty() {
                return Err(format!(
                    "the record id `{}` is empty, repeated or has a dot",
                    record.id
                ));
            }
            if record.input_ids.is_empty() {
                return Err(format!("record `{}` has no tokens", record.id));
            }
        }
        if let Some(id) = self.given.iter().find(|id| !seen.contains(id)) {
            return Err(format!(
                "it has tensors of the record `{id}`, which it does not have"
            ));
        }
        if let Some(name) = facts
            .rows
            .keys()
            .find(|name| !self.shapes.contains_key(*name))
        {
            return Err(format!("it names rows of `{name}`, which it does not have"));
        }
        for name in self.names() {
            self.place(name)?;
            self.rows(name)?;
            if self.shape(name).contains(&0) {
                return Err(format!("`{name}` is empty"));
            }
        }
        Ok(())
    }

    /// With what the names of the tensors begin that the model got beside the tokens of a record; `None`: it got none.
    pub fn given(&self, id: &str) -> Option<String> {
        let prefix = || format!("{id}.{GIVEN}");
        self.given.contains(id).then(prefix)
    }

    /// The names of all tensors that are expected of the model.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }

    /// The number of the record that a tensor is of, and its place.
    pub fn place(&self, name: &str) -> Result<(usize, Place), String> {
        let wrong = || {
            format!(
                "`{name}` is not the name of a tensor: RECORD.logits, RECORD.hidden.N or RECORD.hidden.STACK.N, N a number \
                 or `end`"
            )
        };
        let (id, place) = name.split_once('.').ok_or_else(wrong)?;
        let records = &self.facts.records;
        let record = records.iter().position(|record| record.id == id);
        let record =
            record.ok_or_else(|| format!("`{name}` is of a record that it does not have"))?;
        if place == "logits" {
            return Ok((record, Place::Logits));
        }
        let place = place.strip_prefix("hidden.").ok_or_else(wrong)?;
        let (stack, boundary) = match place.rsplit_once('.') {
            Some((stack, boundary)) => (Some(stack.to_owned()), boundary),
            None => (None, place),
        };
        if boundary == "end" {
            return Ok((record, Place::End(stack)));
        }
        let digits = boundary.bytes().all(|byte| byte.is_ascii_digit());
        let boundary = boundary.parse().ok().filter(|_| digits);
        Ok((record, Place::Hidden(stack, boundary.ok_or_else(wrong)?)))
    }

    /// The tokens of the rows of a tensor; `None`: all of them, in order.
    pub fn rows(&self, name: &str) -> Result<Option<&[usize]>, String> {
        let Some(rows) = self.facts.rows.get(name) else {
            return Ok(None);
        };
        let [count, _] = self.shapes.get(name).copied().unwrap_or_default();
        if rows.len() != count {
            return Err(format!(
                "`{name}` has {count} rows, and {} are named",
                rows.len()
            ));
        }
        Ok(Some(rows))
    }

    /// Rows and columns of a tensor.
    pub fn shape(&self, name: &str) -> [usize; 2] {
        self.shapes.get(name).copied().unwrap_or_default()
    }

    /// The values of a tensor.
    pub fn values(&self, name: &str) -> Result<Values<'_>, String> {
        match &self.tensors {
            Tensors::Plain(all) => Ok(Values::Plain(all.get(name).map_or(&[], Vec::as_slice))),
            Tensors::Stored(file) => Values::stored(file, name, self.shape(name)),
        }
    }
}

/// Rows of numbers.
pub enum Values<'a> {
    /// In memory.
    Plain(&'a [f32]),
    /// In a file.
    Stored(Box<BoundLeaf>),
}

impl Values<'_> {
    /// Those of a tensor of a file.
    pub fn stored(file: &Arc<Checkpoint>, name: &str, shape: [usize; 2]) -> Result<Self, String> {
        let leaf = Leaf::new(Source::tensor(name), shape.to_vec());
        let bound = BoundLeaf::bind(file, "", &leaf);
        bound
            .map(|leaf| Self::Stored(Box::new(leaf)))
            .map_err(|error| format!("`{name}`: {error}"))
    }

    /// One of them, of so many numbers.
    pub fn row(&self, row: usize, width: usize) -> Result<Cow<'_, [f32]>, String> {
        match self {
            Self::Plain(values) => {
                let row = values.get(row * width..(row + 1) * width);
                row.map(Cow::Borrowed)
                    .ok_or_else(|| "a row is missing".to_owned())
            }
            Self::Stored(leaf) => leaf
                .read_f32(0, row..row + 1)
                .map(Cow::Owned)
                .map_err(|error| error.to_string()),
        }
    }
}

type Opened = (
    Facts,
    Tensors,
    BTreeMap<String, [usize; 2]>,
    BTreeSet<String>,
);

fn read_plain(path: &Path) -> Result<Opened, String> {
    let metadata = fs_err::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > LARGEST {
        return Err(format!(
            "it has {} bytes; what is larger than {LARGEST} is a safetensors file",
            metadata.len()
        ));
    }
    let text = fs_err::read(path).map_err(|error| error.to_string())?;
    let plain: Plain = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let (mut tensors, mut shapes) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in plain.tensors {
        let [rows, columns] = tensor.shape;
        if rows.checked_mul(columns) != Some(tensor.values.len()) {
            return Err(format!(
                "`{name}` has {} values, not {rows} x {columns}",
                tensor.values.len()
            ));
        }
        shapes.insert(name.clone(), tensor.shape);
        tensors.insert(name, tensor.values);
    }
    Ok((
        plain.facts,
        Tensors::Plain(tensors),
        shapes,
        BTreeSet::new(),
    ))
}

fn read_stored(path: &Path) -> Result<Opened, String> {
    // First the tensors: what is wrong with the file itself is said there.
    let file = Checkpoint::open(path).map_err(|error| error.to_string())?;
    let (mut shapes, mut given) = (BTreeMap::new(), BTreeSet::new());
    for tensor in file.tensors() {
        if let Some((id, name)) = tensor.name.split_once('.')
            && name.starts_with(GIVEN)
        {
            given.insert(id.to_owned());
            continue;
        }
        let [rows, columns] = tensor.shape[..] else {
            return Err(format!("`{}` has not two dimensions", tensor.name));
        };
        shapes.insert(tensor.name.to_string(), [rows, columns]);
    }
    let facts = metadata_of(path)?.ok_or_else(|| {
        format!("its metadata has no `{KEY}`: it is not what tools/verify/expected.py writes")
    })?;
    let facts = serde_json::from_str(&facts).map_err(|error| format!("`{KEY}`: {error}"))?;
    Ok((facts, Tensors::Stored(Arc::new(file)), shapes, given))
}

/// The facts in the header of a safetensors file.
fn metadata_of(path: &Path) -> Result<Option<String>, String> {
    let mut file = fs_err::File::open(path).map_err(|error| error.to_string())?;
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|error| error.to_string())?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST {
        return Err(format!("its header has {length} bytes"));
    }
    let mut header = Vec::new();
    let read = file.take(length).read_to_end(&mut header);
    read.map_err(|error| error.to_string())?;
    let header: Value = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    let facts = header.get("__metadata__").and_then(|all| all.get(KEY));
    Ok(facts.and_then(Value::as_str).map(str::to_owned))
}
