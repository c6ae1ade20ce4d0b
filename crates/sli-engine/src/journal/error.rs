//! What can be wrong with an output folder.

use std::io;
use std::path::PathBuf;

use super::key::Difference;
use crate::durable::DiskError;

/// An output folder cannot be used, or its state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process is at work there.
    #[error("another run is writing to {}", .0.display())]
    Locked(PathBuf),
    /// It holds files that no run of this program made.
    #[error("{} is not empty and was not made by this program", .0.display())]
    NotOurs(PathBuf),
    /// It belongs to a run of something else.
    #[error(
        "{} belongs to another run; {}",
        path.display(),
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Different {
        /// The output folder.
        path: PathBuf,
        /// Every part of the key that differs.
        differences: Vec<Difference>,
    },
    /// A file of the journal is not as it was written.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl JournalError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked(_) => "wait for it to end, or choose another output".into(),
            Self::NotOurs(_) => "choose an empty or new folder".into(),
            Self::Different { .. } => {
                "choose another output, or give --fresh to discard what is there".into()
            }
            Self::Damaged { .. } => "give --fresh to start over".into(),
            Self::Disk(error) => error.hint(),
        }
    }

    /// The exit code of the program: 3 for a folder of something else, 5 for input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotOurs(_) | Self::Different { .. } => 3,
            Self::Locked(_) | Self::Damaged { .. } => 5,
            Self::Disk(error) => error.exit_code(),
        }
    }
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.into())
    }
}
