//! The pattern that Mistral's published files have wrong, where the files ask for the right one.

use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::{Map, Value, json};
use sli_checkpoint::ModelFolder;

use super::build::set_pre_tokenizer;
use super::files::read_object;

/// Vocabularies that large have the pattern.
const LARGE: usize = 100_000;
const TYPES: [&str; 5] = ["mistral", "mistral3", "voxtral", "ministral", "pixtral"];
const WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Puts the right pattern in, if `fix_mistral_regex` asks for it and the model is one of those.
pub fn fix(folder: &ModelFolder, values: &Map<String, Value>, backend: &mut Backend) {
    let asked = values.get("fix_mistral_regex") == Some(&Value::Bool(true));
    if !asked || backend.get_vocab_size(true) <= LARGE || !is_concerned(folder) {
        return;
    }
    let Ok(current) = serde_json::to_value(backend.get_pre_tokenizer()) else {
        return;
    };
    let split = json!({"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false});
    let steps = match (
        current["type"].as_str(),
        current["pretokenizers"].as_array(),
    ) {
        (Some("Sequence"), Some(steps)) => {
            [vec![split], steps.iter().skip(1).cloned().collect()].concat()
        }
        (Some("Metaspace"), _) => {
            let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
            vec![split, bytes]
        }
        (Some(_), _) => vec![split, current],
        (None, _) => return,
    };
    // The parts are valid: one is ours, the others were read.
    let set = set_pre_tokenizer(backend, json!({"type": "Sequence", "pretokenizers": steps}));
    debug_assert!(set.is_ok());
}

fn is_concerned(folder: &ModelFolder) -> bool {
    let Ok(Some(config)) = read_object(folder, "config.json") else {
        return false;
    };
    let old = match config.get("transformers_version").and_then(Value::as_str) {
        None | Some("") => true,
        Some(version) => is_before_5(version),
    };
    let model_type = config.get("model_type").and_then(Value::as_str);
    old && model_type.is_none_or(|name| TYPES.contains(&name))
}

fn is_before_5(version: &str) -> bool {
    let major: u32 = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or(0);
    let early = ["5.0.0.dev", "5.0.0rc", "5.0.0a", "5.0.0b"];
    major < 5 || early.iter().any(|early| version.starts_with(early))
}

#[cfg(test)]
mod tests {
    use super::is_before_5;

    #[test]
    fn versions() {
        for (version, before) in [
            ("4.57.1", true),
            ("5.0.0.dev0", true),
            ("5.0.0", false),
            ("5.23.0", false),
            ("3.5", true),
        ] {
            assert_eq!(is_before_5(version), before, "{version}");
        }
    }
}
