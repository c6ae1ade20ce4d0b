//! Every class of the reference against its own tokens: `tools/tokenizers/goldens.py`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::auto::CLASSES as KNOWN;
use super::super::class::{CLASSES, Class, REFUSED};
use super::super::own::Own;
use super::super::{Tokenizer, TokenizerError};
use super::texts;
use crate::memory::Allowance;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers/classes")
}

/// Writes the folder of a case.
fn folder(case: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = case["vocabulary"].as_str().unwrap();
    let read =
        |ending: &str| fs_err::read(goldens().join(format!("{vocabulary}.{ending}"))).unwrap();
    let write = |name: &str, bytes: &[u8]| fs_err::write(folder.path().join(name), bytes).unwrap();
    let model = || serde_json::from_slice::<Value>(&read("json")).unwrap()["model"].take();
    match case["layout"].as_str().unwrap() {
        "file" => write("tokenizer.json", &read("json")),
        "txt" => {
            let vocabulary = model()["vocab"].take();
            let mut entries: Vec<(&String, &Value)> =
                vocabulary.as_object().unwrap().iter().collect();
            entries.sort_by_key(|(_, id)| id.as_u64());
            let lines: Vec<&str> = entries.iter().map(|(entry, _)| entry.as_str()).collect();
            write("vocab.txt", format!("{}\n", lines.join("\n")).as_bytes());
        }
        "json" => {
            let model = model();
            write("vocab.json", model["vocab"].to_string().as_bytes());
            let pairs = model["merges"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let lines: Vec<String> = pairs
                .map(|pair| format!("{} {}", text(&pair[0]), text(&pair[1])))
                .collect();
            let lines = format!("#version: 0.2\n{}\n", lines.join("\n"));
            write("merges.txt", lines.as_bytes());
        }
        name => write(name, &read("bin")),
    }
    write(
        "tokenizer_config.json",
        case["config"].to_string().as_bytes(),
    );
    for (name, content) in case["beside"].as_object().into_iter().flatten() {
        write(name, content.to_string().as_bytes());
    }
    folder
}

/// What two texts become together: ids, and types where the model gets them.
fn pair(tokenizer: &Tokenizer, pair: &Value) -> (Vec<u32>, Vec<u32>) {
    let (first, second) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    // An empty second text is none, for the reference.
    let encoding = match second {
        "" => tokenizer.backend.encode_fast(first, true),
        _ => tokenizer.backend.encode_fast((first, second), true),
    };
    let encoding = encoding.unwrap();
    (
        encoding.get_ids().to_vec(),
        encoding.get_type_ids().to_vec(),
    )
}

/// Texts in pieces have the tokens of the whole, where they are cut.
fn same_in_pieces(what: &str, mut tokenizer: Tokenizer) {
    if tokenizer.cuts.is_none() {
        return;
    }
    for text in texts(6, 40) {
        tokenizer.piece_bytes = usize::MAX;
        let whole = tokenizer.encode(vec![&text], true).unwrap();
        for piece in [1, 9] {
            tokenizer.piece_bytes = piece;
            let pieces = tokenizer.encode(vec![&text], true).unwrap();
            assert_eq!(pieces, whole, "{what}, pieces of {piece}: {text:?}");
        }
    }
}

#[test]
fn every_class_has_the_tokens_of_the_reference() {
    let cases = fs_err::read(goldens().join("cases.json")).unwrap();
    let file: Value = serde_json::from_slice(&cases).unwrap();
    let golden: Vec<&str> = file["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    let (mut compared, mut refused, mut cut, mut classes) = (0, 0, 0, BTreeSet::new());
    let mut wrong = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let name = case["class"].as_str().unwrap();
        let what = format!(
            "{name}, {} {}, {} {}",
            case["layout"], case["vocabulary"], case["config"], case["beside"]
        );
        let folder = folder(case);
        let loaded = Tokenizer::load(folder.path(), None, false, Allowance::unlimited());
        let is_refused = case["refused"] == true;
        let not_supported = REFUSED.iter().any(|(refused, _)| *refused == name);
        match loaded {
            Ok(tokenizer) if is_refused => {
                // Unknown characters may be what it cannot do.
                match tokenizer.encode_texts(golden.clone()) {
                    Ok(_) => wrong.push(format!("not refused: {what}")),
                    Err(_) => refused += 1,
                }
            }
            Err(_) if is_refused => refused += 1,
            Err(TokenizerError::Class { problem, .. }) if not_supported => {
                assert!(problem.contains("not supported"), "{problem}");
            }
            Err(error) => wrong.push(format!("{error}: {what}")),
            Ok(tokenizer) => {
                let encoded = tokenizer.encode_texts(golden.clone()).unwrap();
                let ids: Vec<Vec<u32>> = encoded.into_iter().map(|encoded| encoded.ids).collect();
                let pairs: Vec<_> = file["pairs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|texts| pair(&tokenizer, texts))
                    .collect();
                let pair_ids: Vec<&Vec<u32>> = pairs.iter().map(|(ids, _)| ids).collect();
                if json!(ids) != case["ids"] || json!(pair_ids) != case["pairs"] {
                    wrong.push(format!(
                        "{ids:?} {pair_ids:?}, not {} {}: {what}",
                        case["ids"], case["pairs"]
                    ));
                }
                if tokenizer.types != case.get("types").is_some() {
                    wrong.push(format!("types {}: {what}", tokenizer.types));
                }
                let pair_types: Vec<&Vec<u32>> = pairs.iter().map(|(_, types)| types).collect();
                if tokenizer.types && json!(pair_types) != case["types"] {
                    wrong.push(format!("types {pair_types:?}: {what}"));
                }
                classes.insert(name.to_owned());
                compared += 1;
                cut += usize::from(tokenizer.cuts.is_some());
                same_in_pieces(&what, tokenizer);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    assert!(
        compared >= 220 && refused >= 20,
        "{compared} compared, {refused} refused"
    );
    assert!(cut >= 60, "{cut} of them cut long texts");
    for class in CLASSES {
        assert!(classes.contains(class.name), "no golden of {}", class.name);
    }
}

#[test]
fn the_table_has_every_class_of_the_reference() {
    for (name, kind) in &KNOWN.kinds {
        let refused = REFUSED.iter().any(|(refused, _)| refused == name);
        match kind.as_str() {
            "file" | "python" => assert!(Class::find(name).is_none() && !refused, "{name}"),
            "builds" => assert!(Class::find(name).is_some() != refused, "{name}"),
            parent => assert!(Class::find(parent).is_some(), "{name}"),
        }
    }
    for class in CLASSES {
        assert_eq!(
            KNOWN.kinds.get(class.name).map(String::as_str),
            Some("builds"),
            "{}",
            class.name
        );
        for setting in class.settings {
            assert!(
                serde_json::from_str::<Value>(setting.default).is_ok(),
                "{}",
                setting.key
            );
        }
    }
}

/// `docs/tokenizers.md`, as the table says.
fn documentation() -> String {
    use std::fmt::Write;
    let mut text = String::from(
        "# Tokenizer classes\n\n\
         The tokenizer of a folder is the one that `AutoTokenizer` of transformers 5.23 builds. Its class follows from\n\
         `tokenizer_class` in `tokenizer_config.json`, else in `config.json`, else from `model_type`; for some model types the\n\
         reference knows that files name a wrong one. The classes below take the vocabulary from the folder and build the rest\n\
         anew, so that keys of `tokenizer_config.json` win over `tokenizer.json`. Every other class takes `tokenizer.json` as it\n\
         is. Names that stand for a class here do so too: with `Fast`, and as `ElectraTokenizer` for `BertTokenizer`,\n\
         `LongformerTokenizer` for `RobertaTokenizer`. Where class and file disagree the run says so; `--tokenizer-file` takes the\n\
         file as it is.\n\n\
         Written from `crates/sli/src/tokenizer/class/table.rs`; a test fails when it is stale.\n\n\
         | class | vocabulary without tokenizer.json | keys of tokenizer_config.json (default): part that they decide | post-processor |\n\
         | --- | --- | --- | --- |\n",
    );
    for class in CLASSES {
        let files: Vec<String> = [class.vocabulary, class.merges]
            .iter()
            .flatten()
            .map(|file| format!("`{file}`"))
            .collect();
        let settings: Vec<String> = class
            .settings
            .iter()
            .map(|setting| {
                format!(
                    "`{}` ({}): {}",
                    setting.key,
                    setting.default.replace('|', "\\|"),
                    setting.part
                )
            })
            .collect();
        let post = class.post_processor.replace('|', "\\|").replace('<', "\\<");
        let row = [files.join(", "), settings.join("; "), post];
        writeln!(text, "| {} | {} |", class.name, row.join(" | ")).unwrap();
    }
    text.push_str("\nClasses that the reference runs as Python code, built here:\n\n");
    for name in KNOWN.kinds.keys() {
        let Some(own) = Own::find(name) else { continue };
        let files = |said| {
            let files = own.files(said).into_iter().map(|file| format!("`{file}`"));
            files.collect::<Vec<_>>().join(", ")
        };
        let read = match own {
            Own::Bytes(_) => "the bytes of a text, no file".to_owned(),
            Own::Characters => "the characters of a text, no file".to_owned(),
            Own::List | Own::Numbered(_) => files(false),
        };
        let said = if own.has_two_sides() {
            format!(", of labels {}", files(true))
        } else {
            String::new()
        };
        let settings = own.settings().into_iter().map(|key| format!("`{key}`"));
        let settings = settings.collect::<Vec<_>>().join(", ");
        writeln!(text, "- `{name}`: {read}{said}; it reads {settings}.").unwrap();
    }
    text.push_str("\nRefused:\n\n");
    for (name, why) in REFUSED {
        writeln!(text, "- `{name}`: {why}.").unwrap();
    }
    let python: Vec<String> = KNOWN
        .kinds
        .iter()
        .filter(|(name, kind)| *kind == "python" && Own::find(name).is_none())
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    writeln!(
        text,
        "- Classes that the reference runs as Python code: {}.",
        python.join(", ")
    )
    .unwrap();
    text
}

#[test]
fn the_documentation_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tokenizers.md");
    let text = documentation();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs_err::write(&path, &text).unwrap();
    }
    let found = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/tokenizers.md is stale: UPDATE_DOCS=1 cargo test -p sli --lib tokenizer"
    );
}
