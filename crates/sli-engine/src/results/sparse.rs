//! `sparse.parquet`: weights of the vocabulary's tokens, of those that have any.

use super::ResultsError;
use super::columns::{Columns, Kind};
use super::record_name::RecordName;
use super::rows::RowSpool;
use super::tables::from_spool;
use crate::journal::OutputFolder;

/// The table of sparse embeddings.
pub struct SparseSink(RowSpool);

impl SparseSink {
    const FILE: &str = "sparse.parquet";
    const COLUMNS: &Columns<'static> = &[
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("token_ids", Kind::ListU32),
        ("weights", Kind::ListF32),
    ];

    /// Starts the table, or continues it from the last checkpoint.
    pub fn open(folder: &OutputFolder) -> Result<Self, ResultsError> {
        RowSpool::open(folder, "sparse", Self::FILE).map(Self)
    }

    /// Appends a record: tokens in the order of their ids, with their weights.
    pub fn push(&self, record: RecordName<'_>, weights: &[(u32, f32)]) -> Result<(), ResultsError> {
        self.0.push(|row| {
            row.named(record);
            row.list_u32(weights.iter().map(|&(token, _)| token));
            row.list_f32(weights.iter().map(|&(_, weight)| weight));
        })
    }

    /// Writes the Parquet file.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        from_spool(folder, Self::FILE, Self::COLUMNS, &self.0)
    }
}
