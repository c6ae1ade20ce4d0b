//! The tensor names that a type's checkpoints carry, as patterns.

use std::collections::BTreeSet;

use crate::registry::ModelType;
use crate::{Config, SpecError};

/// Every name that the type's default configuration may read: `{}` stands for a layer's or an
/// expert's number, ` | ` separates spellings of one weight.
pub fn weight_names(row: &ModelType) -> Result<Vec<String>, SpecError> {
    let config = Config::of_defaults(row.model_type);
    let spec = (row.describe)(&config)?.spec;
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |pattern: String| {
        if seen.insert(pattern.clone()) {
            names.push(pattern);
        }
    };
    for stack in &spec.stacks {
        for leaf in stack.input.leaves() {
            add(leaf.source.names().join(" | "));
        }
        for layer in &stack.layers {
            let pattern = numbered(&layer.prefix);
            for leaf in &layer.leaves {
                let spelled = leaf.source.names().into_iter().map(|name| {
                    match name.strip_prefix(layer.prefix.as_str()) {
                        Some(rest) => format!("{pattern}{rest}"),
                        None => name.to_owned(),
                    }
                });
                let spelled: BTreeSet<String> = spelled.collect();
                add(spelled.into_iter().collect::<Vec<_>>().join(" | "));
            }
        }
        for leaf in &stack.head.leaves {
            add(leaf.source.names().join(" | "));
        }
    }
    Ok(names)
}

/// A layer's prefix with `{}` for its number, which is the last one.
fn numbered(prefix: &str) -> String {
    let mut parts: Vec<&str> = prefix.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if let Some(part) = parts.iter_mut().rev().find(|part| is_number(part)) {
        *part = "{}";
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn the_last_number_is_the_layers() {
        assert_eq!(numbered("model.layers.0."), "model.layers.{}.");
        assert_eq!(numbered("h.12."), "h.{}.");
        assert_eq!(numbered("encoder."), "encoder.");
    }
}
