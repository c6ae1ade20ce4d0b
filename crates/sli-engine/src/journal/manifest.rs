//! What a complete run keeps on disk.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::JournalError;
use super::files::{MANIFEST, read_if_there};
use super::key::RunKey;
use crate::fingerprint;

/// Of a finished run, this many bytes of its smallest results are compared with their hashes when it is opened:
/// a tenth of a second or two.
pub(super) const CHECKED: u64 = 256 << 20;

/// The content of a `run.json`.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub(super) json: Value,
    pub(super) key: RunKey,
    pub(super) files: Vec<ResultFile>,
}

/// A file of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFile {
    /// Path relative to the output folder, with `/`.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// blake3 of the content, in hexadecimal; folders of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl Manifest {
    /// Everything in it.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// What the results depend on.
    pub fn key(&self) -> &RunKey {
        &self.key
    }

    /// The result files.
    pub fn files(&self) -> &[ResultFile] {
        &self.files
    }

    /// Of a finished run. `None` if there is no manifest; a file of another program is [`JournalError::NotOurs`].
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, JournalError> {
        let Some(bytes) = read_if_there(&folder.join(MANIFEST))? else {
            return Ok(None);
        };
        let ours = || {
            let json: Value = serde_json::from_slice(&bytes).ok()?;
            json.get("sli")?.as_str()?;
            let key = serde_json::from_value(json.get("key")?.clone()).ok()?;
            let files = serde_json::from_value(json.get("files")?.clone()).ok()?;
            Some(Self { json, key, files })
        };
        ours()
            .map(Some)
            .ok_or_else(|| JournalError::NotOurs(folder.to_owned()))
    }

    /// That every file is there with its length, and small ones with their content.
    fn check(&self, folder: &Path) -> Result<(), JournalError> {
        let mut left = CHECKED;
        let mut files: Vec<&ResultFile> = self.files.iter().collect();
        files.sort_by_key(|file| file.bytes);
        for file in files {
            let path = folder.join(&file.name);
            let problem = match fs_err::metadata(&path) {
                Ok(metadata) if metadata.len() == file.bytes => {
                    left = left.saturating_sub(file.bytes);
                    let Some(hash) = file.blake3.as_ref().filter(|_| left > 0) else {
                        continue;
                    };
                    if fingerprint::of_file(&path)? == *hash {
                        continue;
                    }
                    format!("its content is not what {MANIFEST} says was written")
                }
                Ok(metadata) => {
                    format!(
                        "{MANIFEST} says {} bytes, it has {}",
                        file.bytes,
                        metadata.len()
                    )
                }
                Err(_) => format!("{MANIFEST} lists it, but it is not there"),
            };
            return Err(JournalError::Damaged { path, problem });
        }
        Ok(())
    }
}

impl Manifest {
    /// The manifest, if it is of the run `key` and its files are as it says.
    pub(super) fn finished(&self, folder: &Path, key: &RunKey) -> Result<Self, JournalError> {
        different(folder, &self.key, key)?;
        self.check(folder)?;
        Ok(self.clone())
    }
}

/// That a run of the key `is` may go on with what one of the key `was` left.
pub(super) fn different(folder: &Path, was: &RunKey, is: &RunKey) -> Result<(), JournalError> {
    let differences = was.difference(is);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(JournalError::Different {
            path: folder.to_owned(),
            differences,
        })
    }
}
