//! File formats: what bytes mean, with every rule of a format as an error variant.
//!
//! A format is a file (or a folder) here and a row of [`FORMATS`]. What it makes of its files is an
//! [`Index`](crate::tensors::Index), plain data: names, element types, shapes, places, strides.

pub(crate) mod format;
pub(crate) mod gguf;
pub(crate) mod lookalike;
mod opening;
pub(crate) mod safetensors;
pub(crate) mod shards;
pub(crate) mod torch;

use format::Format;

/// Every format, in order of preference.
pub(crate) const FORMATS: &[&dyn Format] = &[&safetensors::Safetensors, &torch::Torch, &gguf::Gguf];
