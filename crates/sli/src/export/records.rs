//! The records of a finished run.

use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt32Type;

use super::error::ExportError;
use crate::finished_table::FinishedTable;

/// The table that has the tokens.
pub fn table(results: &Path) -> Result<PathBuf, ExportError> {
    let path = results.join("scores.parquet");
    if path.exists() {
        return Ok(path);
    }
    Err(ExportError::Lacking {
        folder: results.to_owned(),
        what: "the tokens of the records (`scores`)",
        hint: "run with --take scores, too: its table has the tokens",
    })
}

/// Shows the token ids of every record of a run, with its id.
pub fn each_record(
    results: &Path,
    mut see: impl FnMut(&str, &[u32]) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    /// Rows that are in memory together.
    const ROWS: usize = 16;
    let path = table(results)?;
    let mut batches = FinishedTable::open(&path)?.batches(Some(&["id", "token_ids"]), ROWS)?;
    while let Some(batch) = batches.next() {
        let batch = batch?;
        let ids = batch.column_by_name("id");
        let ids = ids.and_then(|ids| ids.as_string_opt::<i32>());
        let tokens = batch.column_by_name("token_ids");
        let tokens = tokens.and_then(|tokens| tokens.as_list_opt::<i32>());
        let (Some(ids), Some(tokens)) = (ids, tokens) else {
            let problem = "it has not the columns `id` and `token_ids`";
            return Err(batches.damaged(problem.into()).into());
        };
        for row in 0..batch.num_rows() {
            let own = tokens.value(row);
            let Some(own) = own.as_primitive_opt::<UInt32Type>() else {
                return Err(batches.damaged("`token_ids` are no numbers".into()).into());
            };
            if ids.is_null(row) {
                return Err(batches.damaged("a record has no id".into()).into());
            }
            see(ids.value(row), own.values())?;
        }
    }
    Ok(())
}

/// Takes the tokens of a record into what a dataset is known by.
pub fn update(content: &mut blake3::Hasher, tokens: &[u32]) {
    content.update(&(tokens.len() as u64).to_le_bytes());
    for token in tokens {
        content.update(&token.to_le_bytes());
    }
}
