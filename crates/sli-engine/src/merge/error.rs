//! Why folders cannot be merged.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::durable::DiskError;
use crate::journal::{Difference, JournalError};
use crate::results::ResultsError;

/// Missing parts that are named.
const NAMED: usize = 8;

/// Folders cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A folder is none of a part.
    #[error("{}: {problem}", path.display())]
    NoPart {
        /// The folder.
        path: PathBuf,
        /// What it is.
        problem: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// Two folders are not of the same run.
    #[error(
        "{} and {} are not parts of one run: {}",
        first.display(),
        path.display(),
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Foreign {
        /// The first folder.
        first: PathBuf,
        /// The one that differs from it.
        path: PathBuf,
        /// In what.
        differences: Vec<Difference>,
    },
    /// Two folders are of the same part.
    #[error("{} and {} are both part {index} of {of}", first.display(), second.display())]
    Twice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The part, from 1.
        index: u64,
        /// Of how many.
        of: u64,
    },
    /// Some parts were not given.
    #[error("of {of} parts, {} missing: {}", if missing.len() == 1 { "one is" } else { "these are" }, named(missing))]
    Missing {
        /// Which ones, from 1.
        missing: Vec<u64>,
        /// Of how many.
        of: u64,
    },
    /// The output folder is one of a part.
    #[error("{} is the folder of a part and the output folder", .0.display())]
    Same(PathBuf),
    /// A file of a part is not what was written, or one of the results cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// Numbers, shortened.
fn named(missing: &[u64]) -> String {
    let mut text = String::new();
    for (index, part) in missing.iter().take(NAMED).enumerate() {
        let _ = write!(text, "{}{part}", if index > 0 { ", " } else { "" });
    }
    if let Some(more) = missing.len().checked_sub(NAMED).filter(|&more| more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}

impl MergeError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoPart { hint, .. } => (*hint).to_owned(),
            Self::Foreign { .. } => {
                "all parts need the same model, dataset, results, settings and version, and processors of one kind: \
                 run those that differ again"
                    .into()
            }
            Self::Twice { .. } => "give the folder of every part once".into(),
            Self::Missing { of, .. } => {
                format!("give the folders of all parts, 1/{of} to {of}/{of}, each run to its end")
            }
            Self::Same(_) => "choose another --out".into(),
            Self::Results(ResultsError::Damaged { .. } | ResultsError::Parquet { .. }) => {
                "run this part again with --fresh, and merge again".into()
            }
            Self::Results(error) => error.hint(),
        }
    }

    /// The exit code of the program: 2 usage, 3 folders that are not all parts of one run, 5 input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Same(_) => 2,
            Self::NoPart { .. }
            | Self::Foreign { .. }
            | Self::Twice { .. }
            | Self::Missing { .. } => 3,
            Self::Results(error) => error.exit_code(),
        }
    }
}

impl From<JournalError> for MergeError {
    fn from(error: JournalError) -> Self {
        Self::Results(error.into())
    }
}

impl From<DiskError> for MergeError {
    fn from(error: DiskError) -> Self {
        Self::Results(error.into())
    }
}
