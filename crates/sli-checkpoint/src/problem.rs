//! Why one weight cannot be had from the tensors of a checkpoint.

use crate::dtype::Dtype;

/// Why one weight cannot be had from the tensors.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafProblem {
    /// Tensors are not in the checkpoint.
    #[error("missing: {}", names.join(", "))]
    Missing {
        /// Their names.
        names: Vec<String>,
        /// Whether other tensors of the same weight are there.
        partly: bool,
    },
    /// The shape is not the model's.
    #[error("`{name}` has shape {found:?}; the model wants {wanted:?}")]
    Shape {
        /// Name of the tensor, or of one of several.
        name: String,
        /// The shape it gives.
        found: Vec<usize>,
        /// The shape of the model's weight.
        wanted: Vec<usize>,
    },
    /// A shape that cannot be taken apart or put together as the model says.
    #[error("`{name}` has shape {shape:?}: {reason}")]
    Structure {
        /// Name of the tensor, or of one of several.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What does not work.
        reason: String,
    },
    /// An element type that cannot be used.
    #[error("`{name}` is {found}; the model wants {wanted}")]
    Dtype {
        /// Name of the tensor.
        name: String,
        /// Its dtype.
        found: Dtype,
        /// What would do.
        wanted: String,
    },
    /// Several spellings of one weight are there at once.
    #[error("several spellings of one weight are present: {}", names.join(", "))]
    Ambiguous {
        /// Their names.
        names: Vec<String>,
    },
    /// The description itself asks for something that cannot be evaluated.
    #[error("`{name}`: the description cannot be evaluated: {reason}")]
    Description {
        /// A name in it.
        name: String,
        /// Why.
        reason: String,
    },
}
