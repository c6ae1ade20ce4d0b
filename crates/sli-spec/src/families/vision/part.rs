//! How a part of a model is described.

use crate::{Config, Described, SpecError};

/// Describes a part of a model by its own type.
pub type DescribePart = fn(&Config) -> Result<Described, SpecError>;
