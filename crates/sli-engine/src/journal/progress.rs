//! How far a run is.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::portion::Portion;
use crate::spent::Spent;

/// The blob of what was read of the weights: no accumulator, it stays where a super-batch starts again.
pub(crate) const WEIGHTS: &str = "weights";

/// How far a run is. Records are counted in input order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Records whose results are complete.
    pub records_done: u64,
    /// The super-batch that follows, if some of its layers are done.
    pub current: Option<SuperBatchProgress>,
    /// Passes of a super-batch through a layer so far, over all processes.
    pub layer_passes: u64,
    /// Tokens times the layers they ran through so far, over all processes; what records share counts
    /// once.
    pub token_layers: u64,
    /// What it cost so far, over all processes.
    #[serde(default)]
    pub spent: Spent,
    /// Saved accumulators by name; [`OutputFolder::save_blob`](super::OutputFolder::save_blob) enters them.
    pub blobs: BTreeMap<String, BufferRef>,
}

/// A super-batch between two layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuperBatchProgress {
    /// Its records, in the portions whose activations are in memory together.
    pub portions: Vec<Portion>,
    /// Whether records share what they have in common, where they can: then the activations are those of
    /// a tree.
    pub shared: bool,
    /// The stack that it is in.
    pub stack: usize,
    /// Layers of that stack that are done.
    pub boundary: usize,
    /// The activations there.
    pub buffers: Vec<BufferRef>,
    /// The ends of earlier stacks that later ones read.
    #[serde(default)]
    pub ends: Vec<EndProgress>,
    /// What was kept at boundaries until the end of the stack is there.
    #[serde(default)]
    pub kept: Vec<KeptState>,
}

/// The hidden state of a part of a super-batch at a boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptState {
    /// Which boundary.
    pub boundary: usize,
    /// Which part.
    pub part: usize,
    /// Its rows.
    pub buffer: BufferRef,
}

/// The end of a stack, part by part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndProgress {
    /// Which stack.
    pub stack: usize,
    /// Its rows in every part.
    pub buffers: Vec<BufferRef>,
}

impl SuperBatchProgress {
    /// All of its records.
    pub fn records(&self) -> Range<usize> {
        let (first, last) = (self.portions.first(), self.portions.last());
        let first = first.map_or(0, |portion| portion.records.start);
        first..last.map_or(first, |portion| portion.records.end)
    }
}

/// A file of saved values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferRef {
    pub(super) file: String,
    /// Rows; of a blob its length in bytes.
    pub rows: usize,
    /// Columns; of a blob 1.
    pub cols: usize,
    pub(super) blake3: String,
}

/// What a checkpoint knows of a file that grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The length that counts.
    pub length: u64,
    /// A sum of what was written, so that it is known again: whose, the file's kind decides.
    pub digest: String,
}
