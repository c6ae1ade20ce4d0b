//! Parts within names that a wrapper adds and that change nothing about the weight.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// Modules that hand on what the module within them gives. A part of this name is left out unless
/// the model's own names have it.
///
/// Not among them, because the weight alone is not what the module multiplies with: `parametrizations`
/// (weight norm, spectral norm), `lora_A` and its like, quantisers.
const TRANSPARENT: &[&str] = &[
    // torch: DistributedDataParallel, torch.compile, FSDP, activation checkpoints, pipelines.
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_wrapped_module",
    "_module",
    // PEFT: the layer that an adapter was merged into, and the copy of a layer trained as a whole.
    "base_layer",
    "original_module",
];

/// PEFT keeps the trained copies of a layer here by the name of the adapter, which follows.
const BY_ADAPTER: &str = "modules_to_save";

/// A name without the wrappers in it, and which those were. What it begins with is a prefix, not a
/// wrapper, and stays.
pub(super) fn unwrap<'n>(
    name: &'n str,
    words: &BTreeSet<&str>,
) -> (Cow<'n, str>, BTreeSet<&'static str>) {
    let mut dropped = BTreeSet::new();
    let is_wrapper = |part: &str| {
        let listed = TRANSPARENT.iter().chain([&BY_ADAPTER]);
        listed
            .copied()
            .find(|&wrapper| wrapper == part && !words.contains(wrapper))
    };
    if !name
        .split('.')
        .skip(1)
        .any(|part| is_wrapper(part).is_some())
    {
        return (Cow::Borrowed(name), dropped);
    }
    let mut kept = Vec::new();
    let mut parts = name.split('.');
    kept.extend(parts.next());
    while let Some(part) = parts.next() {
        match is_wrapper(part) {
            None => kept.push(part),
            Some(wrapper) => {
                dropped.insert(wrapper);
                if wrapper == BY_ADAPTER {
                    parts.next();
                }
            }
        }
    }
    (Cow::Owned(kept.join(".")), dropped)
}

/// Whether a part of a name is a layer's or an expert's number.
pub(super) fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_within_names_are_left_out() {
        let words = BTreeSet::from(["model", "layers", "weight"]);
        for (stored, plain) in [
            (
                "model.layers.0._checkpoint_wrapped_module.q.weight",
                "model.layers.0.q.weight",
            ),
            (
                "model._orig_mod.layers.0.module.q.base_layer.weight",
                "model.layers.0.q.weight",
            ),
            ("lm_head.modules_to_save.default.weight", "lm_head.weight"),
            (
                "module.lm_head.original_module.weight",
                "module.lm_head.weight",
            ),
            (
                "model.q.parametrizations.weight.original0",
                "model.q.parametrizations.weight.original0",
            ),
        ] {
            assert_eq!(unwrap(stored, &words).0, plain);
        }
        let own = BTreeSet::from(["module"]);
        assert_eq!(unwrap("a.module.weight", &own).0, "a.module.weight");
    }
}
