//! What can go wrong with a place that is elsewhere.

use std::io;
use std::path::{Path, PathBuf};

/// Why something from elsewhere could not be had. No message holds a token or a signed address.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The name, the revision or the right to read is wrong: asking again does not help.
    #[error("{place}: {problem}")]
    Refused {
        /// The repository or address.
        place: String,
        /// What is wrong.
        problem: String,
        /// What the user can do.
        hint: String,
    },
    /// The network or the server failed, and trying again did not help.
    #[error("{place}: {problem}")]
    Network {
        /// The repository or address.
        place: String,
        /// What failed, and how often it was tried.
        problem: String,
        /// What the user can do.
        hint: &'static str,
    },
    /// What arrived is not what the place says that it holds.
    #[error("{place}: `{file}`: {problem}")]
    Wrong {
        /// The repository or address.
        place: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file arrived wrong, was fetched again, and is right now; what was made of it before is not.
    #[error("{place}: `{file}` had arrived with wrong bytes and was fetched again")]
    Replaced {
        /// The repository or address.
        place: String,
        /// The file.
        file: String,
    },
    /// The disk of the cache has no room for what is to come.
    #[error("{}: {missing} bytes more are needed for {place}: {needed} are to be fetched, {free} are free", .folder.display())]
    Full {
        /// The folder of the cache.
        folder: PathBuf,
        /// The repository or address.
        place: String,
        /// Bytes that are to come.
        needed: u64,
        /// Bytes that the disk has.
        free: u64,
        /// Bytes that it lacks.
        missing: u64,
    },
    /// The disk of the cache refused or failed.
    #[error("{}: {problem}", .path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
}

impl RemoteError {
    /// What the user can do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Refused { hint, .. } => hint,
            Self::Network { hint, .. } => hint,
            Self::Wrong { .. } => {
                "something between here and the server changes what it sends: try another network, or HF_ENDPOINT"
            }
            Self::Replaced { .. } => "run the command again with --fresh",
            Self::Full { .. } => {
                "free some room (`sli cache`), set HF_HUB_CACHE to a larger disk, or keep nothing with --stream"
            }
            Self::Disk { .. } => {
                "check the disk of the cache and its permissions, or set HF_HUB_CACHE"
            }
        }
    }

    /// Whether what the user named is wrong, as opposed to what lies between here and there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    pub(crate) fn disk(path: &Path, error: &io::Error) -> Self {
        Self::Disk {
            path: path.to_owned(),
            problem: error.to_string(),
        }
    }
}
