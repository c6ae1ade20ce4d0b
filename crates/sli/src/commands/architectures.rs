//! `sli architectures`: the registry.

use sli_engine::EngineError;
use sli_spec::Facts;
use sli_spec::registry::MODEL_TYPES;

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
        return terminal::print_json(&facts);
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
    terminal::print(&table(&rows))
}

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}
