//! Which keys of a `config.json` the reference's classes read.
//!
//! `known_keys.json` and `reads` in the files of the types are written by `tools/defaults/generate.py` from the
//! sources of the pinned transformers; [`PUBLISHED`] is kept by hand, each entry after a published file.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::defaults;

/// A key that published files have and no configuration class of the reference declares.
struct Published {
    key: &'static str,
    /// The types in whose files it is; none: in files of many types.
    types: &'static [&'static str],
}

const fn published(key: &'static str, types: &'static [&'static str]) -> Published {
    Published { key, types }
}

/// Types of BART's form, whose files were converted from fairseq's and Marian's.
const BART_LIKE: &[&str] = &[
    "bart",
    "blenderbot",
    "blenderbot-small",
    "marian",
    "mbart",
    "mvp",
    "pegasus",
    "plbart",
];

/// Keys without effect in published files, sorted. Where they were found: `docs/decisions/015`.
const PUBLISHED: &[Published] = &[
    published("add_bias_logits", BART_LIKE),
    published("add_final_layer_norm", BART_LIKE),
    published("classif_dropout", BART_LIKE),
    published("extra_pos_embeddings", BART_LIKE),
    published("force_bos_token_to_be_generated", BART_LIKE),
    published("full_attn_mod", &["phi3"]),
    published("fused_add_norm", &["mamba"]),
    published("interpolate_factor", &["phi3"]),
    published("is_llama_config", &["llama"]),
    published("learned_embeddings", &["opt"]),
    published("max_sequence_length", &["llama", "orion"]),
    published("moe_router_dtype", &["glm_moe_dsa"]),
    published("norm_before_gate", &["mamba2"]),
    published("normalize_embedding", &["bart"]),
    published("pad_vocab_size_multiple", &["mamba"]),
    published("rope_interleaved", &["llama"]),
    published("rope_parameters.finetuned", &[]),
    published("rope_parameters.mrope_interleaved", &[]),
    published("save_step", &["bart"]),
    published("scale_embeddings", &["opt"]),
    published("static_position_embeddings", &["bart"]),
];

#[derive(Deserialize)]
struct Table {
    known: BTreeSet<String>,
    shared: BTreeSet<String>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("known_keys.json")).expect("the embedded table is valid")
    })
}

/// What a key is to the reference's classes of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A class reads it, or its sources mention it.
    Read,
    /// In published files of the type, and no class reads it.
    Published,
    /// A key of other types, which no class of this one reads.
    Foreign,
    /// Nobody's key.
    Unknown,
}

/// The standing of a key of the outermost object, or of `rope_parameters.KEY`.
pub(crate) fn standing(model_type: &str, key: &str) -> Standing {
    let listed = PUBLISHED.iter().find(|published| published.key == key);
    if listed.is_some_and(|published| published.types.contains(&model_type)) {
        return Standing::Published;
    }
    let (table, row) = (table(), defaults::row(model_type));
    let Some((row, of_type)) = row.and_then(|row| Some((row, row.reads.as_ref()?))) else {
        return Standing::Unknown;
    };
    let declared = row.defaults.contains_key(key) || row.attribute_map.contains_key(key);
    if declared || table.shared.contains(key) || of_type.contains(key) {
        Standing::Read
    } else if listed.is_some_and(|published| published.types.is_empty()) {
        Standing::Published
    } else if table.known.contains(key) {
        Standing::Foreign
    } else {
        Standing::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::PUBLISHED;
    use crate::defaults::{self, is_remote};
    use crate::registry::MODEL_TYPES;

    #[test]
    fn the_reads_of_every_type_of_the_reference_are_known() {
        for row in MODEL_TYPES.iter().filter(|row| !is_remote(row.model_type)) {
            let reads = defaults::row(row.model_type).and_then(|row| row.reads.as_ref());
            assert!(reads.is_some(), "{}", row.model_type);
        }
        assert!(PUBLISHED.windows(2).all(|pair| pair[0].key < pair[1].key));
    }
}
