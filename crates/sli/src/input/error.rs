//! What can be wrong with an input.

use std::io;
use std::path::{Path, PathBuf};

use sli_checkpoint::is_wrong_path;
use sli_engine::bytes::{flag, human};

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
        hint: String,
    },
    /// One record is not what it should be.
    #[error("{problem} ({place})")]
    Record {
        /// Where it is.
        place: Place,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A record does not fit the budget.
    #[error("{} do not hold {what}; {} do ({place})", human(*.given), human(*.needed))]
    Budget {
        /// What does not fit.
        what: String,
        /// Where it is.
        place: Place,
        /// `--memory`, bytes.
        given: u64,
        /// The smallest budget that holds it, bytes.
        needed: u64,
        /// It is a text, and the tokenizer is not in this number.
        before_tokenizer: bool,
    },
}

impl InputError {
    /// An error about a record that only its author can mend.
    pub fn record(place: &Place, problem: impl Into<String>) -> Self {
        Self::Record {
            place: place.clone(),
            problem: problem.into(),
            hint: "correct the record, or remove it".into(),
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::Read { .. } | Self::Budget { .. } => {}
            Self::File { hint, .. } | Self::Record { hint, .. } => *hint = text.into(),
        }
        self
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { source, .. } if is_wrong_path(source) => {
                "check the path and its permissions".into()
            }
            Self::Read { .. } => "check the disk that the input is on".into(),
            Self::Budget { needed, .. } => format!("--memory {}", flag(*needed)),
            Self::File { hint, .. } | Self::Record { hint, .. } => hint.clone(),
        }
    }

    /// 3 for a bad input, 4 for one that does not fit the budget, 5 for a failing disk.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Read { source, .. } if is_wrong_path(source) => 3,
            Self::Read { .. } => 5,
            Self::File { .. } | Self::Record { .. } => 3,
            Self::Budget { .. } => 4,
        }
    }
}

/// An input file that is not what it should be.
pub(super) fn wrong_file(path: &Path, problem: &str, hint: &str) -> InputError {
    InputError::File {
        path: path.to_path_buf(),
        problem: problem.into(),
        hint: hint.into(),
    }
}
