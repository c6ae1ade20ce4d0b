//! How the files of a tokenizer are read.

use serde_json::Value;

/// How the files of a tokenizer are read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `tokenizer.json` is taken as it is, whatever its class.
    pub literal: bool,
    /// Settings that win over those of `tokenizer_config.json`.
    pub arguments: Vec<(String, Value)>,
    /// Of two tokenizers it is that of texts that are to be said.
    pub(super) said: bool,
}

impl Reading {
    /// By the class, with settings that win over the file's; or `literal`.
    pub fn new(literal: bool, arguments: Vec<(String, Value)>) -> Self {
        Self {
            literal,
            arguments,
            said: false,
        }
    }
}

impl From<bool> for Reading {
    fn from(literal: bool) -> Self {
        Self::new(literal, Vec::new())
    }
}
