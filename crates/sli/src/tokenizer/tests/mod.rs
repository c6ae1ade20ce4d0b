//! Long texts in pieces; the classes; tokens with names.

mod classes;
mod labels;
mod named;
mod own;
mod tekken;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Tokenizer;
use crate::memory::Allowance;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tokenizers")
        .join(name)
}

/// A tokenizer of the tests with members of its file replaced.
fn changed(name: &str, changes: &[(&str, Value)], max_length: Option<usize>) -> Tokenizer {
    let bytes = fs_err::read(folder(name).join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&bytes).unwrap();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    let copy = tempfile::tempdir().unwrap();
    fs_err::write(copy.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::load(copy.path(), max_length, false, Allowance::unlimited()).unwrap()
}

/// Texts of everything that could depend on its surroundings.
fn texts(count: u32, length: u32) -> Vec<String> {
    const PARTS: [&str; 40] = [
        "the",
        "dog",
        "quick",
        " ",
        " ",
        " ",
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        ".",
        ",",
        "!?",
        "'s",
        "'ll",
        "I'm",
        "1",
        "23",
        "4567",
        "Z",
        "É",
        "e\u{301}",
        " \u{308}",
        "日本",
        "語",
        "ﬁ",
        "½",
        "\u{a0}",
        "\u{200b}",
        "😀",
        "<s>",
        "</s>",
        "[SEP]",
        "<mask>",
        "<|endoftext|>",
        "▁",
        "-",
    ];
    let mut state = 7_u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut text = || {
        let parts = (0..length).map(|_| match next(3) {
            0 => PARTS[next(40) as usize].to_owned(),
            1 => format!("{} {}", PARTS[next(3) as usize], PARTS[next(3) as usize]),
            _ => PARTS[next(8) as usize].to_owned(),
        });
        parts.collect::<String>()
    };
    (0..count).map(|_| text()).collect()
}

/// Compares the tokens of texts in small pieces with those of the whole.
fn compare(what: &str, tokenizer: Tokenizer) {
    let mut tokenizer = tokenizer.with_places();
    assert!(tokenizer.cuts.is_some(), "{what}");
    for text in texts(60, 60) {
        for special in [true, false] {
            tokenizer.piece_bytes = usize::MAX;
            let whole = tokenizer.encode(vec![&text], special).unwrap();
            for piece in [1, 7, 30] {
                tokenizer.piece_bytes = piece;
                let mut pieces = tokenizer.encode(vec![&text], special).unwrap();
                if !special {
                    // The library forgets what it cut off where it adds no special tokens.
                    pieces[0].cut = whole[0].cut;
                }
                assert_eq!(pieces, whole, "{what}, pieces of {piece}: {text:?}");
            }
        }
    }
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[test]
fn pieces_have_the_tokens_of_the_whole() {
    for name in [
        "added",
        "gpt2",
        "legacy",
        "mpnet",
        "prefixed",
        "roberta",
        "sentencepiece",
        "unigram",
        "wordpiece",
    ] {
        for max_length in [None, Some(1), Some(5), Some(33)] {
            let load = Tokenizer::load(folder(name), max_length, true, Allowance::unlimited());
            compare(name, load.unwrap());
        }
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": false});
    let digits = json!({"type": "Digits", "individual_digits": true});
    let gpt2_prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let spaces = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    let sequence = |key: &str, steps: Vec<Value>| json!({"type": "Sequence", key: steps});
    for (name, changes) in [
        (
            "gpt2",
            vec![
                (
                    "/pre_tokenizer",
                    sequence("pretokenizers", vec![split, byte_level]),
                ),
                ("/normalizer", json!({"type": "NFC"})),
            ],
        ),
        (
            "gpt2",
            vec![(
                "/pre_tokenizer",
                sequence("pretokenizers", vec![digits, gpt2_prefixed]),
            )],
        ),
        (
            "sentencepiece",
            vec![
                ("/pre_tokenizer", Value::Null),
                (
                    "/normalizer",
                    sequence("normalizers", vec![prepend, replace.clone()]),
                ),
            ],
        ),
        (
            "sentencepiece",
            vec![("/pre_tokenizer", spaces), ("/normalizer", replace)],
        ),
    ] {
        for max_length in [None, Some(9)] {
            compare(
                &format!("{name}, {changes:?}"),
                changed(name, &changes, max_length),
            );
        }
    }
}

#[test]
fn what_is_not_known_to_be_the_same_is_not_cut() {
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let added = |content: &str, flag: &str| {
        let mut token = json!({"id": 999, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false});
        token[flag] = json!(true);
        json!([token])
    };
    for (name, pointer, value) in [
        (
            "gpt2",
            "/normalizer",
            json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        ),
        (
            "gpt2",
            "/normalizer",
            json!({"type": "Replace", "pattern": {"Regex": r"\w \w"}, "content": "x"}),
        ),
        (
            "gpt2",
            "/normalizer",
            json!({"type": "Replace", "pattern": {"String": "a"}, "content": " "}),
        ),
        (
            "gpt2",
            "/pre_tokenizer",
            json!({"type": "FixedLength", "length": 5}),
        ),
        (
            "gpt2",
            "/pre_tokenizer",
            split(json!({"Regex": r"\w+ \w+|\s+"}), "Isolated"),
        ),
        (
            "gpt2",
            "/pre_tokenizer",
            split(json!({"Regex": r" ?\p{L}+|\s+"}), "MergedWithPrevious"),
        ),
        (
            "gpt2",
            "/pre_tokenizer",
            split(json!({"String": " "}), "MergedWithPrevious"),
        ),
        ("gpt2", "/pre_tokenizer", Value::Null),
        ("gpt2", "/model/dropout", json!(0.1)),
        ("gpt2", "/added_tokens", added("two words", "special")),
        ("gpt2", "/added_tokens", added("word", "rstrip")),
        ("sentencepiece", "/model/ignore_merges", json!(true)),
        ("sentencepiece", "/model/vocab/a▁b", json!(999)),
        ("unigram", "/pre_tokenizer/split", json!(false)),
    ] {
        let tokenizer = changed(name, &[(pointer, value.clone())], None);
        assert!(tokenizer.cuts.is_none(), "{pointer}: {value}");
    }
}

/// A tokenizer that splits by a pattern.
fn splitting(pattern: &str) -> Result<Tokenizer, super::TokenizerError> {
    let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = fs_err::read(folder("gpt2").join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&bytes).unwrap();
    file["pre_tokenizer"] = split;
    let copy = tempfile::tempdir().unwrap();
    fs_err::write(copy.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::load(copy.path(), None, false, Allowance::unlimited())
}

#[test]
fn patterns_without_end_are_an_error() {
    for pattern in [
        r"(?:a|aa)+$b",
        r"(a*)*c",
        r"^(?:a+)+b",
        r"(?=(?:a|aa)+c)x",
        r"(a|b|ab)*?bc",
    ] {
        let tokenizer = splitting(pattern).unwrap();
        let long = "a".repeat(64);
        let texts = vec!["dog", &long, "dog"];
        match tokenizer.encode_texts(texts) {
            Err(error) => {
                assert_eq!(error.exit_code(), 3, "{pattern}");
                assert!(error.to_string().contains("limit"), "{pattern}: {error}");
            }
            // A pattern that the engine makes harmless.
            Ok(encoded) => assert_eq!(encoded[0], encoded[2], "{pattern}"),
        }
        // A text that is no trouble still becomes tokens.
        assert_eq!(tokenizer.encode_texts(vec!["dog"]).unwrap().len(), 1);
    }
    let tokenizer = splitting(r"(?:a|aa)+$b").unwrap();
    let long = "a".repeat(64);
    assert!(tokenizer.encode_texts(vec![&long]).is_err());
}

#[test]
fn broken_and_deep_patterns_are_an_error() {
    let deep = |count: usize| format!("{}a{}", "(?:".repeat(count), ")".repeat(count));
    let many = format!("{}a", "(?=".repeat(5000));
    for pattern in [
        "(",
        "[a",
        r"\p{Nonsense}",
        "a{3,1}{2}(",
        &deep(5000),
        &deep(200_000),
        &many,
    ] {
        let error = splitting(pattern).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 3);
    }
    assert!(splitting(&deep(200)).is_ok());
}
