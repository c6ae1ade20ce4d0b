//! The registry.

use serde::Serialize;
use sli_engine::EngineError;
use sli_spec::Facts;
use sli_spec::registry::{MODEL_TYPES, REFUSED_TYPES, RefusedType};

use crate::error::Error;

/// The facts of every supported model type.
pub fn facts() -> Result<Vec<Facts>, Error> {
    let facts = MODEL_TYPES.iter().map(Facts::of);
    let facts = facts.collect::<Result<_, _>>();
    Ok(facts.map_err(|source| EngineError::Config {
        path: "the registry".into(),
        source,
    })?)
}

/// Every model type, supported or refused.
pub fn architectures() -> Result<Vec<Listed>, Error> {
    let supported = facts()?.into_iter().map(|facts| Listed::Supported {
        supported: true,
        facts: Box::new(facts),
    });
    let refused = REFUSED_TYPES.iter().map(|&refused| Listed::Refused {
        supported: false,
        refused,
    });
    Ok(supported.chain(refused).collect())
}

/// An entry of the machine-readable list.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Listed {
    /// A type that runs.
    Supported {
        /// `true`.
        supported: bool,
        /// What is known of it.
        #[serde(flatten)]
        facts: Box<Facts>,
    },
    /// A type that is known and does not run.
    Refused {
        /// `false`.
        supported: bool,
        /// Why.
        #[serde(flatten)]
        refused: RefusedType,
    },
}
