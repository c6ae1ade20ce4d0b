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

/// A record of a run.
pub struct Listed<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its token ids.
    pub tokens: &'a [u32],
    /// The runs of tokens that are its completion, each its first token and the one behind its last; `None` where it has none.
    pub completion: Option<&'a [[u32; 2]]>,
}

/// Shows every record of a run.
pub fn each_record(
    results: &Path,
    mut see: impl FnMut(&Listed<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    const COLUMNS: [&str; 3] = ["id", "token_ids", "completion_spans"];
    /// Rows that are in memory together.
    const ROWS: usize = 16;
    let path = table(results)?;
    let mut batches = FinishedTable::open(&path)?.batches(Some(&COLUMNS), ROWS)?;
    while let Some(batch) = batches.next() {
        let batch = batch?;
        let ids = batch.column_by_name("id");
        let ids = ids.and_then(|ids| ids.as_string_opt::<i32>());
        let tokens = batch.column_by_name("token_ids");
        let tokens = tokens.and_then(|tokens| tokens.as_list_opt::<i32>());
        let spans = batch.column_by_name("completion_spans");
        let spans = spans.and_then(|spans| spans.as_list_opt::<i32>());
        let (Some(ids), Some(tokens), Some(spans)) = (ids, tokens, spans) else {
            let problem = format!("it has not the columns `{}`", COLUMNS.join("`, `"));
            return Err(batches.damaged(problem).into());
        };
        for row in 0..batch.num_rows() {
            let own = tokens.value(row);
            let Some(own) = own.as_primitive_opt::<UInt32Type>() else {
                return Err(batches.damaged("`token_ids` are no numbers".into()).into());
            };
            if ids.is_null(row) {
                return Err(batches.damaged("a record has no id".into()).into());
            }
            let completion = spans.is_valid(row).then(|| pairs(&spans.value(row)));
            let completion = match completion {
                Some(None) => {
                    let problem = "`completion_spans` are no pairs of numbers".into();
                    return Err(batches.damaged(problem).into());
                }
                completion => completion.flatten(),
            };
            see(&Listed {
                id: ids.value(row),
                tokens: own.values(),
                completion: completion.as_deref(),
            })?;
        }
    }
    Ok(())
}

/// Lists of two numbers each.
fn pairs(lists: &dyn Array) -> Option<Vec<[u32; 2]>> {
    let lists = lists.as_list_opt::<i32>()?.iter();
    lists
        .map(|pair| {
            let pair = pair?;
            let values = pair.as_primitive_opt::<UInt32Type>()?.values();
            <[u32; 2]>::try_from(&values[..]).ok()
        })
        .collect()
}

/// Takes the tokens of a record into what a dataset is known by.
pub fn update(content: &mut blake3::Hasher, tokens: &[u32]) {
    content.update(&(tokens.len() as u64).to_le_bytes());
    for token in tokens {
        content.update(&token.to_le_bytes());
    }
}
