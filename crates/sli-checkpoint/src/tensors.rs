//! What a checkpoint knows of its files and tensors.

use crate::dtype::Dtype;

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
    /// Size in bytes; the file holds that many from `offset` on.
    pub bytes: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}
