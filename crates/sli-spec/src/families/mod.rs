//! The families: functions from a [`crate::Config`] to a [`crate::ModelSpec`]. The only place, with
//! the [`crate::registry`], where a model type's name appears.

pub mod bert;
pub mod decoder;
pub mod gpt2;
pub mod llama;
