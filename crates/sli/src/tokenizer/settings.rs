//! What the files beside `tokenizer.json` say for conversations: names of special tokens, templates.

use std::collections::BTreeMap;

use serde_json::Value;
use sli_checkpoint::ModelFolder;

use super::error::TokenizerError;
use super::files::read_object;
use super::special_token::SpecialToken;

/// Settings of a tokenizer beside `tokenizer.json`.
#[derive(Debug, Default)]
pub struct TokenizerSettings {
    /// Special tokens by name, for chat templates.
    pub variables: BTreeMap<String, String>,
    /// `chat_template` of `tokenizer_config.json`.
    pub(super) template: Option<Value>,
}

impl TokenizerSettings {
    /// Reads the settings files of a model folder; all of them may be absent. `named` are the special tokens
    /// of its tokenizer.
    pub fn read(
        folder: &ModelFolder,
        named: &[(String, SpecialToken)],
    ) -> Result<Self, TokenizerError> {
        let config = read_object(folder, "tokenizer_config.json")?.unwrap_or_default();
        let variables = named
            .iter()
            .map(|(name, token)| (name.clone(), token.content.clone()));
        Ok(Self {
            variables: variables.collect(),
            template: config
                .get("chat_template")
                .filter(|template| !template.is_null())
                .cloned(),
        })
    }
}
