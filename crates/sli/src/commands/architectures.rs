//! `sli architectures`: the registry.

use serde::Serialize;
use sli_engine::EngineError;
use sli_spec::Facts;
use sli_spec::registry::{MODEL_TYPES, REFUSED_TYPES, RefusedType};

use super::table::table;
use crate::cli::ArchitecturesArgs;
use crate::error::Error;
use crate::terminal;

/// Lists every supported model type.
pub fn architectures(arguments: &ArchitecturesArgs) -> Result<(), Error> {
    let facts = MODEL_TYPES
        .iter()
        .map(Facts::of)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| EngineError::Config {
            path: "the registry".into(),
            source,
        })?;
    if arguments.json {
        let supported = facts.into_iter().map(|facts| Listed::Supported {
            supported: true,
            facts: Box::new(facts),
        });
        let refused = REFUSED_TYPES.iter().map(|&refused| Listed::Refused {
            supported: false,
            refused,
        });
        return terminal::print_json(&supported.chain(refused).collect::<Vec<_>>());
    }
    let mut rows = vec![["TYPE", "FAMILY", "STACKS", "POSITIONS", "MIXERS"].map(str::to_owned)];
    rows.extend(facts.iter().map(|facts| {
        [
            facts.model_type.clone(),
            facts.family.to_owned(),
            facts.stacks.join(", "),
            joined(&facts.positions),
            joined(&facts.mixers),
        ]
    }));
    terminal::print(&table(&rows))?;
    let mut rows = vec![["NOT SUPPORTED", "BECAUSE"].map(str::to_owned)];
    rows.extend(
        REFUSED_TYPES
            .iter()
            .map(|row| [row.model_type, row.reason].map(str::to_owned)),
    );
    terminal::print(&format!("\n{}", table(&rows)))
}

/// An entry of the machine-readable list.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Supported {
        supported: bool,
        #[serde(flatten)]
        facts: Box<Facts>,
    },
    Refused {
        supported: bool,
        #[serde(flatten)]
        refused: RefusedType,
    },
}

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}
