//! What a checkpoint knows of its files and tensors.

use crate::dtype::Dtype;
use crate::formats::gguf::Metadata;
use crate::identity::ModelIdentity;

/// Number of a weight file within its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileIndex(pub u32);

/// A file that holds weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightFile {
    /// Name within the source.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 of its header, in hexadecimal.
    pub header_digest: String,
}

/// A stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file; where several `consolidated` files hold a name, `#` and the file's number
    /// follow.
    pub name: Box<str>,
    /// The file that holds it.
    pub file: FileIndex,
    /// Element type.
    pub dtype: Dtype,
    /// Stored shape, row-major.
    pub shape: Box<[usize]>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Bytes from one element to the next along every axis, where they are not those of row-major order.
    pub strides: Option<Box<[u64]>>,
    /// Size in bytes, from the first of its elements to the last; the file holds that many from `offset` on.
    pub bytes: u64,
}

/// Which files of a folder are its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The file of the weights, the index of their shards, or the pattern of their parts.
    pub taken: String,
    /// Why.
    pub rule: &'static str,
    /// What would have been taken without it.
    pub left: Vec<String>,
}

/// What a format makes of the files of a checkpoint, from headers alone.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The weight files.
    pub files: Vec<WeightFile>,
    /// The tensors, sorted by name; no name occurs twice.
    pub tensors: Vec<TensorInfo>,
    /// What makes these files the same model as others.
    pub identity: ModelIdentity,
    /// What was taken of a folder and what was left.
    pub choice: Option<Choice>,
    /// What the files themselves say of the model, where their format has a place for that.
    pub metadata: Option<Metadata>,
    /// Bytes that were read for it.
    pub bytes_read: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}
