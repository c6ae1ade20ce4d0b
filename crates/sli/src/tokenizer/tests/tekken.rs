//! Mistral's own vocabularies.

use serde_json::{Value, json};

use super::super::Tokenizer;
use super::super::vocabulary::base64;
use crate::memory::Allowance;

const PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const WORDS: [&str; 15] = [
    "he", "ll", "llo", "hello", "Ca", "se", " w", " wo", "naï", "12", "हि", "..", "...", "  ",
    " un",
];

/// Every byte, some words, and one entry that is behind the vocabulary.
fn file() -> Value {
    let bytes = (0..=255_u8).map(|byte| vec![byte]);
    let words = WORDS.iter().chain(&["behind"]);
    let tokens = bytes.chain(words.map(|word| word.as_bytes().to_vec()));
    let vocab: Vec<Value> = tokens
        .enumerate()
        .map(
            |(rank, token)| json!({"rank": rank, "token_bytes": base64(&token), "token_str": null}),
        )
        .collect();
    let special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"];
    let special: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(rank, token)| json!({"rank": rank, "token_str": token, "is_control": true}))
        .collect();
    json!({
        "config": {
            "pattern": PATTERN, "num_vocab_tokens": vocab.len(), "default_vocab_size": 8 + 256 + WORDS.len(),
            "default_num_special_tokens": 8, "version": "v7"
        },
        "vocab": vocab, "special_tokens": special
    })
}

fn ids(config: &Value, text: &str) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &Value| {
        fs_err::write(folder.path().join(name), content.to_string()).unwrap();
    };
    write("tekken.json", &file());
    if !config.is_null() {
        write("tokenizer_config.json", config);
    }
    let tokenizer = Tokenizer::load(folder.path(), None, false, Allowance::unlimited()).unwrap();
    tokenizer.encode_texts(vec![text]).unwrap()[0].ids.clone()
}

#[test]
fn tokens_are_those_of_the_reference() {
    // From the reference, which puts nothing in front; the published `tokenizer.json` of the same models does.
    for (text, tokens) in [
        ("hello world", &[267, 271, 122, 116, 108][..]),
        ("CaseCase hello12", &[268, 269, 268, 269, 40, 267, 57, 58]),
        (
            "[INST]naïve</s> <SPECIAL_6>...\n",
            &[3, 118, 105, 203, 183, 126, 109, 2, 40, 6, 276, 18],
        ),
        ("हि un  x", &[274, 278, 40, 40, 128]),
        ("behind", &[106, 109, 112, 113, 118, 108]),
    ] {
        assert_eq!(ids(&Value::Null, text), [&[1], tokens].concat(), "{text}");
        assert_eq!(
            ids(&json!({"add_bos_token": false}), text),
            tokens,
            "{text}"
        );
    }
}
