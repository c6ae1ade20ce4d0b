//! What can be wrong with a tokenizer or a chat template.

use std::io;
use std::path::PathBuf;

use sli_checkpoint::source::SourceError;
use sli_checkpoint::{FolderError, is_wrong_path};
use sli_engine::bytes::{flag, human};

/// A tokenizer that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// There is neither a `tokenizer.json` nor a vocabulary that the class could read.
    #[error("the model has no tokenizer.json, and no vocabulary of its tokenizer's class ({})", .folder.display())]
    Absent {
        /// The model folder.
        folder: PathBuf,
    },
    /// The class that makes the tokenizer in the reference cannot be built here.
    #[error("the tokenizer's class {class}: {problem} ({})", .folder.display())]
    Class {
        /// The model folder.
        folder: PathBuf,
        /// The class, as the files name it.
        class: String,
        /// Why not.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read ({})", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{problem} ({})", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is no chat template.
    #[error("the model has no chat template ({})", .folder.display())]
    NoTemplate {
        /// The model folder.
        folder: PathBuf,
    },
    /// There is no chat template of the name that was given.
    #[error("the model has no chat template `{name}` ({})", .folder.display())]
    UnknownTemplate {
        /// The model folder.
        folder: PathBuf,
        /// What was given.
        name: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// The tokenizer or a text does not fit the budget.
    #[error("{} do not hold {what}; {} do", human(*.given), human(*.needed))]
    Budget {
        /// What does not fit.
        what: String,
        /// `--memory`, bytes.
        given: u64,
        /// The smallest budget that holds it, bytes.
        needed: u64,
    },
    /// A setting on the command line that the class does not have.
    #[error("the tokenizer's class `{class}` has no setting `{argument}` ({})", folder.display())]
    Argument {
        /// The model's folder.
        folder: PathBuf,
        /// The class.
        class: String,
        /// The setting.
        argument: String,
        /// Those that it has.
        known: String,
    },
    /// A text that would not become the tokens that the reference makes of it.
    #[error("{problem}")]
    Text {
        /// Which text, and why.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file is elsewhere and cannot be had from there.
    #[error(transparent)]
    Elsewhere(SourceError),
    /// The tokenizer gave up on a text.
    #[error("the tokenizer failed: {problem}")]
    Failed {
        /// What it said.
        problem: String,
    },
}

impl From<FolderError> for TokenizerError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io { path, source } => Self::Read { path, source },
            FolderError::Elsewhere(error) => Self::Elsewhere(error),
            FolderError::Unusable { path, problem } => Self::Broken { path, problem },
        }
    }
}

impl TokenizerError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Elsewhere(error) => error.hint().to_owned(),
            Self::Absent { .. } => {
                "save one with transformers (AutoTokenizer.from_pretrained(..).save_pretrained(..)), or give \
                 `input_ids` instead of `text`"
                    .into()
            }
            Self::NoTemplate { .. } => {
                "add a chat_template.jinja to the folder, or give `text` or `input_ids` instead of `messages`"
                    .into()
            }
            Self::Class { folder, .. } if folder.join("tokenizer.json").is_file() => {
                "--tokenizer-file takes tokenizer.json as it is, whatever the class makes of it; or give \
                 `input_ids`, which need no tokenizer"
                    .into()
            }
            Self::Class { .. } => {
                "save the tokenizer as a tokenizer.json and run with --tokenizer-file, or give `input_ids`, which \
                 need no tokenizer"
                    .into()
            }
            Self::UnknownTemplate { names, .. } => format!(
                "--chat-template takes the path of a file, or one of: {}",
                names.join(", ")
            ),
            Self::Argument { known, .. } => format!("--tokenizer-arg takes one of: {known}"),
            Self::Text { hint, .. } => (*hint).into(),
            Self::Budget { needed, .. } => format!("--memory {}", flag(*needed)),
            Self::Read { source, .. } if is_wrong_path(source) => {
                "check the path and its permissions".into()
            }
            Self::Read { .. } => "check the disk that the model is on".into(),
            Self::Broken { .. } | Self::Failed { .. } => {
                "download the file again, or give `input_ids`, which need no tokenizer".into()
            }
        }
    }

    /// 3 for a bad model, 4 for one that does not fit the budget, 5 for a failing disk.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Elsewhere(error) if error.is_io() => 5,
            Self::Read { source, .. } if is_wrong_path(source) => 3,
            Self::Read { .. } => 5,
            Self::Budget { .. } => 4,
            Self::UnknownTemplate { .. } | Self::Argument { .. } => 2,
            Self::Absent { .. }
            | Self::Elsewhere(_)
            | Self::Class { .. }
            | Self::Broken { .. }
            | Self::NoTemplate { .. }
            | Self::Text { .. }
            | Self::Failed { .. } => 3,
        }
    }
}
