//! What is to be exported, and what was.

use std::path::Path;

/// In whose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `hidden_states/hs_<i>.safetensors` and the dataset whose row i that is.
    Speculators,
    /// A dataset of pieces of records for each boundary.
    SaeLens,
}

/// What is to be exported.
#[derive(Clone, Debug)]
pub struct Export<'a> {
    /// Folder of a finished run.
    pub results: &'a Path,
    /// In whose files.
    pub format: Format,
    /// Tokens of a piece; by default as many as every record has.
    pub context_size: Option<usize>,
    /// Where to.
    pub out: &'a Path,
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records, or pieces of records.
    pub rows: u64,
    /// Files that were there before.
    pub kept: u64,
    /// Records, or ends of records, that the format has no place for.
    pub left_out: u64,
}
