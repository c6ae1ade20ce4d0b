//! Chat templates render as transformers renders them (`chat/generate.py` wrote the cases).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sli::input::{Content, Conversation, Dataset, Prompted, Selection};
use sli::memory::Allowance;
use sli::tokenizer::{ChatTemplate, Contents, Source, Sources};

#[derive(Deserialize)]
struct Printed {
    templates: Vec<String>,
    texts: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct Cases {
    tokens: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Value>>,
    #[serde(rename = "cases")]
    all: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: PathBuf,
    conversation: String,
    text: Option<String>,
}

#[test]
fn templates_render_as_transformers_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat");
    let cases = fs_err::read_to_string(folder.join("cases.json")).unwrap();
    let Cases {
        tokens,
        conversations,
        all,
    } = serde_json::from_str(&cases).unwrap();
    let mut wrong = Vec::new();
    for case in all {
        let path = folder.join(&case.template);
        let source = fs_err::read_to_string(&path).unwrap();
        let source = Source { path, text: source };
        let sources = Sources {
            default: Some(source),
            ..Sources::default()
        };
        let template = ChatTemplate::new(
            sources,
            tokens.clone(),
            Vec::new(),
            Contents::AsGiven,
            u64::MAX,
        )
        .unwrap();
        let rendered = template.render(&Conversation {
            messages: serde_json::to_string(&conversations[&case.conversation]).unwrap(),
            ..Conversation::default()
        });
        if rendered.as_ref().ok().map(|rendered| &rendered.text) != case.text.as_ref() {
            wrong.push(format!(
                "{} / {}\n  {rendered:?}\n  {:?}",
                case.template.display(),
                case.conversation,
                case.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `NaN` and `Infinity`, which Python writes into JSON, in everything that a template sees.
#[test]
fn numbers_without_bounds_print_as_transformers_prints_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat");
    let printed = fs_err::read_to_string(folder.join("nonfinite.json")).unwrap();
    let Printed { templates, texts } = serde_json::from_str(&printed).unwrap();
    let templates: Vec<ChatTemplate> = templates
        .into_iter()
        .map(|text| {
            let path = PathBuf::from("template");
            let sources = Sources {
                default: Some(Source { path, text }),
                ..Sources::default()
            };
            ChatTemplate::new(
                sources,
                BTreeMap::new(),
                Vec::new(),
                Contents::AsGiven,
                u64::MAX,
            )
            .unwrap()
        })
        .collect();
    let path = folder.join("nonfinite.jsonl");
    let records = Dataset::file(&path)
        .unwrap()
        .open(&Allowance::unlimited(), Selection::default())
        .unwrap();
    let mut compared = 0;
    for (record, texts) in records.zip(&texts) {
        let conversation = match record.unwrap().content {
            Content::Messages(conversation)
            | Content::Prompted(Prompted::Messages {
                whole: conversation,
                ..
            }) => conversation,
            other => panic!("{other:?}"),
        };
        for (template, text) in templates.iter().zip(texts) {
            let rendered = template.render(&conversation).unwrap();
            assert_eq!(&rendered.text, text);
            compared += 1;
        }
    }
    assert_eq!(compared, 25);
}
