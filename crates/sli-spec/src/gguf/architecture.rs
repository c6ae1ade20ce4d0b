//! What an architecture is.

use super::reader::{Read, Reader};

/// How llama.cpp names and stores the models of a kind.
#[derive(Debug)]
pub struct Architecture {
    /// Its name.
    pub name: &'static str,
    /// Types of the reference that it stands for, for documents.
    pub model_types: &'static [&'static str],
    /// The reference's class of tokenizer where tokens are pieces with scores.
    pub of_pieces: &'static str,
    /// What its metadata say, as keys of a configuration.
    pub(super) config: fn(&mut Reader<'_>) -> Read,
    /// Names of tensors.
    pub(super) names: &'static [Row],
}

/// A tensor of the reference and the one of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The reference's name without `.weight` and `.bias`; `*` is the number of a layer, `{}` that of an expert.
    pub reference: &'static str,
    /// The file's; where it has an ending, that is always the whole name.
    pub file: &'static str,
    pub change: Change,
}

/// What the converter did to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing. Experts are stacked.
    None,
    /// The rows of every head go in pairs that are rotated together.
    Permuted,
    /// One was added.
    PlusOne,
    /// It was transposed.
    Transposed,
    /// Queries, keys and values, whose rows were mixed, stand one behind the other.
    Unmixed,
    /// Gate and upward projection, which were one tensor, are two.
    Divided,
    /// What makes keys and values of a latent vector is two tensors, head by head, that of the keys transposed.
    Latent,
}

/// A tensor that is only named otherwise.
pub(super) const fn row(reference: &'static str, file: &'static str) -> Row {
    changed(reference, file, Change::None)
}

/// A tensor that was changed.
pub(super) const fn changed(reference: &'static str, file: &'static str, change: Change) -> Row {
    Row {
        reference,
        file,
        change,
    }
}
