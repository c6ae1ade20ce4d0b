//! Where a class builds another tokenizer than its file describes.

use ::tokenizers::tokenizer::Tokenizer as Backend;
use ::tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, Token};
use serde_json::Value;

use super::arguments::Arguments;
use super::auto::Choice;
use super::build::Built;
use super::load::Parts;

/// The parts of a file that decide tokens, apart from the vocabulary.
pub struct Pipeline {
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    model: Value,
}

impl Pipeline {
    /// Of a file.
    pub fn of_parts(parts: &Parts) -> Self {
        Self {
            normalizer: parts.normalizer.clone(),
            pre_tokenizer: parts.pre_tokenizer.clone(),
            post_processor: parts.post_processor.clone(),
            model: Value::Object(parts.options.clone()),
        }
    }
}

/// A sentence naming the class and what it has otherwise than the file, if there is something.
pub fn differences(choice: &Choice, file: &Pipeline, backend: &Backend) -> Option<String> {
    let built = |part: Result<Value, serde_json::Error>| part.unwrap_or(Value::Null);
    let normalizer = built(serde_json::to_value(backend.get_normalizer()));
    let pre_tokenizer = built(serde_json::to_value(backend.get_pre_tokenizer()));
    let mut parts = Vec::new();
    if plain(&normalizer) != plain(&file.normalizer) {
        parts.push("normalizer");
    }
    if plain(&pre_tokenizer) != plain(&file.pre_tokenizer) {
        parts.push("pre_tokenizer");
    }
    let of_file: Option<PostProcessorWrapper> =
        serde_json::from_value(file.post_processor.clone()).unwrap_or(None);
    if frames(backend.get_post_processor()) != frames(of_file.as_ref()) {
        parts.push("post_processor");
    }
    parts.extend(model_differences(&file.model, backend));
    if parts.is_empty() {
        return None;
    }
    let parts = parts.join(", ");
    let class = &choice.class;
    let from = match &choice.named {
        Some((name, file)) if name != class => format!(" (`{name}` in {file})"),
        Some((_, file)) => format!(" ({file})"),
        None => " (the model type's)".to_owned(),
    };
    Some(format!(
        "the tokenizer is {class}'s{from}, as in transformers 5.23, which differs from tokenizer.json in {parts}; \
         --tokenizer-file takes the file as it is"
    ))
}

