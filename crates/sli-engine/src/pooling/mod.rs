//! How a record's hidden states become one vector.
//!
//! `--take embedding` gives what sentence-transformers gives for the model's folder. [`text`] knows what it does to a text before it becomes tokens, [`modules`] what follows the transformer: a
//! [`recipe::Recipe`], which [`run`] carries out. A pooling that is named (`--take embedding:mean`) is the
//! transformer's part alone: no module of the folder counts.

mod activation;
mod kind;
mod modules;
mod recipe;
mod run;
mod sparse;
mod stored;
mod text;
mod transformer;
mod weights;

pub(crate) use self::modules::{columns, embedding_width, pooled_stack, recipe};
pub(crate) use self::run::{Embedder, Pool};
pub(crate) use self::sparse::{Fold, SparseRecipe, sparse_recipe};
pub(crate) use self::stored::Stored;
pub use self::text::{Prompt, TextRules, text_rules};
pub use self::transformer::Message;
pub(crate) use self::weights::ModuleWeights;
pub use self::weights::module_weights;
