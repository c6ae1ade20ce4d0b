//! Why nothing was exported.

use std::io;
use std::path::PathBuf;

use sli_engine::durable::DiskError;

use crate::finished_table::TableError;

/// Results cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no finished run.
    #[error("{}: there is no finished run, as `run.json` is missing or no manifest", .folder.display())]
    Unfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// The run has not what the format needs.
    #[error("{}: it has not {what}", .folder.display())]
    Lacking {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        what: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// What was asked for cannot be.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A hidden state is not a number.
    #[error("record `{id}`: a hidden state of {boundary} is not finite")]
    NotFinite {
        /// The record.
        id: String,
        /// The file that it is in.
        boundary: String,
    },
    /// A file is not as a run writes it.
    #[error("{}: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What is exported cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<TableError> for ExportError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Damaged { path, problem } => Self::Damaged { path, problem },
            TableError::File { path, source } => Self::Damaged {
                path,
                problem: source.to_string(),
            },
        }
    }
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.into())
    }
}

impl ExportError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unfinished { .. } => {
                "give the folder of a run that is done: `--out` of `sli run` or `sli merge`".into()
            }
            Self::Lacking { hint, .. } | Self::Usage { hint, .. } => (*hint).into(),
            Self::NotFinite { .. } => "leave that record out and run again".into(),
            Self::Damaged { .. } => "run `sli run` with --fresh to make the results anew".into(),
            Self::Disk(error) => error.hint(),
        }
    }

    /// 2 for what cannot be asked for, 3 for results that are none, 5 for input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage { .. } => 2,
            Self::Unfinished { .. }
            | Self::Lacking { .. }
            | Self::NotFinite { .. }
            | Self::Damaged { .. } => 3,
            Self::Disk(error) => error.exit_code(),
        }
    }
}