/// What is left of a part when what decides no token is taken out.
fn plain(part: &Value) -> Value {
    match part {
        Value::Object(members) => {
            let mut members = members.clone();
            members.shift_remove("trim_offsets");
            // One step in a row is that step.
            for steps in ["normalizers", "pretokenizers"] {
                if let Some([step]) = members
                    .get(steps)
                    .and_then(Value::as_array)
                    .map(Vec::as_slice)
                {
                    return plain(step);
                }
            }
            let members = members.into_iter().map(|(key, value)| (key, plain(&value)));
            Value::Object(members.collect())
        }
        Value::Array(steps) => steps.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// Options of the model that count, of those that differ.
fn model_differences(file: &Value, backend: &Backend) -> Vec<&'static str> {
    // The map of entries is left out: a model without any says the same of itself.
    let mut differing = Vec::new();
    let text = |key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| file.get(key).and_then(Value::as_bool).unwrap_or(false);
    match backend.get_model() {
        ::tokenizers::ModelWrapper::BPE(bpe) => {
            let given = |value: &Option<String>| value.clone().unwrap_or_default();
            let kind = file.get("type").and_then(Value::as_str);
            if kind.is_some_and(|kind| kind != "BPE") {
                differing.push("model.type");
            }
            if given(&bpe.continuing_subword_prefix) != text("continuing_subword_prefix") {
                differing.push("model.continuing_subword_prefix");
            }
            if given(&bpe.end_of_word_suffix) != text("end_of_word_suffix") {
                differing.push("model.end_of_word_suffix");
            }
            if bpe.byte_fallback != flag("byte_fallback") {
                differing.push("model.byte_fallback");
            }
            if bpe.ignore_merges != flag("ignore_merges") {
                differing.push("model.ignore_merges");
            }
            let known = |entry: String| backend.token_to_id(&entry).is_some();
            let complete = bpe.byte_fallback
                && (0..=255).all(|byte: u8| known(format!("<0x{byte:02X}>")))
                || super::vocabulary::byte_characters()
                    .iter()
                    .all(|byte| known(byte.to_string()));
            let unknown = given(&bpe.unk_token);
            let fuse = bpe.fuse_unk != flag("fuse_unk") && !unknown.is_empty();
            if !complete && (unknown != text("unk_token") || fuse) {
                differing.push("model.unk_token");
            }
        }
        ::tokenizers::ModelWrapper::WordPiece(words) => {
            let kind = file.get("type").and_then(Value::as_str);
            if kind.is_some_and(|kind| kind != "WordPiece") {
                differing.push("model.type");
            }
            if file.get("unk_token").is_some() && words.unk_token != text("unk_token") {
                differing.push("model.unk_token");
            }
            let prefix = file
                .get("continuing_subword_prefix")
                .and_then(Value::as_str);
            if prefix.is_some_and(|prefix| prefix != words.continuing_subword_prefix) {
                differing.push("model.continuing_subword_prefix");
            }
            let longest = file.get("max_input_chars_per_word").and_then(Value::as_u64);
            if longest.is_some_and(|longest| longest != words.max_input_chars_per_word as u64) {
                differing.push("model.max_input_chars_per_word");
            }
        }
        ::tokenizers::ModelWrapper::Unigram(unigram) => {
            if flag("byte_fallback") != unigram.byte_fallback() {
                differing.push("model.byte_fallback");
            }
            let unknown = serde_json::to_value(unigram_unknown(backend)).unwrap_or(Value::Null);
            if file.get("unk_id").is_some_and(|id| *id != unknown) {
                differing.push("model.unk_id");
            }
        }
        ::tokenizers::ModelWrapper::WordLevel(_) => {}
    }
    differing
}

/// The id of the unknown token of a unigram model, which the library shows in its tokens only.
fn unigram_unknown(backend: &Backend) -> Option<u32> {
    use ::tokenizers::Model;
    // A character that no vocabulary has: a noncharacter.
    let tokens = backend.get_model().tokenize("\u{10fffe}").ok()?;
    tokens.first().map(|token| token.id)
}

/// The ids and types that a post-processor makes of one text and of two.
fn frames(post_processor: Option<&PostProcessorWrapper>) -> Vec<Option<(Vec<u32>, Vec<u32>)>> {
    let text = |id: u32| Encoding::from_tokens(vec![Token::new(id, String::new(), (0, 0))], 0);
    let frame = |pair: Option<Encoding>| {
        let first = text(u32::MAX);
        let Some(processor) = post_processor else {
            let mut second = pair;
            if let Some(second) = &mut second {
                second.set_type_ids(vec![1]);
            }
            let merged = Encoding::merge(std::iter::once(first).chain(second), false);
            return Some((merged.get_ids().to_vec(), merged.get_type_ids().to_vec()));
        };
        let framed = processor.process(first, pair, true).ok()?;
        Some((framed.get_ids().to_vec(), framed.get_type_ids().to_vec()))
    };
    vec![frame(None), frame(Some(text(u32::MAX - 1)))]
}

/// What the files ask for at the ends of a text, and nothing does.
pub fn flags(arguments: &Arguments, built: &Built) -> Vec<String> {
    let frames = frames(built.backend.get_post_processor());
    let Some(Some((ids, _))) = frames.first() else {
        return Vec::new();
    };
    let place = ids.iter().position(|id| *id == u32::MAX).unwrap_or(0);
    let mut said = Vec::new();
    for (key, asked) in &arguments.overruled {
        let (name, side) = match *key {
            "add_bos_token" => ("bos_token", &ids[..place]),
            _ => ("eos_token", &ids[place..]),
        };
        let token = built
            .named
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, token)| token);
        let Some(token) = token else {
            continue;
        };
        let id = built.backend.token_to_id(&token.content);
        let does = id.is_some_and(|id| side.contains(&id));
        let does_what = match (asked, does) {
            (true, false) => "no",
            (false, true) => "a",
            _ => continue,
        };
        said.push(format!(
            "tokenizer_config.json says `{key}: {asked}`, but a text gets {does_what} `{}`: beside a tokenizer.json \
             transformers 5.23 does not look at this key",
            token.content
        ));
    }
    said
}
