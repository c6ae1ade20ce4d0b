//! Texts that are read and texts that are to be said, where the class has a language for each.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{Reading, Tokenizer, TokenizerError};
use crate::memory::Allowance;

/// Texts, and what the reference makes of them.
#[derive(Deserialize)]
pub struct Stored {
    pub texts: Vec<String>,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
pub struct Case {
    pub class: String,
    pub vocabulary: String,
    pub settings: Map<String, Value>,
    pub read: Vec<Vec<u32>>,
    pub said: Vec<Vec<u32>>,
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
