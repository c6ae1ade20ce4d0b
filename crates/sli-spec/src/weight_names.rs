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
            for leaf in &layer.leaves {
                let spelled = leaf.source.names().into_iter();
                let spelled = spelled.map(|name| numbered(name, &layer.prefix));
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

/// A name with `{}` for the number of its layer: the last one of the layer's prefix, behind what stands in front of it there.
fn numbered(name: &str, prefix: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = prefix.split('.').collect();
    let Some(at) = parts.iter().rposition(|part| is_number(part)) else {
        return name.to_owned();
    };
    // Spellings differ in what stands in front of both.
    let own = &parts[at.saturating_sub(1)..=at];
    let mut parts: Vec<&str> = name.split('.').collect();
    let found = parts.windows(own.len()).position(|parts| parts == own);
    if let Some(place) = found {
        parts[place + own.len() - 1] = "{}";
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn the_number_of_the_layer_is_left_open() {
        let numbered_in = |prefix| move |name| numbered(name, prefix);
        let of_layers = numbered_in("model.layers.12.");
        assert_eq!(of_layers("model.layers.12.mlp.w"), "model.layers.{}.mlp.w");
        assert_eq!(
            of_layers("text.model.layers.12.w"),
            "text.model.layers.{}.w"
        );
        assert_eq!(of_layers("model.layers.1.w"), "model.layers.1.w");
        assert_eq!(of_layers("model.norm.12.w"), "model.norm.12.w");
        assert_eq!(numbered("h.0.experts.0.w", "h.0."), "h.{}.experts.0.w");
        assert_eq!(numbered("0.w", "0."), "{}.w");
        assert_eq!(numbered("encoder.w", "encoder."), "encoder.w");
    }
}
