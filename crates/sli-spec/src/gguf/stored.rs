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

/// Tensors that are a part of the configuration.
pub const FACTORS: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];
