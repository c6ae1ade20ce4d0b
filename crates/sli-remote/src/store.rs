//! A place with files that are fetched by ranges.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Read;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::client::{Client, Trouble};
use crate::error::RemoteError;
use crate::sums::{Sum, hex};

/// A file of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path in the place, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What it is called where it is kept.
    pub etag: String,
    /// Another content has another such name.
    pub is_content: bool,
    /// What its bytes add up to, where the place says so.
    pub sum: Option<Sum>,
}

impl Entry {
    /// A file of which no sum is known: its content is known by its size and what is `said` of it beside that, if anything is.
    pub fn by_what_is_said(path: String, size: u64, said: [&str; 2]) -> Self {
        let [etag, modified] = said;
        let content = format!("{path}\0{size}\0{etag}\0{modified}");
        Self {
            path,
            size,
            etag: hex(&Sha256::digest(content.as_bytes())),
            is_content: said.iter().any(|said| !said.is_empty()),
            sum: None,
        }
    }
}

/// What a place is called where it is kept: its name, and what tells it from others of this name.
pub(crate) fn kept_as(name: &str, address: &str) -> String {
    let digest = Sha256::digest(address.as_bytes());
    format!("{name}-{}", hex(&digest[..8]))
}

/// Bytes on their way.
pub(crate) type Arriving = Box<dyn Read + Send>;

/// A place with files.
pub(crate) trait Store: Debug + Send + Sync {
    /// For messages: what the user calls it.
    fn describe(&self) -> String;

    /// All its files by path; `None` where it cannot say.
    fn entries(&self) -> Option<&BTreeMap<String, Entry>>;

    /// The file of this path.
    fn entry(&self, path: &str) -> Result<Option<Entry>, RemoteError>;

    /// One attempt to have a range of a file, which is not empty. As many bytes as can be had arrive.
    fn open(&self, entry: &Entry, range: Range<u64>) -> Result<Arriving, Trouble>;

    /// What it is asked with.
    fn client(&self) -> &Client;
}
