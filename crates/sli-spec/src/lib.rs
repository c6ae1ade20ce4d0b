//! `config.json` to [`ModelSpec`]: an inert, comparable, printable description of a transformer.
//!
//! Nothing here reads a file or touches a tensor. A *family* is a function from a [`Config`] to a
//! [`ModelSpec`]; the [`registry`] is the one table that maps a `model_type` to its family. Loading,
//! execution, memory planning, coverage and documentation are all derived from the description.
#![deny(unsafe_code)]

pub mod build;
mod class;
pub mod config;
mod defaults;
mod error;
pub mod facts;
pub mod families;
pub mod gguf;
mod ignorable;
mod known_keys;
pub mod mechanisms;
mod mlx;
pub mod model;
mod model_type;
pub mod parts;
pub mod registry;
pub mod rope;
pub mod source;
mod spelling;
mod weight_names;

pub use build::Described;
pub use class::{CLASSIFIER, Class, HEAD, Instead};
pub use config::{Config, Unread, quote_non_finite};
pub use defaults::Task;
pub use error::{SpecError, UnreadKey};
pub use facts::Facts;
pub use mechanisms::*;
pub use model::*;
pub use parts::{
    Activation, Adapter, Alibi, Apart, AxisDistances, BoxBuckets, BoxTerm, Convolution,
    CornerSines, Cut, DenseConvolution, DistanceKeys, DistanceProfiles, DistanceRule,
    DistanceTable, DistanceVectors, Gain, GatedMean, HeadNorm, HeadTemperature, HyperConnection,
    KeyConvolution, LengthLimit, Limits, Linear, Mask, Norm, NormKind, NormSpan, Position,
    QueryBiases, QueryTemperature, RelativeBuckets, ResidualGate, RowPlaces, RowWeights, Segments,
    Slot, SparseBlocks, StoredNorm, StreamReading, StreamWeights,
};
pub use registry::{BESIDE, Built, Options, describe};
pub use source::{Elementwise, Leaf, Shard, Source, Split, WeightIndex};
pub use weight_names::weight_names;
