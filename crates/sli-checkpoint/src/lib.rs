//! Checkpoint files: bytes, tensors, coverage.
//!
//! A [`ByteSource`] yields byte ranges of named files; a [`Checkpoint`] is the index of the tensors
//! in them, read from headers alone; a [`Binding`] is a model description checked against a
//! checkpoint in both directions, with every weight bound to its tensors; a [`BoundLeaf`] reads the
//! rows of one of them, as few bytes of the files as hold them.
//!
//! Nothing in a file is believed: lengths are compared with the size of the file before anything is
//! allocated, arithmetic on them is checked, and every broken rule is an error with the file, the
//! tensor and the numbers.
#![deny(unsafe_code)]
#![expect(
    clippy::inline_always,
    reason = "what decodes must be inlined where its instruction set is switched on"
)]

mod binding;
mod checkpoint;
mod choice;
mod codes;
mod coverage;
mod decode;
mod dtype;
mod error;
mod evaluate;
mod examine;
mod folder;
mod formats;
mod identity;
mod leaf;
mod ledger;
mod leftover;
pub mod naming;
mod place;
mod problem;
mod read_plan;
mod sample;
mod scatter;
pub mod source;
mod suggest;
mod tensors;
mod ties;
mod view;

pub use binding::{Binding, BoundStack};
pub use checkpoint::Checkpoint;
pub use choice::{formats, is_other_format, is_weights};
pub use codes::{CODED_FORMS, Codes, UnknownCode};
pub use coverage::{CoverageReport, Ignored, Missing};
pub use decode::Buffers;
pub use dtype::{Dtype, Float};
pub use error::CheckpointError;
pub use folder::{FileReader, FolderError, Found, ModelFolder};
pub use formats::gguf::{GgufError, GgufFiles, List, Metadata};
pub use formats::safetensors::header::HeaderError;
pub use formats::shards::IndexError;
pub use formats::torch::TorchError;
pub use identity::{FileIdentity, ModelIdentity};
pub use leaf::BoundLeaf;
pub use ledger::{Changed, Ledger};
pub use place::ModelPlace;
pub use problem::LeafProblem;
pub use read_plan::FileRange;
pub use sample::Sample;
pub use source::{
    ByteSource, DIRECT_ALIGNMENT, LocalSource, ReadMode, SourceError, Stamp, is_wrong_path,
};
pub use suggest::without_numbers;
pub use tensors::{Choice, FileIndex, Index, TensorInfo, WeightFile};
pub use ties::HeadOrigin;
