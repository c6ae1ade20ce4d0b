//! What the configuration classes of the reference assume for keys that a file omits.
//!
//! The files of `types` are written by `tools/defaults/generate.py` from the pinned transformers; nothing
//! in them is typed by hand. Those of `remote` have the same form, for types whose code is published beside
//! their weights: they are kept by hand, after that code.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One configuration class.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    /// Prefix of the base model's tensors in a checkpoint with a head, with its dot.
    pub(crate) base_prefix: String,
    /// The model classes of the type.
    pub(crate) classes: BTreeMap<String, Task>,
    /// Other spellings of keys: `hidden_size` for GPT-2's `n_embd`.
    pub(crate) attribute_map: BTreeMap<String, String>,
    /// The base of rotary embeddings where the file has none: a number, or one per kind of layer.
    pub(crate) default_theta: Value,
    /// Values of the class's fields.
    pub(crate) defaults: Map<String, Value>,
    /// Patterns of tensors that the reference's classes of the type leave out without a word.
    #[serde(default)]
    pub(crate) ignored: Vec<String>,
    /// Keys without which the defaults describe no model, with values of a published one.
    #[serde(default)]
    pub(crate) example: Map<String, Value>,
    /// Keys of other classes that the sources of the type mention; none for code beside the weights.
    #[serde(default)]
    pub(crate) reads: Option<BTreeSet<String>>,
}

/// What a model class is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The stack without a head.
    Base,
    /// Predicts the next token.
    CausalLm,
    /// Predicts masked tokens.
    MaskedLm,
    /// Predicts the next token of a decoder behind an encoder.
    #[serde(rename = "seq2seq_lm")]
    Seq2SeqLm,
    /// The encoder of an encoder-decoder alone.
    Encoder,
    /// Says of which class a record is.
    SequenceClassification,
    /// Says of which class every token is.
    TokenClassification,
}

impl Task {
    /// Whether a class for it gives logits of tokens.
    pub fn has_logits(self) -> bool {
        match self {
            Self::CausalLm | Self::MaskedLm | Self::Seq2SeqLm => true,
            Self::Base
            | Self::Encoder
            | Self::SequenceClassification
            | Self::TokenClassification => false,
        }
    }
}

impl Row {
    /// The class's own spelling of a key.
    pub(crate) fn spelling<'a>(&'a self, key: &'a str) -> &'a str {
        self.attribute_map.get(key).map_or(key, String::as_str)
    }

    /// The task of a checkpoint that does not name its class.
    pub(crate) fn usual_task(&self) -> Task {
        let has = |task| self.classes.values().any(|&t| t == task);
        [Task::MaskedLm, Task::Seq2SeqLm, Task::CausalLm]
            .into_iter()
            .find(|&task| has(task))
            .unwrap_or(Task::Base)
    }
}

/// Names of types and their rows as JSON.
type Files = &'static [(&'static str, &'static str)];

const TYPES: Files = include!(concat!(env!("OUT_DIR"), "/types.rs"));
const REMOTE: Files = include!(concat!(env!("OUT_DIR"), "/remote.rs"));

fn parse(files: Files) -> BTreeMap<String, Row> {
    let row = |&(name, text): &(&str, &str)| {
        let row = serde_json::from_str(text).expect("the embedded row is valid");
        (name.to_owned(), row)
    };
    files.iter().map(row).collect()
}

/// Rows of the code that is published beside the weights.
fn remote() -> &'static BTreeMap<String, Row> {
    static REMOTE_ROWS: OnceLock<BTreeMap<String, Row>> = OnceLock::new();
    REMOTE_ROWS.get_or_init(|| parse(REMOTE))
}

/// Whether only the code published beside the weights knows the type.
pub(crate) fn is_remote(model_type: &str) -> bool {
    remote()
        .get(model_type)
        .is_some_and(|row| !row.defaults.is_empty())
}

/// Whether a class of this name is of the code published beside the weights.
pub(crate) fn is_remote_class(model_type: &str, class: &str) -> bool {
    remote()
        .get(model_type)
        .is_some_and(|row| row.classes.contains_key(class))
}

/// The row of a type.
pub(crate) fn row(model_type: &str) -> Option<&'static Row> {
    rows().get(model_type)
}

/// The rows of all types, by their names.
pub(crate) fn rows() -> &'static BTreeMap<String, Row> {
    static ROWS: OnceLock<BTreeMap<String, Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let mut rows = parse(TYPES);
        for (model_type, remote) in remote().clone() {
            match rows.entry(model_type) {
                Entry::Vacant(place) => {
                    place.insert(remote);
                }
                // Both codes read this type: the classes say which of them a file is for.
                Entry::Occupied(mut row) => row.get_mut().classes.extend(remote.classes),
            }
        }
        rows
    })
}
