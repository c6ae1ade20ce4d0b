//! Classes that the reference runs as Python code.

use serde::Deserialize;
use serde_json::Value;

use super::super::Tokenizer;
use super::labels::Stored;
use crate::memory::Allowance;

/// The cases of `tools/tokenizers/bytes.py`, with ESM's list.
#[derive(Deserialize)]
struct Listed {
    list: Vec<String>,
    #[serde(flatten)]
    stored: Stored,
}

/// The cases of bytes and characters have no vocabulary.
#[test]
fn bytes_are_tokens() {
    let text = include_str!("../../../tests/tokenizers/bytes.json");
    let Listed { list, stored } = serde_json::from_str(text).unwrap();
    let Stored { texts, cases } = stored;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        let mut config = case.settings.clone();
        config.insert("tokenizer_class".into(), case.class.as_str().into());
        let config = Value::Object(config).to_string();
        fs_err::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        fs_err::write(folder.path().join("vocab.txt"), list.join("\n")).unwrap();
        let loaded = Tokenizer::load(folder.path(), None, false, Allowance::unlimited());
        let mut tokenizer = loaded.unwrap();
        let read = tokenizer.encode_texts(texts.clone()).unwrap();
        for (read, (text, expected)) in read.iter().zip(texts.iter().zip(&case.read)) {
            assert_eq!(
                &read.ids, expected,
                "{} {:?} {text}",
                case.class, case.settings
            );
        }
        let pairs = [("ab", "c"), ("", "x y")];
        for (pair, expected) in tokenizer
            .encode_pairs(&pairs)
            .unwrap()
            .iter()
            .zip(&case.said)
        {
            assert_eq!(&pair.ids, expected, "{} {:?}", case.class, case.settings);
        }
        if case.class == "EsmTokenizer" {
            continue;
        }
        // In pieces as in one.
        let long = "naïve words and \u{65e5} ".repeat(4000);
        let whole = tokenizer.encode_texts(vec![&long]).unwrap();
        let added = tokenizer.special_tokens();
        let tokens = match case.class.as_str() {
            "CanineTokenizer" => long.chars().count(),
            _ => long.len(),
        };
        assert_eq!(whole[0].ids.len(), tokens + added);
    }
}

/// The models and vocabularies of `tools/tokenizers/numbered.py`.
#[test]
fn pieces_have_the_numbers_of_their_vocabulary() {
    let models = std::env::var_os("SLI_NUMBERED");
    let models = models.map_or_else(|| super::folder("numbered"), Into::into);
    let text = fs_err::read_to_string(models.join("cases.json")).unwrap();
    let Stored { texts, cases, .. } = serde_json::from_str(&text).unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        for name in ["source.spm", "target.spm", "sentencepiece.bpe.model"] {
            fs_err::copy(models.join(name), folder.path().join(name)).unwrap();
        }
        fs_err::copy(
            models.join(&case.vocabulary),
            folder.path().join("vocab.json"),
        )
        .unwrap();
        let mut config = case.settings.clone();
        config.insert("tokenizer_class".into(), case.class.as_str().into());
        let config = Value::Object(config).to_string();
        fs_err::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        for places in [false, true] {
            let loaded = Tokenizer::load(folder.path(), None, false, Allowance::unlimited());
            let mut tokenizer = loaded.unwrap();
            if places {
                tokenizer = tokenizer.with_places();
            }
            let read = tokenizer.encode_texts(texts.clone()).unwrap();
            let said = tokenizer.encode_labels(texts.clone()).unwrap();
            for (index, text) in texts.iter().enumerate() {
                let what = format!("{} {:?} {text:?}", case.class, case.settings);
                assert_eq!(read[index].ids, case.read[index], "{what}");
                assert_eq!(said[index].ids, case.said[index], "{what}, said");
            }
        }
    }
}

#[test]
fn languages_that_nobody_knows_are_refused() {
    let models = super::folder("numbered");
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("source.spm", "source.spm"),
        ("target.spm", "target.spm"),
        ("sentencepiece.bpe.model", "sentencepiece.bpe.model"),
        ("marian.json", "marian.json"),
        ("m2m.json", "m2m.json"),
    ] {
        fs_err::copy(models.join(from), folder.path().join(to)).unwrap();
    }
    let load = |vocabulary: &str, config: &str| {
        let [from, to] = [vocabulary, "vocab.json"].map(|name| folder.path().join(name));
        fs_err::copy(from, to).unwrap();
        fs_err::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::load(folder.path(), None, false, Allowance::unlimited())
    };
    let marian = load("marian.json", r#"{"tokenizer_class": "MarianTokenizer"}"#).unwrap();
    for text in [">>xx<< hello", "hello >>de<< world"] {
        let error = marian.encode_texts(vec![text]).unwrap_err().to_string();
        assert!(error.contains("the language `>>"), "{error}");
    }
    let wrong = load(
        "m2m.json",
        r#"{"tokenizer_class": "M2M100Tokenizer", "src_lang": "klingon"}"#,
    );
    assert!(wrong.err().unwrap().to_string().contains("klingon"));
    let mut untold = load("m2m.json", r#"{"tokenizer_class": "M2M100Tokenizer"}"#).unwrap();
    assert!(untold.encode_texts(vec!["hello"]).is_ok());
    let error = untold.encode_labels(vec!["hello"]).unwrap_err().to_string();
    assert!(error.contains("tgt_lang"), "{error}");
}

#[test]
fn characters_have_places_and_others_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let load = |settings: &str| {
        let config = format!(r#"{{"tokenizer_class": "CanineTokenizer"{settings}}}"#);
        fs_err::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::load(folder.path(), None, false, Allowance::unlimited())
    };
    let tokenizer = load("").unwrap().with_places();
    let read = tokenizer.encode_texts(vec!["aé日\u{1f600}"]).unwrap();
    let places = &read[0].text.as_ref().unwrap().offsets;
    assert_eq!(places[1..5], [[0, 1], [1, 3], [3, 6], [6, 10]]);
    assert_eq!(tokenizer.token(0x65e5).as_deref(), Some("日"));
    for (settings, problem) in [
        (r#", "cls_token": "[CLS]""#, "`[CLS]` is not one character"),
        (r#", "extra_special_tokens": ["<x>"]"#, "`<x>` is not one"),
        (
            r#", "added_tokens_decoder": {"5": {"content": "x"}}"#,
            "`x` at 5, which is not its code point",
        ),
    ] {
        let error = load(settings).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
