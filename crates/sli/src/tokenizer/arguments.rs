//! What the constructor of a tokenizer's class is called with: `tokenizer_config.json`, then the older files
//! beside it, in the order in which the reference lets one win over the other.

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;
use std::collections::BTreeMap;

use super::error::TokenizerError;
use super::files::read_object;
use super::special_token::SpecialToken;

/// The special tokens that every tokenizer may have, in the reference's order.
pub const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Arguments of a constructor.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// Values by name; tokens with flags are objects with `__type`.
    pub values: Map<String, Value>,
    /// Tokens by id that are added in any case.
    pub added: BTreeMap<i64, SpecialToken>,
    /// Further special tokens with a name.
    pub model_specific: Vec<(String, SpecialToken)>,
    /// Whether `added_tokens_decoder` says which tokens are added, so that `tokenizer.json` does not.
    pub has_decoder: bool,
    /// `add_bos_token` and `add_eos_token` as the file has them, where a `tokenizer.json` overrules them.
    pub overruled: Vec<(&'static str, bool)>,
}

impl Arguments {
    /// Reads the files beside the vocabulary; `config` is the content of `tokenizer_config.json`.
    pub fn read(
        folder: &ModelFolder,
        config: &Map<String, Value>,
        has_tokenizer_file: bool,
        file_tokens: impl FnOnce() -> Result<Vec<(i64, SpecialToken)>, TokenizerError>,
    ) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer_config.json");
        let broken = |problem: String| TokenizerError::Broken {
            path: path.clone(),
            problem,
        };
        let mut arguments = Self {
            values: config.clone(),
            ..Self::default()
        };
        for key in [
            "tokenizer_class",
            "init_inputs",
            "chat_template",
            "auto_map",
        ] {
            arguments.values.shift_remove(key);
        }
        if has_tokenizer_file {
            for key in ["add_bos_token", "add_eos_token"] {
                if let Some(value) = arguments.values.shift_remove(key) {
                    arguments.overruled.push((key, is_true(&value)));
                }
            }
        }
        arguments.name_tokens().map_err(broken)?;
        if let Some(decoder) = arguments.values.shift_remove("added_tokens_decoder") {
            arguments.has_decoder = true;
            arguments.added = decoder_tokens(&decoder).map_err(broken)?;
        } else {
            arguments.read_older(folder)?;
            if has_tokenizer_file {
                arguments.added.extend(file_tokens()?);
            }
        }
        arguments.take_flags();
        Ok(arguments)
    }

    /// Moves further tokens where the reference keeps them.
    fn name_tokens(&mut self) -> Result<(), String> {
        let values = &mut self.values;
        if !values.get("extra_special_tokens").is_some_and(is_true)
            && let Some(tokens) = values.shift_remove("additional_special_tokens")
        {
            values.insert("extra_special_tokens".into(), tokens);
        }
        let named: Vec<String> = values
            .iter()
            .filter(|(key, value)| {
                key.ends_with("_token") && value.is_string() && !NAMES.contains(&key.as_str())
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in named {
            if let Some(token) = values
                .shift_remove(&key)
                .as_ref()
                .and_then(SpecialToken::of_value)
            {
                set(&mut self.model_specific, key, token);
            }
        }
        self.take_named_extras()
    }

    /// `extra_special_tokens` that have names.
    fn take_named_extras(&mut self) -> Result<(), String> {
        if !self
            .values
            .get("extra_special_tokens")
            .is_some_and(Value::is_object)
        {
            return Ok(());
        }
        let Some(Value::Object(extra)) = self.values.shift_remove("extra_special_tokens") else {
            return Ok(());
        };
        for (key, value) in extra {
            let token = SpecialToken::of_value(&value)
                .ok_or_else(|| format!("`extra_special_tokens`: `{key}` is not a token"))?;
            set(&mut self.model_specific, key, token);
        }
        Ok(())
    }

    /// `special_tokens_map.json` and `added_tokens.json`, which count only without `added_tokens_decoder`.
    fn read_older(&mut self, folder: &ModelFolder) -> Result<(), TokenizerError> {
        let path = folder.join("special_tokens_map.json");
        // Texts that the reference knows as special when it reads the next file: there, tokens with flags of
        // tokenizer_config.json are no tokens yet.
        let mut special: Vec<String> = Vec::new();
        let content =
            |fields: &Map<String, Value>| fields.get("content")?.as_str().map(str::to_owned);
        let map = read_object(folder, "special_tokens_map.json")?.unwrap_or_default();
        for (key, value) in map {
            let is_extra = key == "extra_special_tokens";
            match &value {
                Value::Object(fields) if NAMES.contains(&key.as_str()) => {
                    special.extend(content(fields));
                }
                Value::Array(tokens) if is_extra => {
                    let fields = tokens.iter().filter_map(Value::as_object);
                    special.extend(fields.filter_map(content));
                }
                _ => {}
            }
            let value = match value {
                Value::Object(mut fields) if key != "extra_special_tokens" => {
                    fields.insert("special".into(), true.into());
                    fields.insert("__type".into(), "AddedToken".into());
                    Value::Object(fields)
                }
                Value::Array(tokens) if key == "extra_special_tokens" => {
                    let mut all = match self.values.get(&key) {
                        Some(Value::Array(existing)) => existing.clone(),
                        _ => Vec::new(),
                    };
                    for mut token in tokens {
                        if let Value::Object(fields) = &mut token {
                            fields.insert("special".into(), true.into());
                            fields.insert("__type".into(), "AddedToken".into());
                        }
                        if !all.contains(&token) {
                            all.push(token);
                        }
                    }
                    Value::Array(all)
                }
                other => other,
            };
            self.values.insert(key, value);
        }
        self.take_named_extras()
            .map_err(|problem| TokenizerError::Broken { path, problem })?;
        self.read_added_tokens(folder, special)
    }

    fn read_added_tokens(
        &mut self,
        folder: &ModelFolder,
        mut special: Vec<String>,
    ) -> Result<(), TokenizerError> {
        let path = folder.join("added_tokens.json");
        let Some(tokens) = read_object(folder, "added_tokens.json")? else {
            return Ok(());
        };
        let named = NAMES.iter().filter_map(|name| self.values.get(*name));
        let extra = self
            .values
            .get("extra_special_tokens")
            .and_then(Value::as_array);
        let texts = named
            .chain(extra.into_iter().flatten())
            .filter_map(Value::as_str);
        special.extend(texts.map(str::to_owned));
        for (content, id) in tokens {
            let Some(id) = id.as_i64() else {
                return Err(TokenizerError::Broken {
                    path,
                    problem: format!("the id of `{content}` is not a whole number"),
                });
            };
            let special = special.contains(&content);
            let token = SpecialToken {
                special,
                normalized: Some(!special),
                ..SpecialToken::plain(&content)
            };
            self.added.insert(id, token);
        }
        Ok(())
    }

    /// Special tokens have the flags of the added token of their text.
    fn take_flags(&mut self) {
        // Of several with one text the last that was read counts; ids ascend here as there.
        let by_text: BTreeMap<&str, &SpecialToken> = self
            .added
            .values()
            .map(|token| (token.content.as_str(), token))
            .collect();
        for name in NAMES {
            let Some(token) = self.values.get(name).and_then(SpecialToken::of_value) else {
                continue;
            };
            if let Some(found) = by_text.get(token.content.as_str()) {
                self.values.insert(name.into(), value_of(found));
            }
        }
    }
}

/// A token as a value with flags.
pub fn value_of(token: &SpecialToken) -> Value {
    serde_json::json!({
        "__type": "AddedToken",
        "content": token.content,
        "single_word": token.single_word,
        "lstrip": token.lstrip,
        "rstrip": token.rstrip,
        "normalized": token.normalized,
        "special": token.special,
    })
}

/// Whether Python takes a value for true.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

/// Sets a name's token in its old place, or at the end.
pub fn set(tokens: &mut Vec<(String, SpecialToken)>, name: String, token: SpecialToken) {
    match tokens.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = token,
        None => tokens.push((name, token)),
    }
}

fn decoder_tokens(decoder: &Value) -> Result<BTreeMap<i64, SpecialToken>, String> {
    let wrong = |id: &str| format!("`added_tokens_decoder`: `{id}` is not a token");
    let Value::Object(decoder) = decoder else {
        return Err("`added_tokens_decoder` is not a map of tokens".into());
    };
    let mut tokens = BTreeMap::new();
    for (id, fields) in decoder {
        let number = id.trim().parse().map_err(|_| wrong(id))?;
        let token = SpecialToken::of_fields(fields).ok_or_else(|| wrong(id))?;
        tokens.insert(number, token);
    }
    Ok(tokens)
}
