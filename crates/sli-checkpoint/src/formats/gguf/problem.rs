//! Rules that a GGUF file can break.

use crate::source::SourceError;

/// Why a file was not read.
pub(super) enum Problem {
    Rule(GgufError),
    Read(SourceError),
}

impl From<GgufError> for Problem {
    fn from(error: GgufError) -> Self {
        Self::Rule(error)
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        Self::Read(error)
    }
}

/// Why a GGUF file is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Something else under the name of a GGUF file.
    #[error("it is {what}")]
    Other {
        /// What it is.
        what: String,
    },
    /// A version that is not known.
    #[error("it is of version {version}; 2 and 3 are read")]
    Version {
        /// What the file says.
        version: u32,
    },
    /// Numbers in the other order of bytes.
    #[error("its numbers are stored big-endian")]
    BigEndian,
    /// More of something than any real file has.
    #[error("it claims {claimed} {what}; the most is {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        claimed: u64,
        /// The most.
        most: u64,
    },
    /// The file ends within its header.
    #[error("it ends at byte {size}, within {what}")]
    CutOff {
        /// Size of the file in bytes.
        size: u64,
        /// Where the header is cut off.
        what: &'static str,
    },
    /// A name or text is not UTF-8.
    #[error("{what} at byte {at} is not UTF-8")]
    NotUtf8 {
        /// What it should be.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A key occurs twice.
    #[error("key `{key}` occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor occurs twice.
    #[error("tensor `{tensor}` occurs twice")]
    DuplicateTensor {
        /// Its name.
        tensor: String,
    },
    /// A value of a type that the format does not have, or of which nothing is known.
    #[error("key `{key}` is of the unknown type {found}")]
    ValueType {
        /// The key.
        key: String,
        /// Its type.
        found: u32,
    },
    /// A key that is needed is missing or is not what it has to be.
    #[error("key `{key}`: {rule}")]
    Key {
        /// The key.
        key: String,
        /// The rule.
        rule: &'static str,
    },
    /// A tensor that breaks a rule.
    #[error("tensor `{tensor}`: {rule}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// The rule.
        rule: &'static str,
    },
    /// A tensor of a type that is not known.
    #[error("tensor `{tensor}` is of the unknown type {found}")]
    TensorType {
        /// Its name.
        tensor: String,
        /// Its type.
        found: u32,
    },
    /// The file ends before its tensors do.
    #[error("tensor `{tensor}` ends at byte {end} and the file has {size}")]
    Truncated {
        /// Its name.
        tensor: String,
        /// Where it ends.
        end: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// A tokenizer that is not known.
    #[error("its tokenizer: {problem}")]
    Tokenizer {
        /// Why.
        problem: String,
    },
    /// A part of a model in several files that does not fit the others.
    #[error("it is a part of a model in several files: {rule}")]
    Split {
        /// The rule.
        rule: String,
    },
}

impl GgufError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Other { what } if what.contains("LFS") => {
                "`git lfs pull` in the folder fetches the weights, as does a download by huggingface_hub"
            }
            Self::Version { .. } => "convert the model again with a newer llama.cpp",
            Self::BigEndian => "take the file for little-endian machines",
            Self::ValueType { .. } | Self::TensorType { .. } => {
                "a newer version may know this type"
            }
            Self::Tokenizer { .. } => "give `input_ids`, which need no tokenizer",
            Self::Split { .. } => {
                "fetch all parts of the model, under the names that they were published with"
            }
            Self::Truncated { .. } | Self::CutOff { .. } => {
                "the download is incomplete: fetch the file again"
            }
            _ => "the file is damaged or was made to mislead: fetch it again",
        }
    }
}
