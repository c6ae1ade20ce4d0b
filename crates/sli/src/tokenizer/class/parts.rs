//! Parts of pipelines, as `tokenizer.json` would spell them.

use serde_json::{Value, json};

use super::Settings;

type Made = Result<Value, String>;

pub fn none(_: &Settings) -> Made {
    Ok(Value::Null)
}

/// Steps in a row.
fn normalizers(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "normalizers": steps})
}

fn pre_tokenizers(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
}

fn replace_matches(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

fn strip_right() -> Value {
    json!({"type": "Strip", "strip_left": false, "strip_right": true})
}

fn only(kind: &str) -> Value {
    json!({ "type": kind })
}

/// The map of characters of the SentencePiece model, if it has one.
fn precompiled(settings: &Settings) -> Option<Value> {
    let map = settings.characters?;
    Some(json!({"type": "Precompiled", "precompiled_charsmap": map}))
}

fn split(pattern: &Value, behavior: &str, invert: bool) -> Value {
    json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert})
}

fn bytes(prefix: bool, regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex})
}

fn metaspace(scheme: &str, split: bool) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split})
}

fn bert(settings: &Settings, clean: bool, chinese: bool) -> Made {
    Ok(json!({
        "type": "BertNormalizer",
        "clean_text": clean,
        "handle_chinese_chars": chinese,
        "strip_accents": settings.flag_or_null("strip_accents")?,
        "lowercase": settings.flag("do_lower_case")?,
    }))
}

pub fn bert_normalizer(settings: &Settings) -> Made {
    bert(settings, true, settings.flag("tokenize_chinese_chars")?)
}

/// BERT's of classes that leave `do_lower_case` aside.
pub fn lower_case_always(settings: &Settings) -> Made {
    Ok(json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": settings.flag("tokenize_chinese_chars")?,
        "strip_accents": settings.flag_or_null("strip_accents")?,
        "lowercase": true,
    }))
}

pub fn funnel_normalizer(settings: &Settings) -> Made {
    bert(
        settings,
        settings.flag("clean_text")?,
        settings.flag("tokenize_chinese_chars")?,
    )
}

pub fn herbert_normalizer(_: &Settings) -> Made {
    Ok(
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
              "strip_accents": false, "lowercase": false}),
    )
}

pub fn openai_normalizer(_: &Settings) -> Made {
    Ok(
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
              "strip_accents": null, "lowercase": true}),
    )
}

pub fn bert_words(_: &Settings) -> Made {
    Ok(only("BertPreTokenizer"))
}

pub fn nfc(_: &Settings) -> Made {
    Ok(only("NFC"))
}

pub fn nfkc(_: &Settings) -> Made {
    Ok(only("NFKC"))
}

/// Words and bytes by GPT-2's pattern.
pub fn byte_level(settings: &Settings) -> Made {
    Ok(bytes(settings.flag("add_prefix_space")?, true))
}

pub fn cohere_words(settings: &Settings) -> Made {
    Ok(pre_tokenizers(&[
        json!({"type": "Digits", "individual_digits": true}),
        bytes(settings.flag("add_prefix_space")?, true),
    ]))
}

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CLIP: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

fn qwen(settings: &Settings, pattern: &str) -> Made {
    let prefix = settings.flag_or_null("add_prefix_space")?.unwrap_or(false);
    Ok(pre_tokenizers(&[
        split(&json!({ "Regex": pattern }), "Isolated", false),
        bytes(prefix, false),
    ]))
}

pub fn qwen2_words(settings: &Settings) -> Made {
    qwen(settings, QWEN2)
}

pub fn qwen3_5_words(settings: &Settings) -> Made {
    qwen(settings, QWEN3_5)
}

pub fn clip_normalizer(_: &Settings) -> Made {
    Ok(normalizers(&[
        only("NFC"),
        replace_matches(r"\s+", " "),
        only("Lowercase"),
    ]))
}

pub fn clip_words(_: &Settings) -> Made {
    Ok(pre_tokenizers(&[
        split(&json!({ "Regex": CLIP }), "Removed", true),
        bytes(false, true),
    ]))
}

pub fn nougat_words(_: &Settings) -> Made {
    // The third pattern is a string, not an expression, in the reference too.
    let marks = r##"[\(\)\[\]\{\}]|([!\"#\$%\&'\*\+,\-\./:;<=>\?\\\^_`\|\~])\1*"##;
    Ok(pre_tokenizers(&[
        split(&json!({"String": "SPL1T-TH1S-Pl3A5E"}), "Removed", false),
        json!({"type": "Digits", "individual_digits": true}),
        split(&json!({ "String": marks }), "Isolated", false),
        split(&json!({"String": "\n"}), "Isolated", false),
        bytes(false, true),
    ]))
}

/// `first` unless `legacy`, where a space is put in front at all.
pub fn llama_words(settings: &Settings) -> Made {
    let prefix = match settings.value("add_prefix_space") {
        Value::Null => true,
        _ => settings.truth("add_prefix_space"),
    };
    let scheme = match (prefix, settings.truth("legacy")) {
        (false, _) => "never",
        (true, false) => "first",
        (true, true) => "always",
    };
    Ok(metaspace(scheme, false))
}

