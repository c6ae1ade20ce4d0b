//! What a file says of its model.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a file says and holds, as far as a description depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Numbers, texts and short lists of the metadata.
    pub values: BTreeMap<String, Value>,
    /// How many entries the other lists have.
    pub lists: BTreeMap<String, Value>,
    /// The token that fills up records.
    pub padding: Option<u64>,
    /// Shapes of the tensors, `[out, in]`.
    pub tensors: BTreeMap<String, Vec<usize>>,
    /// The numbers of the tensors that the rotation of queries and keys depends on ([`FACTORS`]).
    pub factors: BTreeMap<String, Vec<f64>>,
}

impl Stored {
    /// Whether a block drafts tokens, or has no tensors.
    pub(super) fn is_draft(&self, block: u64) -> bool {
        let begins = format!("blk.{block}.");
        let own = self.tensors.range(begins.clone()..);
        let mut own = own.take_while(|(name, _)| name.starts_with(&begins));
        let draft = format!("{begins}nextn.eh_proj.weight");
        self.tensors.contains_key(&draft) || own.next().is_none()
    }
}

/// Tensors that are a part of the configuration.
pub const FACTORS: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];
