//! What ends a command early.

use std::io;
use std::path::PathBuf;

use sli_checkpoint::CheckpointError;
use sli_checkpoint::source::{Failure, SourceError};
use sli_engine::journal::JournalError;
use sli_engine::results::ResultsError;
use sli_engine::take::TakeError;
use sli_engine::{EngineError, MergeError};
use sli_remote::{LocationError, RemoteError, SettingsError};

use crate::export::ExportError;
use crate::input::InputError;
use crate::report::error::ReportError;
use crate::tokenizer::TokenizerError;
use crate::verify::VerifyError;

/// An error of the program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model, the run or the results.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The dataset.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The parts of a run.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The page about results.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Results in the files of other tools.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A comparison with a reference.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// What is elsewhere cannot be had.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A place that is spelled wrong.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The environment says something of the hub that makes no sense.
    #[error("the environment variable {0}")]
    Settings(#[from] SettingsError),
    /// Files of the cache do not hold what they should.
    #[error("{files} files of the cache do not hold what they should")]
    Damaged {
        /// How many.
        files: usize,
    },
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
            Self::Merge(error) => error.exit_code(),
            Self::Report(error) => error.exit_code(),
            Self::Export(error) => error.exit_code(),
            Self::Tokenizer(error) => error.exit_code(),
            Self::Verify(error) => error.exit_code(),
            Self::Remote(error) if error.is_refusal() => 3,
            Self::Damaged { .. } => 3,
            Self::Usage { .. } | Self::Location(_) | Self::Settings(_) => 2,
            Self::Remote(_) | Self::File { .. } | Self::Stdout(_) => 5,
        }
    }

    /// What went wrong, and below it why.
    pub fn explained(&self) -> String {
        let mut text = self.to_string();
        let mut said = text.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !said.contains(&message) {
                text = format!("{text}\n  because: {message}");
                said = message;
            }
            cause = error.source();
        }
        text
    }

    /// Whether a file had arrived wrong and is right now, so that what was computed of it has to be computed again.
    pub fn is_replaced(&self) -> bool {
        let Self::Engine(EngineError::Checkpoint(CheckpointError::Source(error))) = self else {
            return false;
        };
        matches!(
            error,
            SourceError::Elsewhere {
                kind: Failure::Replaced,
                ..
            }
        )
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Input(error) => error.hint(),
            Self::Merge(error) => error.hint(),
            Self::Report(error) => error.hint().to_owned(),
            Self::Export(error) => error.hint(),
            Self::Tokenizer(error) => error.hint(),
            Self::Verify(error) => error.hint().to_owned(),
            Self::Remote(error) => error.hint().to_owned(),
            Self::Location(_) => {
                "give a path, an id of the hub (ORG/NAME, ORG/NAME@REVISION) or an address".into()
            }
            Self::Settings(error) => format!("correct or unset {}", error.name),
            Self::Damaged { .. } => {
                "`sli cache remove` takes them away, and the next run fetches them again".into()
            }
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

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::Engine(EngineError::Checkpoint(error.into()))
    }
}

impl From<CheckpointError> for Error {
    fn from(error: CheckpointError) -> Self {
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
