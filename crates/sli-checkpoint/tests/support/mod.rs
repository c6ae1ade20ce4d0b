//! Checkpoints made in memory.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(
    clippy::allow_attributes,
    reason = "whether code is dead differs by test file"
)]

pub mod made;

use std::fmt::Write;
use std::sync::Arc;

use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{BoundLeaf, Checkpoint, CheckpointError, Dtype};
use sli_spec::{Leaf, Source};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn new(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// `0.0, 1.0, ...`
    pub fn counting(name: &str, shape: &[usize]) -> Self {
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
        Self::new(name, Dtype::F32, shape, bytes)
    }
}

/// The bytes of a safetensors file with these tensors, in this order.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes.len();
        write!(
            header,
            ",{}:{{\"dtype\":\"{}\",\"shape\":{:?},\"data_offsets\":[{start},{end}]}}",
            serde_json::to_string(&tensor.name).expect("a string"),
            tensor.dtype,
            tensor.shape,
        )
        .expect("a string");
    }
    header.push('}');
    let mut file = with_header(&header);
    file.extend(tensors.iter().flat_map(|tensor| &tensor.bytes));
    file
}

/// The length of a header and the header.
pub fn with_header(header: &str) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file
}

/// A checkpoint of one file.
pub fn checkpoint(tensors: &[Tensor]) -> Arc<Checkpoint> {
    let source = MemorySource::new().with("model.safetensors", safetensors(tensors));
    Arc::new(Checkpoint::open_with(Box::new(source)).expect("a sound checkpoint"))
}

pub fn leaf(source: Source, shape: &[usize]) -> Leaf {
    Leaf::new(source, shape)
}

/// A leaf of a model without a base prefix, bound.
pub fn bind(checkpoint: &Arc<Checkpoint>, leaf: &Leaf) -> Result<BoundLeaf, CheckpointError> {
    BoundLeaf::bind(checkpoint, "", leaf)
}
