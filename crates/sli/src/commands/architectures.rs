//! `sli architectures`: the registry.

use sli_spec::registry::REFUSED_TYPES;

use super::table::table;
use crate::calls;
use crate::cli::ArchitecturesArgs;
use crate::error::Error;
use crate::terminal;

/// Lists every supported model type.
pub fn architectures(arguments: &ArchitecturesArgs) -> Result<(), Error> {
    if arguments.json {
        return terminal::print_json(&calls::architectures()?);
    }
    let facts = calls::facts()?;
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

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}
