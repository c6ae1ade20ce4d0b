//! Special tokens with names of their own: what chat templates and texts get of them.

use serde_json::{Value, json};

use super::super::Tokenizer;
use super::folder;
use crate::input::Conversation;
use crate::memory::Allowance;

/// What a template makes of the names, and the tokens of a text with both.
fn named(config: &Value, map: &Value) -> (String, Vec<u32>) {
    let copy = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| fs_err::write(copy.path().join(name), content);
    let file = fs_err::read(folder("legacy").join("tokenizer.json")).unwrap();
    write("tokenizer.json", &file).unwrap();
    write("tokenizer_config.json", config.to_string().as_bytes()).unwrap();
    write("special_tokens_map.json", map.to_string().as_bytes()).unwrap();
    write("chat_template.jinja", b"[{{ image_token }}]").unwrap();
    let mut tokenizer = Tokenizer::load(copy.path(), None, false, Allowance::unlimited()).unwrap();
    let conversation = Conversation {
        messages: r#"[{"role": "user", "content": "x"}]"#.into(),
        ..Conversation::default()
    };
    let rendered = tokenizer.chat_template().unwrap().render(&conversation);
    let encoded = tokenizer.encode_texts(vec!["a<img><i2>b"]).unwrap();
    (rendered.unwrap().text, encoded[0].ids.clone())
}

#[test]
fn names_of_special_tokens_map_are_those_of_the_reference() {
    let class = |class: &str, more: &Value| {
        let mut config = json!({"tokenizer_class": class});
        let more = more.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(more);
        config
    };
    let decoder = json!({"added_tokens_decoder": {"0": {"content": "<s>", "lstrip": false, "rstrip": false,
        "normalized": false, "single_word": false, "special": true}}});
    let image = json!({"image_token": "<img>"});
    let fields = json!({"image_token": {"content": "<img>", "lstrip": false, "rstrip": false,
        "normalized": false, "single_word": false}});
    let extra = json!({"extra_special_tokens": image, "image_token": "<i2>"});
    // `added`: the first id behind the vocabulary.
    for (name, added) in [("PreTrainedTokenizerFast", 330), ("Qwen2Tokenizer", 331)] {
        let one = vec![66, added, 29, 74, 19, 31, 67];
        let both = vec![66, added + 1, added, 67];
        let neither = vec![66, 29, 310, 72, 31, 29, 74, 19, 31, 67];
        for (more, map, text, ids) in [
            (json!({}), &image, "[<img>]", &one),
            (json!({}), &fields, "[<img>]", &one),
            // tokenizer_config.json has the last word.
            (
                image.clone(),
                &json!({"image_token": "<i2>"}),
                "[<img>]",
                &one,
            ),
            (
                image.clone(),
                &json!({"audio_token": "<i2>"}),
                "[<img>]",
                &both,
            ),
            (json!({}), &extra, "[<img>]", &one),
            // The map is not read.
            (decoder.clone(), &image, "[]", &neither),
            (json!({}), &json!({"image_token": null}), "[]", &neither),
            (json!({}), &json!({"image_token": ""}), "[]", &neither),
        ] {
            let config = class(name, &more);
            let found = named(&config, map);
            assert_eq!(found, (text.into(), ids.clone()), "{config} {map}");
        }
    }
}
