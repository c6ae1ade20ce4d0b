//! What the files beside `tokenizer.json` say: names of special tokens, further tokens, templates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::tokenizers::{AddedToken, tokenizer::Tokenizer as Backend};
use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use super::error::TokenizerError;

/// Largest settings file that is read, bytes.
const FILE_LIMIT: u64 = 64 << 20;

/// The special tokens with a name of their own; chat templates see them as variables.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Special tokens that a tokenizer class has where its files name none (transformers 5.23).
const CLASS_DEFAULTS: [(&str, &[(&str, &str)]); 8] = [
    (
        "LlamaTokenizer",
        &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("unk_token", "<unk>"),
        ],
    ),
    (
        "GemmaTokenizer",
        &[
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
    ),
    (
        "Qwen2Tokenizer",
        &[
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
            ("pad_token", "<|endoftext|>"),
        ],
    ),
    (
        "GPT2Tokenizer",
        &[
            ("bos_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
        ],
    ),
    (
        "CohereTokenizer",
        &[
            ("bos_token", "<BOS_TOKEN>"),
            ("eos_token", "<|END_OF_TURN_TOKEN|>"),
            ("unk_token", "<UNK>"),
            ("pad_token", "<PAD>"),
            ("cls_token", "<CLS>"),
            ("sep_token", "<SEP>"),
            ("mask_token", "<MASK_TOKEN>"),
        ],
    ),
    (
        "BertTokenizer",
        &[
            ("unk_token", "[UNK]"),
            ("sep_token", "[SEP]"),
            ("pad_token", "[PAD]"),
            ("cls_token", "[CLS]"),
            ("mask_token", "[MASK]"),
        ],
    ),
    (
        "DistilBertTokenizer",
        &[
            ("unk_token", "[UNK]"),
            ("sep_token", "[SEP]"),
            ("pad_token", "[PAD]"),
            ("cls_token", "[CLS]"),
            ("mask_token", "[MASK]"),
        ],
    ),
    (
        "RobertaTokenizer",
        &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("sep_token", "</s>"),
            ("cls_token", "<s>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
    ),
];

/// Settings of a tokenizer beside `tokenizer.json`.
#[derive(Debug, Default)]
pub struct TokenizerSettings {
    /// Special tokens by name, for chat templates.
    pub variables: BTreeMap<String, String>,
    /// `truncation_side` is `left`.
    pub truncate_left: bool,
    /// Special tokens in a text are ordinary characters.
    pub split_special_tokens: bool,
    /// Tokens by id that `tokenizer.json` may lack.
    added: BTreeMap<u64, AddedToken>,
    /// Special tokens that `tokenizer.json` may lack.
    special: Vec<AddedToken>,
    /// `chat_template` of `tokenizer_config.json`.
    template: Option<Value>,
}

impl TokenizerSettings {
    /// Reads the settings files of a model folder; all of them may be absent.
    pub fn read(folder: &ModelFolder) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer_config.json");
        let config = read_object(folder, "tokenizer_config.json")?.unwrap_or_default();
        let broken = |problem: String| TokenizerError::Broken {
            path: path.clone(),
            problem,
        };
        let mut settings = Self {
            truncate_left: config.get("truncation_side").and_then(Value::as_str) == Some("left"),
            split_special_tokens: config.get("split_special_tokens").and_then(Value::as_bool)
                == Some(true),
            template: config
                .get("chat_template")
                .filter(|template| !template.is_null())
                .cloned(),
            ..Self::default()
        };
        if let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") {
            for (id, token) in tokens {
                let wrong = || broken(format!("`added_tokens_decoder`: `{id}` is not a token"));
                let number = id.parse().map_err(|_| wrong())?;
                settings
                    .added
                    .insert(number, added_token(token, false).ok_or_else(wrong)?);
            }
        }
        // The older file counts only where the newer one does not list the tokens.
        let map = if settings.added.is_empty() {
            read_object(folder, "special_tokens_map.json")?.unwrap_or_default()
        } else {
            Map::new()
        };
        let class = config
            .get("tokenizer_class")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let class = class.strip_suffix("Fast").unwrap_or(class);
        let defaults = CLASS_DEFAULTS
            .iter()
            .find(|(name, _)| *name == class)
            .map_or(&[][..], |row| row.1);
        for name in NAMES {
            let given = map.get(name).or_else(|| config.get(name));
            if let Some(token) = given.and_then(|token| added_token(token, true)) {
                settings
                    .variables
                    .insert(name.into(), token.content.clone());
                settings.special.push(token);
            } else if given.is_none()
                && let Some((_, token)) = defaults.iter().find(|(key, _)| *key == name)
            {
                settings.variables.insert(name.into(), (*token).into());
            }
        }
        for name in ["additional_special_tokens", "extra_special_tokens"] {
            let given = map.get(name).or_else(|| config.get(name));
            let tokens: Vec<&Value> = match given {
                Some(Value::Array(tokens)) => tokens.iter().collect(),
                Some(Value::Object(tokens)) => tokens.values().collect(),
                _ => Vec::new(),
            };
            settings.special.extend(
                tokens
                    .into_iter()
                    .filter_map(|token| added_token(token, true)),
            );
        }
        Ok(settings)
    }

    /// Adds the tokens that the tokenizer does not have yet.
    pub fn add_tokens(&self, backend: &mut Backend) -> Result<(), ::tokenizers::Error> {
        backend.add_tokens(self.added.values().cloned())?;
        let known: Vec<String> = backend
            .get_added_tokens_decoder()
            .into_values()
            .map(|token| token.content)
            .collect();
        let new = self
            .special
            .iter()
            .filter(|token| !known.contains(&token.content));
        backend.add_tokens(new.cloned())?;
        Ok(())
    }

    /// The source of the chat template and the file it is from.
    pub fn chat_template(&self, folder: &ModelFolder) -> Result<(PathBuf, String), TokenizerError> {
        if let Some(bytes) = folder.read("chat_template.jinja", FILE_LIMIT)? {
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

/// A token as a string or an object with its flags; `special` says that it is special anyhow.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let token = match value {
        Value::String(content) => AddedToken::from(content.clone(), special),
        Value::Object(fields) => {
            let flag = |name: &str| fields.get(name).and_then(Value::as_bool);
            let special = special || flag("special").unwrap_or(false);
            AddedToken::from(fields.get("content")?.as_str()?, special)
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .single_word(flag("single_word").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!special))
        }
        _ => return None,
    };
    Some(token)
}

/// An object of a JSON file of the model folder, `None` if there is no such file.
fn read_object(
    folder: &ModelFolder,
    name: &str,
) -> Result<Option<Map<String, Value>>, TokenizerError> {
    let Some(bytes) = folder.read(name, FILE_LIMIT)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| TokenizerError::Broken {
            path: folder.join(name),
            problem: error.to_string(),
        })
}
