//! Why there is no report.

use std::io;
use std::path::{Path, PathBuf};

use crate::finished_table::TableError;

/// A report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no finished run.
    #[error("{}: there is no finished run, as `run.json` is missing", .folder.display())]
    Unfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// Another file is where the page would be.
    #[error("{} is there already, and no report", .path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A file is not as a run writes it.
    #[error("{}: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system.
    #[error("{what} ({})", .path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<TableError> for ReportError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Damaged { path, problem } => Self::Damaged { path, problem },
            TableError::File { path, source } => Self::unread(&path, source),
        }
    }
}

impl ReportError {
    pub(super) fn damaged(path: &Path, problem: String) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem,
        }
    }

    pub(super) fn unread(path: &Path, source: io::Error) -> Self {
        Self::File {
            what: "a result cannot be read",
            path: path.to_owned(),
            source,
        }
    }

    /// What the reader of the message can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unfinished { .. } => {
                "give the folder of a run that is done: `--out` of `sli run` or `sli merge`"
            }
            Self::Taken { .. } => "give another place with --out",
            Self::Damaged { .. } => "run `sli run` with --fresh to make the results anew",
            Self::File { .. } => {
                "see that the folder can be read and written, or write the page elsewhere with --out"
            }
        }
    }

    /// 2 for a place that is taken, 3 for results that are none, 5 for input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Taken { .. } => 2,
            Self::Unfinished { .. } | Self::Damaged { .. } => 3,
            Self::File { .. } => 5,
        }
    }
}
