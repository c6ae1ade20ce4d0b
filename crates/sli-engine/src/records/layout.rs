//! How a spool lies in its files.

use serde::{Deserialize, Serialize};
use sli_spec::RowRule;

use crate::shard::Shard;

/// Set in an index entry's token count when the record has token types.
pub(super) const TYPED: u32 = 1 << 31;

/// Bytes of an index entry.
pub(super) const ENTRY: usize = 32;

/// Records between two remembered positions in `ids`.
pub(super) const ID_STRIDE: usize = 64;

pub(super) const FORMAT: u32 = 8;

pub(super) const FILES: [&str; 9] = [
    "tokens", "types", "ids", "index", "offsets", "marks", "labels", "features", "inputs",
];

/// What an index entry says of a record: it has a text; a completion; whose bytes are known; labels; features; inputs.
pub(super) const HAS_TEXT: u32 = 1;

pub(super) const HAS_COMPLETION: u32 = 2;

pub(super) const HAS_COMPLETION_BYTES: u32 = 4;

pub(super) const HAS_LABELS: u32 = 8;

pub(super) const HAS_FEATURES: u32 = 16;

pub(super) const HAS_INPUTS: u32 = 32;

pub(super) const HEADER: &str = "spool.json";

/// The folder of the second sequence.
pub(super) const DECODER: &str = "decoder";

/// The folder of the patches of pictures.
pub(super) const PICTURES: &str = "pictures";

/// The folders of the rows of stacks that have other rows than tokens, with a number each.
pub(super) const ROWS: &str = "rows";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) records: u64,
    /// Records of the input that were left out.
    pub(super) skipped: u64,
    pub(super) tokens: u64,
    pub(super) longest: u64,
    pub(super) longest_shared: u64,
    /// Records that are shorter than their texts.
    #[serde(default)]
    pub(super) cut: u64,
    /// Tokens at the beginning of every record that are a prompt which is not pooled.
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    /// Whether any record has an annotation.
    pub(super) annotated: bool,
    /// The smallest budget, bytes, with which the dataset became tokens.
    pub(super) needed: u64,
    /// Of which part of a dataset they are; `None`: of all of it.
    #[serde(default)]
    pub(super) shard: Option<Shard>,
    /// Length in bytes and blake3 of each of [`FILES`].
    pub(super) files: [(u64, String); 9],
    /// How often each record is there; 0 stands for once.
    #[serde(default)]
    pub(super) copies: u64,
    /// Whether records that have the same rows were looked for, of which only the first has features.
    #[serde(default)]
    pub(super) same: bool,
    /// Numbers of a token in the file `inputs`.
    #[serde(default)]
    pub(super) input_columns: u64,
    /// Hash of the second sequence, where there is one.
    #[serde(default)]
    pub(super) decoder: Option<String>,
    /// Hash of the patches of pictures, where there are any.
    #[serde(default)]
    pub(super) pictures: Option<String>,
    /// How rows follow from the tokens, and a hash of them, for each number.
    #[serde(default)]
    pub(super) rows: Vec<(RowRule, String)>,
}

/// What the index says of a record.
pub(super) struct IndexEntry {
    pub(super) tokens: u32,
    pub(super) typed: bool,
    pub(super) id_bytes: usize,
    /// Tokens with which it begins as the record before does; of pictures, how many records before the last is that has the same.
    pub(super) shared: u32,
    /// Its row in the input.
    pub(super) row: u64,
    /// [`HAS_TEXT`] and the others.
    pub(super) notes: u32,
    pub(super) text_bytes: u32,
    pub(super) completion_bytes: u32,
}

impl IndexEntry {
    /// Numbers that the record brought along.
    pub(super) fn features(&self) -> u64 {
        if self.notes & HAS_FEATURES == 0 {
            return 0;
        }
        // In the place of a text.
        u64::from(self.text_bytes)
    }
}
