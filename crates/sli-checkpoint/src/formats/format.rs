//! What a format is.

use std::fmt::Debug;

use crate::error::CheckpointError;
use crate::source::{ByteSource, SourceError};
use crate::tensors::Index;

/// The files of a folder.
#[derive(Debug)]
pub(crate) struct Listing<'s> {
    pub source: &'s dyn ByteSource,
    /// Names of the files directly in it; none where the source cannot say.
    pub names: Vec<String>,
}

impl<'s> Listing<'s> {
    pub fn of(source: &'s dyn ByteSource) -> Result<Self, SourceError> {
        let names = match source.list() {
            Err(SourceError::NotFound { .. }) => Vec::new(),
            other => other?,
        };
        Ok(Self { source, names })
    }
}

/// A way in which weights lie in files.
pub(crate) trait Format: Debug + Send + Sync {
    /// Whether a folder has weights of this format.
    fn claims(&self, listing: &Listing<'_>) -> Result<bool, SourceError>;

    /// The tensors of these weights and where they are. Reads headers and indices alone.
    fn index(&self, listing: &Listing<'_>) -> Result<Index, CheckpointError>;

    /// Whether a file that is named by itself is of this format, by its name.
    fn claims_file(&self, file: &str) -> bool;

    /// The tensors of a file that is named by itself.
    fn index_of_file(&self, source: &dyn ByteSource, file: &str) -> Result<Index, CheckpointError>;
}
