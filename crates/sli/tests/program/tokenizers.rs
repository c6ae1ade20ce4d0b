//! Texts become the tokens that transformers makes of them (`tokenizers/generate.py` wrote the cases).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sli::input::Conversation;
use sli::memory::Allowance;
use sli::tokenizer::Tokenizer;

#[derive(Deserialize)]
struct Cases {
    chat: Vec<Value>,
    #[serde(rename = "cases")]
    all: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    tokenizer: PathBuf,
    texts: Vec<Text>,
    cut_to_5: Vec<Vec<u32>>,
    chat: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn tokens_are_those_of_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers");
    let cases = fs_err::read_to_string(folder.join("cases.json")).unwrap();
    let cases: Cases = serde_json::from_str(&cases).unwrap();
    let mut wrong = Vec::new();
    for case in cases.all {
        let folder = folder.join(&case.tokenizer);
        let mut whole = Tokenizer::load(&folder, None, false, Allowance::unlimited()).unwrap();
        let cutting = Tokenizer::load(&folder, Some(5), false, Allowance::unlimited()).unwrap();
        let mut compare = |what: &str, ours: &[u32], reference: &[u32]| {
            if ours != reference {
                let name = case.tokenizer.display();
                wrong.push(format!("{name}, {what:?}:\n  {ours:?}\n  {reference:?}"));
            }
        };
        for (text, cut) in case.texts.iter().zip(&case.cut_to_5) {
            let ours = whole.encode_texts(vec![&text.text]).unwrap();
            compare(&text.text, &ours[0].ids, &text.ids);
            let ours = cutting.encode_texts(vec![&text.text]).unwrap();
            compare(&format!("{} cut", text.text), &ours[0].ids, cut);
        }
        if let Some(reference) = case.chat {
            let conversation = Conversation {
                messages: serde_json::to_string(&cases.chat).unwrap(),
                ..Conversation::default()
            };
            let text = whole
                .chat_template()
                .unwrap()
                .render(&conversation)
                .unwrap();
            let ours = whole.encode_chats(vec![&text.text]).unwrap();
            compare("chat", &ours[0].ids, &reference);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
