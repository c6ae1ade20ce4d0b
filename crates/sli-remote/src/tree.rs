//! What a commit holds, as the cache writes it down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::Entry;
use crate::sums::Sum;

/// A file of a commit, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeFile {
    pub size: u64,
    pub blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xet_hash: Option<String>,
}

/// The layout of such a file.
const VERSION: u64 = 1;

/// A commit, as it is written down.
#[derive(Serialize, Deserialize)]
pub(crate) struct Tree {
    format_version: u64,
    pub files: BTreeMap<String, TreeFile>,
}

impl Tree {
    pub fn new(files: BTreeMap<String, TreeFile>) -> Self {
        Self {
            format_version: VERSION,
            files,
        }
    }

    /// What a file says; one of a later layout, or half of one, is as good as none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let tree: Self = serde_json::from_slice(text).ok()?;
        let mut files = tree.files.iter();
        let is_sound = files.all(|(path, file)| file.is_sound(path));
        (tree.format_version == VERSION && is_sound).then_some(tree)
    }

    /// Its files as those of a place.
    pub fn entries(self) -> BTreeMap<String, Entry> {
        let files = self.files.into_iter();
        let entries = files.map(|(path, file)| (path.clone(), file.entry(path)));
        entries.collect()
    }
}

impl TreeFile {
    /// Whether it says what can be true.
    pub fn is_sound(&self, path: &str) -> bool {
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let parts = path.split('/');
        let is_inside = parts.into_iter().all(|part| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\\'])
        });
        is_inside
            && (is_hex(&self.blob_id, 40) || is_hex(&self.blob_id, 64))
            && self.lfs_sha256.as_ref().is_none_or(|sha| is_hex(sha, 64))
    }

    fn entry(self, path: String) -> Entry {
        let size = self.lfs_size.unwrap_or(self.size);
        match self.lfs_sha256 {
            Some(sha) => Entry {
                path,
                size,
                etag: sha.clone(),
                is_content: true,
                sum: Some(Sum::Sha256(sha)),
            },
            None => Entry {
                path,
                size,
                etag: self.blob_id.clone(),
                is_content: true,
                sum: (self.blob_id.len() == 40).then_some(Sum::Git(self.blob_id)),
            },
        }
    }
}
