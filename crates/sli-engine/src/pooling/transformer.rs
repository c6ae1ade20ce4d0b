//! The settings of the transformer module: which of its keys change a text or the numbers.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use crate::error::EngineError;
use crate::sentence_folder::{TRANSFORMER_ALONE, TRANSFORMER_SETTINGS, read_object, unusable};

/// Arguments of the tokenizer that change nothing here.
const TOKENIZER_HARMLESS: [&str; 7] = [
    "cache_dir",
    "local_files_only",
    "padding_side",
    "revision",
    "token",
    "trust_remote_code",
    "use_fast",
];
/// Arguments of the model's loading that change no number, but for its precision.
const MODEL_HARMLESS: [&str; 14] = [
    "add_pooling_layer",
    "attn_implementation",
    "cache_dir",
    "device_map",
    "dtype",
    "local_files_only",
    "low_cpu_mem_usage",
    "revision",
    "token",
    "torch_dtype",
    "trust_remote_code",
    "unpad_inputs",
    "use_memory_efficient_attention",
    "use_safetensors",
];
/// Arguments of the configuration that change no number.
const CONFIG_HARMLESS: [&str; 11] = [
    "attn_implementation",
    "cache_dir",
    "dtype",
    "local_files_only",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "revision",
    "torch_dtype",
    "trust_remote_code",
    "use_cache",
];
/// Keys that are for queries and documents of `encode_query` and `encode_document`, or for speed.
const HARMLESS: [&str; 4] = [
    "query_length",
    "document_length",
    "query_expansion",
    "unpad_inputs",
];

/// Texts are as long as they are.
pub(super) const NO_LIMIT: usize = usize::MAX;

/// What the transformer module does with a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TransformerSettings {
    /// The file; `None` where there is none.
    pub path: Option<PathBuf>,
    /// Longer texts are cut.
    pub length: Option<Length>,
    /// Texts become lower case.
    pub lower_case: bool,
    /// Texts are cut at their beginning, or not; `None`: as the tokenizer says.
    pub truncate_left: Option<bool>,
    /// Texts become messages of a user, which the chat template renders.
    pub as_message: Option<Message>,
}

/// A limit that the settings name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Length {
    /// Tokens, or [`NO_LIMIT`].
    pub tokens: usize,
    /// The key.
    pub key: &'static str,
}

/// How the content of a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The text.
    Flat,
    /// A list of one part.
    Structured,
}

/// What the modules behind the transformer take of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The end of its layers.
    Hidden,
    /// Logits of masked tokens.
    Logits,
}

impl Output {
    /// What sentence-transformers calls the task of such a transformer, and what it gives.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Hidden => ["feature-extraction", "last_hidden_state"],
            Self::Logits => ["fill-mask", "logits"],
        }
    }
}

/// The settings of the transformer in `folder`, of which this is wanted.
pub(super) fn settings(
    folder: &ModelFolder,
    output: Output,
) -> Result<TransformerSettings, EngineError> {
    for name in TRANSFORMER_SETTINGS {
        let path = folder.join(name);
        // As in the reference, an empty one is none.
        if let Some(object) = read_object(folder, name)?.filter(|object| !object.is_empty()) {
            let path = &path;
            return Reader { path, output }.read(&object);
        }
    }
    Ok(TransformerSettings::default())
}

/// Reads one file.
struct Reader<'a> {
    path: &'a Path,
    output: Output,
}

