//! What a folder is an export of.

use std::io::ErrorKind;

use serde_json::{Value, json};

use super::asked::{Export, Format};
use super::error::ExportError;
use super::states::States;
use crate::appearing::appear;

/// What an export is of, in its folder.
const MARK: &str = "export.json";

/// Says in the folder what it is an export of; a folder of another one, or of something else, is refused, as files that are there are
/// kept.
pub fn mark(
    asked: &Export<'_>,
    states: &States,
    context_size: Option<usize>,
) -> Result<(), ExportError> {
    let path = asked.out.join(MARK);
    let format = match asked.format {
        Format::Speculators => "speculators",
        Format::SaeLens => "saelens",
    };
    let mark = json!({
        "format": format,
        "context_size": context_size,
        "results": states.content.to_hex().as_str(),
    });
    let found = fs_err::read(&path).ok();
    let found = found.and_then(|found| serde_json::from_slice::<Value>(&found).ok());
    if found.as_ref() == Some(&mark) {
        return Ok(());
    }
    let is_empty = match fs_err::read_dir(asked.out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(error.into()),
    };
    if !is_empty {
        let what = match found {
            Some(_) => "is an export of other results, or in another form",
            None => "is not empty, and no export",
        };
        return Err(ExportError::Usage {
            problem: format!("{} {what}", asked.out.display()),
            hint: "give another --out, or remove that folder",
        });
    }
    fs_err::create_dir_all(asked.out)?;
    Ok(appear(&path, format!("{mark:#}\n").as_bytes())?)
}
