//! What can go wrong in a run, by what the caller can do about it.

use std::path::PathBuf;

use sli_checkpoint::{CheckpointError, FolderError};
use sli_spec::SpecError;

use crate::journal::JournalError;
use crate::results::ResultsError;
use crate::take::TakeError;

/// What helps where a file is not what it should be.
pub(crate) const AGAIN: &str = "download it again";

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model's configuration cannot be described.
    #[error("{}", .path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        source: SpecError,
    },
    /// The checkpoint is damaged, does not fit its configuration, or cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A path that holds no model, or a file of it that cannot be what its name says.
    #[error("{}: {problem}", .path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file of the model is missing or cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A weight is not a number; it would spread silently through every later layer.
    #[error("tensor for {leaf}: element {index} is not finite")]
    NonFinite {
        /// The layer and the source expression.
        leaf: String,
        /// Index of the first such element within the rows that were read.
        index: usize,
    },
    /// A table of experts names one that is not there.
    #[error("tensor for {leaf}: token {token} has expert {expert}, of {count}")]
    NoExpert {
        /// The layer and the source expression.
        leaf: String,
        /// The token id.
        token: u32,
        /// What its row names.
        expert: i64,
        /// Number of experts.
        count: usize,
    },
    /// A table of decays has a factor for what a row would read of a later one.
    #[error("tensor for {leaf}: a row has a factor on later ones")]
    LooksAhead {
        /// The layer and the source expression.
        leaf: String,
    },
    /// Finite weights made a value that is not finite; it would spread through every later layer.
    #[error("values of {place} are not finite")]
    Overflow {
        /// The first place where that is so.
        place: String,
    },
    /// A record cannot be run by this model.
    #[error("record `{id}`: {problem}")]
    Record {
        /// The record's id.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// No part of the work fits the budget.
    #[error("{given} do not hold the smallest unit of this run; {needed} do", given = crate::bytes::human(*.given), needed = crate::bytes::human(*.needed))]
    Budget {
        /// `--memory`, bytes.
        given: u64,
        /// The smallest budget that works, bytes.
        needed: u64,
    },
    /// What was asked for cannot be had from this model.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The model can give none of the results that were asked for.
    #[error("{0}")]
    Unavailable(String),
    /// Two models are to be compared that are not of the same shape.
    #[error("{} and {} are not models of the same shape: {problems}", .reference.display(), .model.display())]
    Unlike {
        /// The model that the other is compared with.
        reference: PathBuf,
        /// The other.
        model: PathBuf,
        /// In what they differ, the reference first.
        problems: String,
    },
    /// Two models that are to be compared make other tokens of the same record.
    #[error("{} and {} make other tokens of the same data: {problem}", .reference.display(), .model.display())]
    OtherTokens {
        /// The model that the other is compared with.
        reference: PathBuf,
        /// The other.
        model: PathBuf,
        /// Which record, and in what they differ, the reference first.
        problem: String,
    },
    /// No budget was given, and there is none to take.
    #[error("the system does not say how much memory is free")]
    NoFreeMemory,
    /// What the description promised is not so while it runs.
    #[error("{0}")]
    Internal(String),
    /// The user ended the run; what is done is durable.
    #[error("interrupted; everything up to the last boundary is kept")]
    Interrupted,
    /// The output folder.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A result file.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

impl From<FolderError> for EngineError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io { path, source } => Self::File { path, source },
            FolderError::Elsewhere(error) => Self::Checkpoint(error.into()),
            FolderError::Unusable { path, problem } => Self::Unusable {
                path,
                problem,
                hint: AGAIN,
            },
        }
    }
}

impl EngineError {
    /// 2 usage, 3 bad model or input, 4 does not fit the budget, 5 I/O.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Config { .. }
            | Self::Unusable { .. }
            | Self::NonFinite { .. }
            | Self::NoExpert { .. }
            | Self::LooksAhead { .. }
            | Self::Overflow { .. }
            | Self::Record { .. }
            | Self::Unlike { .. }
            | Self::OtherTokens { .. }
            | Self::Internal(_) => 3,
            Self::Checkpoint(error) => {
                if error.is_io() {
                    5
                } else {
                    3
                }
            }
            Self::File { source, .. } => {
                if sli_checkpoint::is_wrong_path(source) {
                    3
                } else {
                    5
                }
            }
            Self::Budget { .. } => 4,
            Self::Interrupted => 130,
            Self::Take(_) | Self::Unavailable(_) | Self::NoFreeMemory => 2,
            Self::Journal(error) => error.exit_code(),
            Self::Results(error) => error.exit_code(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Config { source, .. } => source.hint(),
            Self::Unusable { hint, .. } => (*hint).to_owned(),
            Self::Checkpoint(error) => error.hint(),
            Self::NoExpert { .. } | Self::LooksAhead { .. } => AGAIN.to_owned(),
            Self::NonFinite { .. } => {
                "the file is damaged or the model diverged; download it again".into()
            }
            Self::Overflow { .. } => {
                "the weights are too large for f32: the file is damaged or the model diverged; download it \
                 again"
                    .into()
            }
            Self::Budget { needed, .. } => format!("--memory {}", crate::bytes::flag(*needed)),
            Self::Take(error) => error.hint(),
            Self::Interrupted => "the same command continues where it stopped".into(),
            Self::File { source, .. } if sli_checkpoint::is_wrong_path(source) => {
                "check the path and its permissions".into()
            }
            Self::File { .. } => "check the disk that the model is on".into(),
            Self::Record { .. } => "change or remove the record".into(),
            Self::Unlike { .. } => {
                "give two checkpoints of one model, for instance its own and a quantised one".into()
            }
            Self::OtherTokens { .. } => {
                "--reference-tokens runs both over the tokens of the first; or give `input_ids`".into()
            }
            Self::Unavailable(_) => "profile, hidden and embedding work with every model".into(),
            Self::NoFreeMemory => "give --memory, for instance --memory 8GiB".into(),
            Self::Internal(_) => {
                "this is a mistake of the program: please report it with config.json and the command"
                    .into()
            }
            Self::Journal(error) => error.hint(),
            Self::Results(error) => error.hint(),
        }
    }
}
