//! Chat templates render as transformers renders them (`chat/generate.py` wrote the cases).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sli::input::Conversation;
use sli::tokenizer::{ChatTemplate, Source, Sources};

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
        let template = ChatTemplate::new(sources, tokens.clone(), Vec::new(), u64::MAX).unwrap();
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
