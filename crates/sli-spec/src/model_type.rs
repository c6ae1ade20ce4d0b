//! A row of the table of model types.

use crate::{Config, Described, SpecError};

/// A supported `model_type`.
#[derive(Clone, Copy, Debug)]
pub struct ModelType {
    /// The name in `config.json`.
    pub model_type: &'static str,
    /// From a configuration of this type to its description.
    pub describe: fn(&Config) -> Result<Described, SpecError>,
    /// What it cannot do here that its description does not show.
    pub limit: Option<&'static str>,
}

pub(crate) const fn row(
    model_type: &'static str,
    describe: fn(&Config) -> Result<Described, SpecError>,
) -> ModelType {
    ModelType {
        model_type,
        describe,
        limit: None,
    }
}

pub(crate) const fn limited(row: ModelType, limit: &'static str) -> ModelType {
    ModelType {
        limit: Some(limit),
        ..row
    }
}
