//! What makes a checkpoint the same model: content, not paths or times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Identity of a checkpoint: its index by content, weight files by size and the content of their headers. A copied or touched folder is the same model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// By file name.
    pub files: BTreeMap<String, FileIdentity>,
}

/// Identity of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileIdentity {
    /// A file known by its whole content.
    Content {
        /// BLAKE3 in hexadecimal.
        digest: String,
    },
    /// A weight file.
    Weights {
        /// Size in bytes.
        size: u64,
        /// BLAKE3 of the header in hexadecimal.
        header: String,
    },
}

impl ModelIdentity {
    /// What differs between this identity and a later one, one sentence a file; empty if nothing.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (file, before) in &self.files {
            match now.files.get(file) {
                None => differences.push(format!("`{file}` is gone")),
                Some(after) if after == before => {}
                Some(after) => differences.push(before.difference(file, after)),
            }
        }
        let new = now
            .files
            .keys()
            .filter(|file| !self.files.contains_key(*file));
        differences.extend(new.map(|file| format!("`{file}` is new")));
        differences
    }
}

impl FileIdentity {
    fn difference(&self, file: &str, now: &Self) -> String {
        match (self, now) {
            (Self::Weights { size: before, .. }, Self::Weights { size: after, .. })
                if before != after =>
            {
                format!("`{file}` had {before} bytes and has {after}")
            }
            (Self::Weights { .. }, Self::Weights { .. }) => {
                format!("the header of `{file}` has other content")
            }
            _ => format!("`{file}` has other content"),
        }
    }
}