impl Reader<'_> {
    fn refuse(&self, problem: String) -> EngineError {
        unusable(self.path.to_path_buf(), problem, TRANSFORMER_ALONE)
    }

    fn read(&self, object: &Map<String, Value>) -> Result<TransformerSettings, EngineError> {
        let mut settings = TransformerSettings {
            path: Some(self.path.to_path_buf()),
            ..TransformerSettings::default()
        };
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "max_seq_length" => {
                    let length = self.length(value, "max_seq_length")?;
                    settings.length.get_or_insert(length);
                }
                "do_lower_case" => settings.lower_case = truthy(value),
                "transformer_task" if value == self.output.names()[0] => {}
                "module_output_name" if value == "token_embeddings" => {}
                "modality_config" => settings.as_message = self.modalities(value)?,
                "processing_kwargs" => self.processing(value, &mut settings)?,
                "tokenizer_args" | "processor_kwargs" => {
                    self.tokenizer(key, value, &mut settings)?;
                }
                "model_args" | "model_kwargs" => self.only(key, value, &MODEL_HARMLESS)?,
                "config_args" | "config_kwargs" => self.only(key, value, &CONFIG_HARMLESS)?,
                _ if HARMLESS.contains(&key.as_str()) => {}
                _ => return Err(self.refuse(format!("`{key}` is {value}, which is not followed"))),
            }
        }
        Ok(settings)
    }

    /// A limit; texts that are cut to fewer than no token are a mistake.
    fn length(&self, value: &Value, key: &'static str) -> Result<Length, EngineError> {
        let tokens = limit(value)
            .ok_or_else(|| self.refuse(format!("`{key}` is {value}, not a number of tokens")))?;
        Ok(Length { tokens, key })
    }

    /// Only what is wanted of texts is known; messages go through the chat template.
    fn modalities(&self, value: &Value) -> Result<Option<Message>, EngineError> {
        let refuse =
            |part: &str| self.refuse(format!("`modality_config`: `{part}` is not followed"));
        let of = |name: &str| value.get(name).filter(|entry| !entry.is_null());
        let known = |entry: &Value| {
            let output = &entry["method_output_name"];
            let output = match output {
                Value::Array(parts) if parts.len() == 1 => &parts[0],
                other => other,
            };
            entry["method"] == "forward" && output == self.output.names()[1]
        };
        if let Some(message) = of("message") {
            if !known(message) {
                return Err(refuse("message"));
            }
            return match message["format"].as_str() {
                Some("flat") => Ok(Some(Message::Flat)),
                Some("structured") => Ok(Some(Message::Structured)),
                _ => Err(refuse("message.format")),
            };
        }
        match of("text") {
            Some(text) if known(text) => Ok(None),
            _ => Err(refuse("text")),
        }
    }

    /// Arguments of each call of the tokenizer.
    fn processing(
        &self,
        value: &Value,
        settings: &mut TransformerSettings,
    ) -> Result<(), EngineError> {
        let Value::Object(kinds) = value else {
            return Err(self.refuse("`processing_kwargs` is not an object".into()));
        };
        for (kind, arguments) in kinds {
            if matches!(kind.as_str(), "audio" | "image" | "video") {
                continue;
            }
            for (key, value) in arguments.as_object().into_iter().flatten() {
                match key.as_str() {
                    "max_length" if kind == "text" && !value.is_null() => {
                        settings.length = Some(self.length(value, "max_length")?);
                    }
                    "truncation" if value == true || value == "longest_first" => {}
                    "padding" | "padding_side" | "pad_to_multiple_of" | "return_tensors" => {}
                    _ => {
                        let problem =
                            format!("`processing_kwargs`: `{kind}.{key}` is not followed");
                        return Err(self.refuse(problem));
                    }
                }
            }
        }
        Ok(())
    }

    /// Arguments with which the tokenizer is loaded.
    fn tokenizer(
        &self,
        name: &str,
        value: &Value,
        settings: &mut TransformerSettings,
    ) -> Result<(), EngineError> {
        let arguments = value.as_object().into_iter().flatten();
        for (key, value) in arguments {
            match key.as_str() {
                "model_max_length" if value.is_null() => {
                    let (tokens, key) = (NO_LIMIT, "model_max_length");
                    settings.length = Some(Length { tokens, key });
                }
                // It wins over `max_seq_length`.
                "model_max_length" => {
                    settings.length = Some(self.length(value, "model_max_length")?);
                }
                "truncation_side" if value == "left" || value == "right" => {
                    settings.truncate_left = Some(value == "left");
                }
                _ if TOKENIZER_HARMLESS.contains(&key.as_str()) => {}
                _ => return Err(self.refuse(format!("`{name}`: `{key}` is not followed"))),
            }
        }
        Ok(())
    }

    /// Refuses arguments that are not on a list.
    fn only(&self, name: &str, value: &Value, harmless: &[&str]) -> Result<(), EngineError> {
        let other = value.as_object().into_iter().flatten();
        match other
            .map(|(key, _)| key)
            .find(|key| !harmless.contains(&key.as_str()))
        {
            None => Ok(()),
            Some(key) => Err(self.refuse(format!("`{name}`: `{key}` is not followed"))),
        }
    }
}

