//! Texts that are read and texts that are to be said, where the class has a language for each.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{Reading, Tokenizer, TokenizerError};
use crate::memory::Allowance;

#[derive(Deserialize)]
struct Stored {
    texts: Vec<String>,
    #[serde(default)]
    list: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    class: String,
    vocabulary: String,
    settings: Map<String, Value>,
    read: Vec<Vec<u32>>,
    said: Vec<Vec<u32>>,
}

/// The tokenizer of a case, with its settings in the file or beside it.
fn load(
    case: &Case,
    in_file: bool,
    more: &[(&str, Value)],
) -> (tempfile::TempDir, Result<Tokenizer, TokenizerError>) {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = super::folder("classes").join(format!("{}.json", case.vocabulary));
    fs_err::copy(vocabulary, folder.path().join("tokenizer.json")).unwrap();
    let mut config = Map::from_iter([("tokenizer_class".to_owned(), case.class.as_str().into())]);
    let mut reading = Reading::default();
    if in_file {
        config.extend(case.settings.clone());
    } else {
        // What the file says loses.
        config.insert("tgt_lang".into(), "xyz".into());
        reading.arguments = case.settings.clone().into_iter().collect();
    }
    let more = more
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    reading.arguments.extend(more);
    let config = Value::Object(config).to_string();
    fs_err::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let loaded = Tokenizer::load(folder.path(), None, reading, Allowance::unlimited());
    (folder, loaded)
}

fn stored() -> Stored {
    let text = include_str!("../../../tests/tokenizers/labels.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn labels_are_of_the_language_that_is_translated_into() {
    let Stored { texts, cases, .. } = stored();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut differ = 0;
    for case in &cases {
        let ways: &[bool] = if case.settings.contains_key("tgt_lang") {
            &[true, false]
        } else {
            &[true]
        };
        for &in_file in ways {
            let (_folder, loaded) = load(case, in_file, &[]);
            let mut tokenizer = loaded.unwrap();
            // By turns: neither leaves anything behind.
            for _ in 0..2 {
                let read = tokenizer.encode_texts(texts.clone()).unwrap();
                let said = tokenizer.encode_labels(texts.clone()).unwrap();
                for ((read, said), (text, index)) in
                    read.iter().zip(&said).zip(texts.iter().zip(0..))
                {
                    assert_eq!(
                        read.ids, case.read[index],
                        "{} {:?} {text}",
                        case.class, case.settings
                    );
                    assert_eq!(
                        said.ids, case.said[index],
                        "{} {:?} {text}",
                        case.class, case.settings
                    );
                    differ += usize::from(read.ids != said.ids);
                }
            }
        }
    }
    assert!(differ > 0);
}

/// The byte classes' cases have no vocabulary.
#[test]
fn bytes_are_tokens() {
    let text = include_str!("../../../tests/tokenizers/bytes.json");
    let Stored { texts, list, cases } = serde_json::from_str(text).unwrap();
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
        assert_eq!(whole[0].ids.len(), long.len() + added);
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
        ("marian.json", "vocab.json"),
    ] {
        fs_err::copy(models.join(from), folder.path().join(to)).unwrap();
    }
    let load = |config: &str| {
        fs_err::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::load(folder.path(), None, false, Allowance::unlimited())
    };
    let marian = load(r#"{"tokenizer_class": "MarianTokenizer"}"#).unwrap();
    for text in [">>xx<< hello", "hello >>de<< world"] {
        let error = marian.encode_texts(vec![text]).unwrap_err().to_string();
        assert!(error.contains("the language `>>"), "{error}");
    }
    let wrong = load(r#"{"tokenizer_class": "M2M100Tokenizer", "src_lang": "klingon"}"#);
    assert!(wrong.err().unwrap().to_string().contains("klingon"));
    let mut untold = load(r#"{"tokenizer_class": "M2M100Tokenizer"}"#).unwrap();
    assert!(untold.encode_texts(vec!["hello"]).is_ok());
    let error = untold.encode_labels(vec!["hello"]).unwrap_err().to_string();
    assert!(error.contains("tgt_lang"), "{error}");
}

#[test]
fn a_setting_that_nothing_reads_is_refused() {
    let all = stored().cases;
    let case = all
        .iter()
        .find(|case| case.class == "NllbTokenizer")
        .unwrap();
    let (_folder, loaded) = load(case, true, &[("tgt_lnag", "deu_Latn".into())]);
    let error = loaded.err().unwrap();
    assert!(
        error.to_string().contains("no setting `tgt_lnag`"),
        "{error}"
    );
    assert!(error.hint().contains("tgt_lang"), "{}", error.hint());
    assert_eq!(error.exit_code(), 2);
}
