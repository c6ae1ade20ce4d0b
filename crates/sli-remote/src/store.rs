//! A place with files that are fetched by ranges.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Read;
use std::ops::Range;

use crate::client::{Client, Trouble};
use crate::error::RemoteError;

/// What a place says that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// SHA-256 of its bytes, hexadecimal.
    Sha256(String),
    /// SHA-1 of it as a blob of git, hexadecimal.
    Git(String),
}

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