/// What Python takes for true.
pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// A number of tokens; one so large that the reference cuts nothing is [`NO_LIMIT`].
pub(super) fn limit(value: &Value) -> Option<usize> {
    let number = value.as_f64().filter(|&number| number >= 1.0)?;
    if number > 1e20 {
        return Some(NO_LIMIT);
    }
    Some(number as usize)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{Length, Message, NO_LIMIT, Output, Reader, TransformerSettings};
    use crate::error::EngineError;

    fn read(value: &Value) -> Result<TransformerSettings, EngineError> {
        let path = Path::new("sentence_bert_config.json");
        let output = Output::Hidden;
        Reader { path, output }.read(value.as_object().unwrap())
    }

    #[test]
    fn limits_of_all_versions() {
        let length = |value: Value| read(&value).unwrap().length;
        let of = |tokens, key| Some(Length { tokens, key });
        assert_eq!(length(json!({"max_seq_length": null})), None);
        assert_eq!(
            length(json!({"max_seq_length": 16, "do_lower_case": false})),
            of(16, "max_seq_length")
        );
        assert_eq!(
            length(json!({"max_seq_length": 16, "tokenizer_args": {"model_max_length": 8}})),
            of(8, "model_max_length")
        );
        assert_eq!(
            length(json!({"processor_kwargs": {"model_max_length": 8}, "max_seq_length": 16})),
            of(8, "model_max_length")
        );
        assert_eq!(
            length(json!({"max_seq_length": 1e30})),
            of(NO_LIMIT, "max_seq_length")
        );
    }

    #[test]
    fn what_changes_numbers_is_refused() {
        for value in [
            json!({"model_args": {"attn_bias": 1}}),
            json!({"config_args": {"is_causal": false}}),
            json!({"tokenizer_args": {"do_lower_case": true}}),
            json!({"tokenizer_name_or_path": "elsewhere"}),
            json!({"transformer_task": "fill-mask"}),
            json!({"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}}),
            json!({"processing_kwargs": {"text": {"add_special_tokens": false}}}),
            json!({"max_seq_length": 0}),
            json!({"max_seq_length": "many"}),
        ] {
            assert!(read(&value).is_err(), "{value}");
        }
        let harmless = json!({
            "model_args": {"attn_implementation": "eager"}, "config_args": {"use_cache": false},
            "tokenizer_args": {"use_fast": true}, "query_length": 32,
            "processing_kwargs": {"text": {"padding": true}}
        });
        assert!(read(&harmless).is_ok());
    }

    #[test]
    fn messages() {
        let forward = json!({"method": "forward", "method_output_name": "last_hidden_state"});
        let text = read(&json!({"modality_config": {"text": forward}})).unwrap();
        assert_eq!(text.as_message, None);
        let mut flat = forward.clone();
        flat["format"] = "flat".into();
        let both = read(&json!({"modality_config": {"text": forward, "message": flat}})).unwrap();
        assert_eq!(both.as_message, Some(Message::Flat));
    }
}
