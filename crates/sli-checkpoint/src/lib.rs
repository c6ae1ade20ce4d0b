//! Checkpoint files: bytes, tensors, coverage.
//!
//! A [`ByteSource`] yields byte ranges of named files; a [`Checkpoint`] is the index of the tensors
//! in them, read from headers alone; a [`Binding`] is a model description checked against a
//! checkpoint in both directions; a [`ResolvedLeaf`] reads the rows of one logical weight, as few
//! bytes of the files as hold them.
//!
//! Nothing in a file is believed: lengths are compared with the size of the file before anything is
//! allocated, arithmetic on them is checked, and every broken rule is an error with the file, the
//! tensor and the numbers.
#![deny(unsafe_code)]

mod binding;
mod checkpoint;
mod choice;
mod convert;
mod coverage;
mod dtype;
mod error;
mod evaluate;
mod folder;
pub mod formats;
mod identity;
mod leaf;
mod ledger;
mod leftover;
pub mod naming;
mod opening;
mod read_plan;
mod sample;
mod scatter;
pub mod source;
mod suggest;
mod tensors;
mod view;

pub use binding::Binding;
pub use checkpoint::Checkpoint;
pub use choice::Choice;
pub use coverage::{CoverageReport, Ignored, Missing};
pub use dtype::Dtype;
pub use error::{CheckpointError, LeafProblem};
pub use folder::{FolderError, Found, ModelFolder};
pub use formats::index::IndexError;
pub use formats::safetensors::HeaderError;
pub use identity::{FileIdentity, ModelIdentity};
pub use leaf::ResolvedLeaf;
pub use ledger::{Changed, Ledger};
pub use read_plan::FileRange;
pub use sample::Sample;
pub use source::{
    ByteSource, DIRECT_ALIGNMENT, LocalSource, ReadMode, SourceError, Stamp, is_wrong_path,
};
pub use suggest::without_numbers;
pub use tensors::{FileIndex, TensorInfo, WeightFile};
