//! File formats: what bytes mean, with every rule of a format as an error variant.

pub mod index;
pub(crate) mod lookalike;
pub mod safetensors;
