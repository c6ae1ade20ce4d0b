//! How large reads of files are done, and why so.

use serde::Serialize;

/// How a [`LocalSource`](super::LocalSource) treats the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// Reads stay in the page cache as the system likes.
    #[default]
    Buffered,
    /// Large reads are dropped from the page cache at once.
    BufferedDropBehind,
    /// Large reads go around the page cache (`O_DIRECT`). Where the file system cannot,
    /// as [`Self::BufferedDropBehind`].
    Direct,
}

/// Whether the page cache would be of use to whoever reads a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheUse {
    /// It has room for all of it.
    pub fits: bool,
    /// The file is read more than once.
    pub again: bool,
    /// Why it is read in pieces that are not large, each announced before, where it is.
    pub in_pieces: Option<&'static str>,
    /// Bytes a second that are enough because computing takes longer than reading, where that is known.
    pub enough: Option<f64>,
}

/// How large reads are done from now on, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadChoice {
    /// The way.
    pub mode: ReadMode,
    /// Bytes a second through the page cache, as it was found, where that was measured.
    pub buffered: Option<f64>,
    /// Bytes a second around it, where that was measured.
    pub direct: Option<f64>,
    /// The part of a processor that reading through the page cache took, 0 to 1, where that was measured.
    pub buffered_processor: Option<f64>,
    /// The part of a processor that reading around it took, 0 to 1, where that was measured.
    pub direct_processor: Option<f64>,
    /// Why this way.
    pub reason: &'static str,
}

impl ReadChoice {
    pub(super) fn unmeasured(mode: ReadMode, reason: &'static str) -> Self {
        Self {
            mode,
            buffered: None,
            direct: None,
            buffered_processor: None,
            direct_processor: None,
            reason,
        }
    }
}
