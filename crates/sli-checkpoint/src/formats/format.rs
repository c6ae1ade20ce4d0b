//! What a format is.

use std::fmt::Debug;

use crate::error::CheckpointError;
use crate::source::{ByteSource, SourceError};
use crate::tensors::Index;

/// The files of a folder.
#[derive(Debug)]
pub(crate) struct Listing<'s> {
    pub source: &'s dyn ByteSource,
    /// Names of the files directly in it, sorted; none where the source cannot say.
    pub names: Vec<String>,
}

impl<'s> Listing<'s> {
    pub fn of(source: &'s dyn ByteSource) -> Result<Self, SourceError> {
        let mut names = match source.list("") {
            Err(SourceError::NotFound { .. }) => Vec::new(),
            other => other?,
        };
        names.sort_unstable();
        Ok(Self { source, names })
    }
}

/// A way in which a folder has weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The file, the index of its shards, or a pattern of parts.
    pub name: String,
    /// Why these files are weights.
    pub rule: &'static str,
    /// The files that it names by itself.
    pub files: Vec<String>,
}

impl Way {
    /// A file, or the index of its shards.
    pub fn one(name: impl Into<String>, rule: &'static str) -> Self {
        let name = name.into();
        Self {
            files: vec![name.clone()],
            name,
            rule,
        }
    }
}

/// A way in which weights lie in files.
pub(crate) trait Format: Debug + Send + Sync {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// How a folder has weights of this format, the way that counts first. Reads no more than the list of the folder
    /// and indices.
    fn ways(&self, listing: &Listing<'_>) -> Result<Vec<Way>, CheckpointError>;

    /// The tensors of these weights and where they are. Reads headers and indices alone.
    fn index(&self, source: &dyn ByteSource, way: &Way) -> Result<Index, CheckpointError>;

    /// Names by which [`Self::ways`] goes, for messages.
    fn looked_for(&self) -> &'static [&'static str];

    /// Whether a file that is named by itself is of this format, by its name.
    fn claims_file(&self, file: &str) -> bool;

    /// The tensors of a file that is named by itself.
    fn index_of_file(&self, source: &dyn ByteSource, file: &str) -> Result<Index, CheckpointError>;
}
