//! What is wrong with what is expected, or with what was found.

use std::path::PathBuf;

/// A verification that cannot be done, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file of what is expected is not what it should be.
    #[error("{}: {problem}", .path.display())]
    Expected {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It is of another model or of other weights.
    #[error("{} is about another checkpoint: {problem}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// In what they differ.
        problem: String,
    },
    /// The numbers differ.
    #[error("the numbers are not those of the reference: {0}")]
    Differs(String),
}

impl VerifyError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Expected { .. } => "write it again with tools/verify/expected.py",
            Self::Other { .. } => {
                "write what is expected of this checkpoint with tools/verify/expected.py, or give --other-weights"
            }
            Self::Differs(_) => {
                "the receipt says where; please report it with the receipt and the file of what was expected"
            }
        }
    }

    /// The exit code of the program: 1 where the numbers differ, 3 for a bad file.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Expected { .. } | Self::Other { .. } => 3,
            Self::Differs(_) => 1,
        }
    }
}
