//! What ends a command early.

use std::io;
use std::path::PathBuf;

use sli_engine::EngineError;
use sli_engine::journal::JournalError;
use sli_engine::results::ResultsError;
use sli_engine::take::TakeError;

use crate::input::InputError;
use crate::tokenizer::TokenizerError;

/// An error of the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model, the run or the results.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The dataset.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// What was asked for makes no sense.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A file of the program's own cannot be read or written.
    #[error("{what} ({})", .path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output is closed or its disk is full.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

impl Error {
    /// 2 usage, 3 bad model or input, 4 does not fit the budget, 5 input/output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Engine(error) => error.exit_code(),
            Self::Input(error) => error.exit_code(),
            Self::Tokenizer(error) => error.exit_code(),
            Self::Usage { .. } => 2,
            Self::File { .. } | Self::Stdout(_) => 5,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Input(error) => error.hint(),
            Self::Tokenizer(error) => error.hint(),
            Self::Usage { hint, .. } => hint.clone(),
            Self::File { .. } => "check the path, its permissions and the space on its disk".into(),
            Self::Stdout(_) => "check where the output goes, and the space on its disk".into(),
        }
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<ResultsError> for Error {
    fn from(error: ResultsError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<TakeError> for Error {
    fn from(error: TakeError) -> Self {
        Self::Engine(error.into())
    }
}
