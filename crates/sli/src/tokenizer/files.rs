//! JSON of a model folder as Python reads it.

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use super::error::TokenizerError;

/// Largest `tokenizer.json` that is read, bytes.
pub(super) const FILE_LIMIT: u64 = 1 << 30;

/// Largest settings file that is read, bytes.
pub const SETTINGS_LIMIT: u64 = 64 << 20;

/// An object of a file, in which `Infinity` and `NaN` may stand; `None` if there is no such file.
pub fn read_object(
    folder: &ModelFolder,
    name: &str,
) -> Result<Option<Map<String, Value>>, TokenizerError> {
    let broken = |problem: String| TokenizerError::Broken {
        path: folder.join(name),
        problem,
    };
    let Some(bytes) = folder.read(name, SETTINGS_LIMIT)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| broken(error.to_string()))?;
    serde_json::from_str(&sli_spec::quote_non_finite(&text))
        .map(Some)
        .map_err(|error| broken(error.to_string()))
}
