//! What can be wrong with an input.

use std::io;
use std::path::PathBuf;

use super::place::Place;

/// An input that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be opened or read.
    #[error("cannot read the input ({})", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file as a whole is not what it should be.
    #[error("{problem} ({})", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// One record is not what it should be.
    #[error("{problem} ({place})")]
    Record {
        /// Where it is.
        place: Place,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

impl InputError {
    /// An error about a record, without a hint.
    pub fn record(place: &Place, problem: impl Into<String>) -> Self {
        Self::Record {
            place: place.clone(),
            problem: problem.into(),
            hint: None,
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Read { .. } => {}
            Self::File { hint, .. } | Self::Record { hint, .. } => *hint = Some(text.into()),
        }
        self
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::File { hint, .. } | Self::Record { hint, .. } => hint.clone(),
        }
    }

    /// 3 for a bad input, 5 for a failing disk.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory => 3,
                _ => 5,
            },
            Self::File { .. } | Self::Record { .. } => 3,
        }
    }
}
