//! What the files beside `tokenizer.json` say for conversations: names of special tokens, templates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use sli_checkpoint::ModelFolder;

use super::error::TokenizerError;
use super::files::{SETTINGS_LIMIT, read_object};
use super::special_token::SpecialToken;

/// Settings of a tokenizer beside `tokenizer.json`.
#[derive(Debug, Default)]
pub struct TokenizerSettings {
    /// Special tokens by name, for chat templates.
    pub variables: BTreeMap<String, String>,
    /// `chat_template` of `tokenizer_config.json`.
    template: Option<Value>,
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

    /// The source of the chat template and the file it is from.
    pub fn chat_template(&self, folder: &ModelFolder) -> Result<(PathBuf, String), TokenizerError> {
        if let Some(bytes) = folder.read("chat_template.jinja", SETTINGS_LIMIT)? {
            let path = folder.join("chat_template.jinja");
            let source = String::from_utf8(bytes).map_err(|error| TokenizerError::Broken {
                path: path.clone(),
                problem: error.to_string(),
            })?;
            return Ok((path, source));
        }
        if let Some(template) = &self.template {
            let path = folder.join("tokenizer_config.json");
            return default_template(template, path);
        }
        let path = folder.join("chat_template.json");
        match read_object(folder, "chat_template.json")?
            .and_then(|mut object| object.remove("chat_template"))
        {
            Some(template) => default_template(&template, path),
            None => Err(TokenizerError::NoTemplate {
                folder: folder.path().to_path_buf(),
            }),
        }
    }
}

/// The template that is meant when none is named: the only one, or the one named `default`.
fn default_template(value: &Value, path: PathBuf) -> Result<(PathBuf, String), TokenizerError> {
    let found = match value {
        Value::String(template) => Some(template.as_str()),
        Value::Object(named) => named.get("default").and_then(Value::as_str),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str()),
        _ => None,
    };
    if let Some(template) = found {
        return Ok((path, template.to_owned()));
    }
    let problem = "`chat_template` names no template `default`".into();
    Err(TokenizerError::Broken { path, problem })
}
