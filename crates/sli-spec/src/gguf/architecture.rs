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
    pub(super) names: &'static [Names],
    /// Tensors that the converter writes and nobody reads.
    pub(super) idle: &'static [&'static str],
}

/// Tensors whose names begin alike, in the reference and in a file; `*` is the number of a layer, `{}` that of an expert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// What the reference's begin with.
    pub reference: &'static str,
    /// What the file's begin with.
    pub file: &'static str,
    pub rows: &'static [Row],
    /// The key of how many other blocks stand in front of these.
    pub behind: Option<&'static str>,
}

/// A tensor of the reference and the one of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The rest of the reference's name without `.weight` and `.bias`.
    pub reference: &'static str,
    /// The rest of the file's; an ending that it has is that of every tensor of the row.
    pub file: &'static str,
    pub change: Change,
    /// The file's name has no ending.
    pub exact: bool,
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
    /// Queries, keys and values, which were one tensor, are three, the rows of the first two in pairs.
    Separated,
    /// Gate and upward projection, which were one tensor, are two.
    Divided,
    /// What makes keys and values of a latent vector is two tensors, head by head, that of the keys transposed.
    Latent,
    /// Its parts, which were one tensor, have these names.
    Parted(&'static [&'static str]),
    /// Its numbers have further axes.
    Flat,
    /// It is one of several, which are stacked.
    Stacked,
    /// It is one number of a list with one for each layer.
    Listed,
    /// It is this one of several that are stacked.
    Nth(usize),
    /// It is the negated exponential.
    Decay,
    /// It is the exponential.
    Exponential,
    /// Queries, keys, values and gates of groups of heads, which were one tensor, are two: the gates' is `attn_gate`.
    Ungrouped,
    /// Heads of values of one group, which stood together, alternate with those of the other groups.
    Tiled(Tiled),
}

/// Where heads of values are in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tiled {
    /// They are its rows.
    Rows,
    /// They are its rows behind those of queries and keys.
    Behind,
    /// They are its columns.
    Columns,
    /// Each is a number, the negated exponential.
    Decays,
}

pub(super) const fn under(
    reference: &'static str,
    file: &'static str,
    rows: &'static [Row],
) -> Names {
    Names {
        reference,
        file,
        rows,
        behind: None,
    }
}

/// Tensors of layers that stand behind as many others as a key of the architecture says.
pub(super) const fn behind(
    key: &'static str,
    reference: &'static str,
    rows: &'static [Row],
) -> Names {
    Names {
        behind: Some(key),
        ..layers(reference, rows)
    }
}

/// Tensors of layers, where most files have them.
pub(super) const fn layers(reference: &'static str, rows: &'static [Row]) -> Names {
    under(reference, "blk.*.", rows)
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
        exact: false,
    }
}

/// A tensor whose name in the file has no ending.
pub(super) const fn exactly(reference: &'static str, file: &'static str, change: Change) -> Row {
    Row {
        exact: true,
        ..changed(reference, file, change)
    }
}

/// A norm that is stored with its one.
pub(super) const fn plus_one(reference: &'static str, file: &'static str) -> Row {
    changed(reference, file, Change::PlusOne)
}
