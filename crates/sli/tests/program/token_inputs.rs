//! What a record has beside its tokens.

use serde_json::{Value, json};

use super::place::Place;
use super::sentences::embeddings;

fn layoutlm() -> Value {
    json!({"model_type": "layoutlm", "architectures": ["LayoutLMModel"], "vocab_size": 20, "hidden_size": 32,
           "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48, "max_position_embeddings": 16,
           "max_2d_position_embeddings": 100})
}

fn record(id: &str, boxes: &Value) -> Value {
    let mut record = json!({"id": id, "input_ids": [3, 4, 5]});
    if !boxes.is_null() {
        record["bbox"] = boxes.clone();
    }
    record
}

#[test]
fn boxes_are_seen_and_zeros_are_what_a_record_without_them_has() {
    let place = Place::new();
    place.write_model("model", &layoutlm());
    let boxes = json!([[1, 2, 30, 40], [1, 2, 30, 41], [0, 0, 99, 99]]);
    let zeros = json!([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]);
    let records = [
        record("none", &Value::Null),
        record("zeros", &zeros),
        record("boxes", &boxes),
    ];
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    place.write("in.jsonl", lines.join("\n"));
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    let take = ["--take", "embedding:mean"];
    place.sli(&[&run[..], &take].concat()).success();
    let found: Vec<_> = embeddings(&place).into_iter().collect();
    let of = |wanted: &str| {
        let (_, vector) = found.iter().find(|(id, _)| *id == wanted).unwrap();
        vector.clone().unwrap()
    };
    assert_eq!(of("none"), of("zeros"));
    assert_ne!(of("none"), of("boxes"));
}

#[test]
fn boxes_that_no_table_has_are_refused() {
    let place = Place::new();
    place.write_model("model", &layoutlm());
    let row = json!([1, 2, 30, 40]);
    for (boxes, problem) in [
        (json!([row, row]), "`bbox` has 2 entries for 3 tokens"),
        (
            json!([row, row, [1, 2, 3]]),
            "`bbox` of the token at position 2 is not a list of 4 whole numbers",
        ),
        (
            json!([row, [1, -2, 3, 4], row]),
            "`bbox` of the token at position 1 is not",
        ),
        (
            json!([row, row, [1, 2, 3, 100]]),
            "`bbox` of the token at position 2 has",
        ),
        (
            json!([row, row, [9, 2, 3, 4]]),
            "`bbox` of the token at position 2 has",
        ),
        (json!("boxes"), "`bbox` is no list"),
    ] {
        place.write("in.jsonl", record("a", &boxes).to_string());
        let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
        let take = ["--take", "embedding:mean"];
        place
            .sli(&[&run[..], &take].concat())
            .failure(3, &[problem, "hint:"]);
    }
}
