//! Tokens are where transformers says they are in their text (`tokenizers/offsets.py` wrote the cases).

use std::collections::BTreeMap;
use std::path::Path;

use sli::memory::Allowance;
use sli::tokenizer::Tokenizer;

/// A text, its tokens, and where each begins and ends, end to end.
type Case = (String, Vec<u32>, Vec<u32>);

#[test]
fn offsets_are_those_of_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers");
    let cases = fs_err::read_to_string(folder.join("offsets.json")).unwrap();
    let cases: BTreeMap<String, Vec<Case>> = serde_json::from_str(&cases).unwrap();
    let mut wrong = Vec::new();
    for (name, cases) in cases {
        let tokenizer = Tokenizer::load(folder.join(&name), None, false, Allowance::unlimited());
        let tokenizer = tokenizer.unwrap().with_places();
        let texts = cases.iter().map(|(text, ..)| text.as_str()).collect();
        let encoded = tokenizer.encode_texts(texts).unwrap();
        for ((text, ids, offsets), encoded) in cases.iter().zip(encoded) {
            let spans = encoded.text.unwrap();
            let found = spans.offsets.as_flattened();
            if encoded.ids != *ids || found != offsets || spans.bytes as usize != text.len() {
                wrong.push(format!("{name}, {text:?}:\n  {found:?}\n  {offsets:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
