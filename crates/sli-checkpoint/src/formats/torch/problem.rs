//! Rules that a torch file can break, and what it can hold that is not read.

/// Largest pickle in bytes.
pub(super) const MAX_PICKLE: u64 = 64 << 20;

/// Why a torch file is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// Something else under the name of a torch file.
    #[error("it is {what}")]
    Other {
        /// What it is.
        what: String,
    },
    /// The archive breaks a rule of zip files.
    #[error("its archive is not sound: {rule}")]
    Archive {
        /// The rule.
        rule: &'static str,
    },
    /// The archive lacks something.
    #[error("its archive has no `{member}`")]
    NoMember {
        /// What is missing.
        member: String,
    },
    /// A member of the archive is stored in a way that torch does not write.
    #[error("`{member}` of its archive: {rule}")]
    Member {
        /// The member.
        member: String,
        /// The rule.
        rule: &'static str,
    },
    /// The numbers have another order of bytes.
    #[error("its numbers are stored as `{order}`-endian")]
    ByteOrder {
        /// What the file says.
        order: String,
    },
    /// The pickle is larger than any real one.
    #[error("its pickle has {size} bytes; the most is {}", MAX_PICKLE)]
    TooLarge {
        /// Size in bytes.
        size: u64,
    },
    /// The pickle breaks a rule.
    #[error("its pickle at byte {at}: {rule}")]
    Pickle {
        /// Where.
        at: usize,
        /// The rule.
        rule: &'static str,
    },
    /// The pickle has an instruction that is not needed for weights.
    #[error("its pickle at byte {at}: the instruction {opcode:#04x} is not followed")]
    Opcode {
        /// Where.
        at: usize,
        /// Which.
        opcode: u8,
    },
    /// The pickle would have something called that is no part of weights.
    #[error("its pickle at byte {at} wants `{name}` called; nothing of a file is executed here")]
    Call {
        /// Where.
        at: usize,
        /// Module and name.
        name: String,
    },
    /// The file holds something else than tensors by names.
    #[error("it holds {found}, not tensors by their names")]
    NotTensors {
        /// What it holds.
        found: String,
    },
    /// Several objects in the file hold tensors.
    #[error("tensors are in {}", names.join(" and in "))]
    Several {
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor that is not described as tensors are.
    #[error("tensor `{tensor}`: {rule}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// The rule.
        rule: &'static str,
    },
    /// A tensor reaches outside its storage.
    #[error(
        "tensor `{tensor}` of shape {shape:?} and strides {strides:?} from element {offset} on is not within its \
         storage of {elements} elements"
    )]
    OutsideStorage {
        /// Its name.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its strides, in elements.
        strides: Vec<u64>,
        /// Its first element.
        offset: u64,
        /// Elements of the storage.
        elements: u64,
    },
    /// A storage has fewer bytes than its elements.
    #[error("storage `{key}` of {elements} elements takes {needed} bytes and has {found}")]
    ShortStorage {
        /// Its key.
        key: String,
        /// Its elements.
        elements: u64,
        /// Bytes that they take.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
}

impl TorchError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Other { what } if what.contains("LFS") => {
                "`git lfs pull` in the folder fetches the weights, as does a download by huggingface_hub"
            }
            Self::Call { .. } | Self::Opcode { .. } => {
                "if you trust the file: load it with torch and save its `state_dict()` as safetensors"
            }
            Self::NotTensors { .. } | Self::Several { .. } => {
                "load it with torch and save the `state_dict()` of the model as safetensors"
            }
            Self::ByteOrder { .. } => "load it with torch and save it again on another machine",
            Self::Tensor { .. } => "load it with torch and save plain tensors as safetensors",
            _ => "the file is damaged, cut off, or was made to mislead: fetch it again",
        }
    }
}
