//! What can be wrong with a picture, and with the description of how to prepare it.

use thiserror::Error;

/// Why a picture cannot be prepared.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PictureError {
    /// Not a format that is read here.
    #[error("{0}")]
    Format(String),
    /// Cut off, damaged, or with features that its decoder lacks.
    #[error("it is not a sound {format} file: {problem}")]
    Broken {
        /// The format.
        format: &'static str,
        /// What its decoder says.
        problem: String,
    },
    /// More memory than may be used.
    #[error("{what} takes {needed} bytes, {allowed} are allowed")]
    Memory {
        /// What, with its size.
        what: String,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that it may take.
        allowed: u64,
    },
    /// A size that the processor does not take.
    #[error("{0}")]
    Size(String),
}

impl PictureError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Format(_) => "PNG, JPEG and WebP are read: convert the file",
            Self::Broken { .. } => "open it elsewhere and save it again, or fetch it again",
            Self::Memory { .. } => "give a larger --memory, or a smaller picture",
            Self::Size(_) => "leave the record out, or give a picture of another size",
        }
    }
}

/// Why a description of a processor is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DescriptionError {
    /// Not JSON, or no object.
    #[error("{0}")]
    Json(String),
    /// A class that is not known here.
    #[error("pictures for `{0}` are not prepared here")]
    Class(String),
    /// Nothing says which class it is.
    #[error(
        "neither `image_processor_type` nor the model's type says which processor prepares its pictures"
    )]
    NoClass,
    /// A key that is neither the class's nor known to be inert.
    #[error("`{key}` of {class} is not known here")]
    Key {
        /// The class.
        class: String,
        /// The key.
        key: String,
    },
    /// A value that the class would not take, or that is not supported.
    #[error("`{key}` of {class}: {problem}")]
    Value {
        /// The class.
        class: String,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}
