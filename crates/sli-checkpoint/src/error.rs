//! Errors of this crate.

use crate::coverage::CoverageReport;
use crate::formats::gguf::GgufError;
use crate::formats::safetensors::header::{HeaderError, ReadError};
use crate::formats::shards::IndexError;
use crate::formats::torch::TorchError;
use crate::naming::NamingProblem;
use crate::problem::LeafProblem;
use crate::source::SourceError;

/// How the clause about downloads that have not ended begins.
pub(crate) const UNFINISHED: &str = "an unfinished download";

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Bytes did not come.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Neither folder nor file.
    #[error("{place}: there is no such folder or file")]
    NotThere {
        /// The path.
        place: String,
    },
    /// No weights where a model was expected.
    #[error(
        "{place}: no weights: neither {}{}{}",
        looked_for.join(", nor "),
        if others.is_empty() { "" } else { "; " },
        others.join("; ")
    )]
    NoWeights {
        /// The folder.
        place: String,
        /// Names that were tried.
        looked_for: Vec<&'static str>,
        /// What is there of other weights, a clause for each kind.
        others: Vec<String>,
    },
    /// A weight file that breaks a rule of the safetensors format.
    #[error("{place}: `{file}` is not a sound safetensors file: {problem}")]
    Header {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// The rule.
        #[source]
        problem: HeaderError,
    },
    /// A torch file that breaks a rule, or holds what is not read.
    #[error("{place}: `{file}` is not read: {problem}")]
    Torch {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// The rule.
        #[source]
        problem: Box<TorchError>,
    },
    /// A GGUF file that breaks a rule.
    #[error("{place}: `{file}` is not a sound GGUF file: {problem}")]
    Gguf {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// The rule.
        #[source]
        problem: Box<GgufError>,
    },
    /// An index that breaks a rule.
    #[error("{place}: `{file}`: {problem}")]
    Index {
        /// The folder.
        place: String,
        /// The index.
        file: String,
        /// The rule.
        #[source]
        problem: IndexError,
    },
    /// Two files hold the same tensor.
    #[error("{place}: tensor `{tensor}` is in `{first}` and in `{second}`")]
    DuplicateTensor {
        /// The folder.
        place: String,
        /// Name of the tensor.
        tensor: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// The weights are not those with which a run began.
    #[error(
        "{place}: tensor `{tensor}` in `{file}` is not what this run has read before: the weights changed"
    )]
    Changed {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// Name of the tensor, or of the first of several.
        tensor: String,
    },
    /// A text file larger than any real one.
    #[error("{place}: `{file}` has {size} bytes; the most is {limit}")]
    TextTooLarge {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// Size in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The tensors of the checkpoint are not those of the model.
    #[error("{place}: the tensors do not fit the model\n{report}")]
    Coverage {
        /// The folder.
        place: String,
        /// Everything that does not fit.
        report: Box<CoverageReport>,
    },
    /// The names in the file can be those of the model in more than one way.
    #[error("{place}: {problem}")]
    Naming {
        /// The folder.
        place: String,
        /// Which ways.
        #[source]
        problem: NamingProblem,
    },
    /// One weight cannot be had from the tensors.
    #[error("{place}: {problem}")]
    Leaf {
        /// The folder.
        place: String,
        /// Why.
        problem: LeafProblem,
    },
    /// What a coded tensor holds is no number.
    #[error("{place}: tensor `{tensor}` in `{file}` cannot be decoded: {reason}")]
    Undecodable {
        /// The folder.
        place: String,
        /// The file.
        file: String,
        /// Name of the tensor in the file.
        tensor: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A slice or rows that the weight does not have. A mistake of the caller.
    #[error("{weight}: slice {slice}, rows {start}..{end} of {slices} slices of {rows} rows")]
    OutOfRange {
        /// Name of the weight.
        weight: String,
        /// Slice asked for.
        slice: usize,
        /// First row asked for.
        start: usize,
        /// End of the rows asked for.
        end: usize,
        /// Slices of the weight.
        slices: usize,
        /// Rows of a slice.
        rows: usize,
    },
    /// A buffer of another size than the rows asked for. A mistake of the caller.
    #[error("{weight}: a buffer of {got} bytes for {wanted} bytes")]
    BufferSize {
        /// Name of the weight.
        weight: String,
        /// Bytes of the rows.
        wanted: usize,
        /// Bytes of the buffer.
        got: usize,
    },
}

impl CheckpointError {
    /// Whether the system failed, as opposed to a model that is not usable: a full retry may help.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Source(error) if error.is_io())
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotThere { .. } => "check the path of the model".to_owned(),
            Self::Source(error) => error.hint().to_owned(),
            Self::Leaf { .. }
            | Self::OutOfRange { .. }
            | Self::BufferSize { .. } => {
                "is config.json the one that belongs to these weights?".to_owned()
            }
            Self::NoWeights { others, .. } if others.iter().any(|other| other.contains(UNFINISHED)) => {
                "wait until the download ends, or start it again".to_owned()
            }
            Self::NoWeights { .. } => {
                "give the folder of the weights, or one such file; other formats have to be converted: \
                 `save_pretrained` in transformers does it"
                    .to_owned()
            }
            Self::Header { problem, .. } => header_hint(problem),
            Self::Gguf { problem, .. } => problem.hint().to_owned(),
            Self::Torch { problem, .. } => problem.hint().to_owned(),
            Self::Index { problem, .. } => match problem {
                IndexError::MissingShard { shard, .. } => {
                    format!("the download is incomplete: fetch `{shard}` as well")
                }
                IndexError::NotInShard { .. } => {
                    "index and shards are of different versions: download both again".to_owned()
                }
                _ => "download the index again".to_owned(),
            },
            Self::DuplicateTensor { .. } => {
                "keep only the files of one version of the model".to_owned()
            }
            Self::Changed { .. } => {
                "put the weights back that were there, then the same command goes on; for the new ones choose \
                 another --out, or give --fresh to discard what is there"
                    .to_owned()
            }
            Self::Undecodable { file, .. } => {
                format!("the weights are damaged: download `{file}` again")
            }
            Self::TextTooLarge { file, .. } => {
                format!("download `{file}` again")
            }
            Self::Coverage { report, .. } => report.hint(),
            Self::Naming { problem, .. } => problem.hint(),
        }
    }

    pub(crate) fn header(place: String, file: &str, error: ReadError) -> Self {
        match error {
            ReadError::Source(error) => Self::Source(error),
            ReadError::Format(problem) => Self::Header {
                place,
                file: file.to_owned(),
                problem,
            },
        }
    }
}

fn header_hint(problem: &HeaderError) -> String {
    let hint = match problem {
        HeaderError::Other { what } if what.contains("LFS") => {
            "`git lfs pull` in the folder fetches the weights, as does a download by huggingface_hub"
        }
        HeaderError::Other { what } if what.contains("Py") => {
            "convert it: load it with transformers and write it with `save_pretrained`"
        }
        HeaderError::Other { .. } => "fetch the file again",
        HeaderError::Truncated { .. }
        | HeaderError::TooSmall { .. }
        | HeaderError::HeaderPastEnd { .. } => "the download is incomplete: fetch the file again",
        HeaderError::HeaderTooLarge { .. } | HeaderError::NotUtf8 | HeaderError::NotAnObject => {
            "this is not a safetensors file, or its beginning is damaged: fetch it again"
        }
        HeaderError::UnknownDtype { .. } => "a newer version may know this dtype",
        _ => "the file is damaged or was made to mislead: fetch it again",
    };
    hint.to_owned()
}