pub fn gemma_normalizer(_: &Settings) -> Made {
    Ok(replace(" ", "▁"))
}

/// Gemma's after lower case.
pub fn siglip2_normalizer(_: &Settings) -> Made {
    Ok(normalizers(&[only("Lowercase"), replace(" ", "▁")]))
}

pub fn gemma_words(_: &Settings) -> Made {
    Ok(split(&json!({"String": " "}), "MergedWithPrevious", false))
}

fn scheme(settings: &Settings) -> &'static str {
    if settings.truth("add_prefix_space") {
        "always"
    } else {
        "never"
    }
}

/// Pieces with the mark in front; none where `add_prefix_space` is false.
pub fn marked(settings: &Settings) -> Made {
    Ok(metaspace(scheme(settings), true))
}

pub fn always_marked(_: &Settings) -> Made {
    Ok(metaspace("always", true))
}

pub fn first_marked(_: &Settings) -> Made {
    Ok(metaspace("first", true))
}

pub fn marked_words(settings: &Settings) -> Made {
    Ok(pre_tokenizers(&[
        only("WhitespaceSplit"),
        metaspace(scheme(settings), true),
    ]))
}

pub fn always_marked_words(_: &Settings) -> Made {
    Ok(pre_tokenizers(&[
        only("WhitespaceSplit"),
        metaspace("always", true),
    ]))
}

pub fn deberta_v2_words(settings: &Settings) -> Made {
    let mut steps = Vec::new();
    if settings.truth("split_by_punct") {
        steps.push(json!({"type": "Punctuation", "behavior": "Isolated"}));
    }
    let scheme = if settings.truth("add_prefix_space") {
        "always"
    } else {
        "first"
    };
    steps.push(metaspace(scheme, true));
    Ok(pre_tokenizers(&steps))
}

pub fn characters(settings: &Settings) -> Made {
    Ok(precompiled(settings).unwrap_or(Value::Null))
}

/// The map of characters and single spaces, where there is a map.
pub fn characters_and_spaces(settings: &Settings) -> Made {
    let steps = |map| normalizers(&[map, replace_matches(" {2,}", " ")]);
    Ok(precompiled(settings).map_or(Value::Null, steps))
}

/// The map of characters, where there is one, and single spaces.
pub fn single_spaces(settings: &Settings) -> Made {
    let mut steps: Vec<Value> = precompiled(settings).into_iter().collect();
    steps.push(replace_matches(" {2,}", " "));
    Ok(normalizers(&steps))
}

pub fn pegasus_normalizer(settings: &Settings) -> Made {
    let first = precompiled(settings).unwrap_or_else(|| replace_matches(r"\n", " "));
    Ok(normalizers(&[first, replace_matches(" {2,}", " ")]))
}

fn quotes() -> Vec<Value> {
    vec![replace("``", "\""), replace("''", "\"")]
}

fn accents(steps: &mut Vec<Value>) {
    steps.extend([only("NFKD"), only("StripAccents")]);
}

fn case_and_map(settings: &Settings, mut steps: Vec<Value>) -> Value {
    if settings.truth("do_lower_case") {
        steps.push(only("Lowercase"));
    }
    steps.extend(precompiled(settings));
    normalizers(&steps)
}

pub fn albert_normalizer(settings: &Settings) -> Made {
    let mut steps = quotes();
    if !settings.truth("keep_accents") {
        accents(&mut steps);
    }
    Ok(case_and_map(settings, steps))
}

pub fn rembert_normalizer(settings: &Settings) -> Made {
    let mut steps = quotes();
    steps.push(replace_matches(" {2,}", " "));
    if !settings.truth("keep_accents") {
        accents(&mut steps);
    }
    Ok(case_and_map(settings, steps))
}

/// Accents go whatever `keep_accents` says.
pub fn xlnet_normalizer(settings: &Settings) -> Made {
    let mut steps = quotes();
    accents(&mut steps);
    Ok(case_and_map(settings, steps))
}

pub fn lines_and_spaces(_: &Settings) -> Made {
    Ok(normalizers(&[
        replace_matches(r"\s{2,}|[\n\r\t]", " "),
        only("NFC"),
        strip_right(),
    ]))
}

pub fn deberta_v2_normalizer(settings: &Settings) -> Made {
    let mut steps = Vec::new();
    if settings.truth("do_lower_case") {
        steps.push(only("Lowercase"));
    }
    steps.extend([
        replace_matches(r"\s{2,}|[\n\r\t]", " "),
        only("NFC"),
        strip_right(),
    ]);
    Ok(normalizers(&steps))
}

pub fn big_bird_normalizer(_: &Settings) -> Made {
    Ok(normalizers(&[
        json!({"type": "Strip", "strip_left": false, "strip_right": false}),
        replace_matches(" {2,}", "▁"),
    ]))
}

pub fn tipsv2_normalizer(settings: &Settings) -> Made {
    Ok(case_and_map(settings, Vec::new()))
}

pub fn seamless_normalizer(_: &Settings) -> Made {
    Ok(normalizers(&[
        replace_matches(r"[\n\r\t]", " "),
        only("NFKC"),
        strip_right(),
        replace_matches(" +▁", "▁"),
        replace_matches("^▁+$", ""),
        replace_matches(" {2,}", "▁"),
    ]))
}
