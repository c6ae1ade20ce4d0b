//! The log-probability of completions is the loss of the reference on them (`completions/generate.py` wrote the
//! cases).

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Float64Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::exactness::read_parquet;
use crate::place::Place;

#[derive(Deserialize)]
struct Case {
    record: Value,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    mask: Vec<u8>,
    count: u32,
    loss: Option<f64>,
}

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/completions");
    fs_err::read_to_string(folder.join(name)).unwrap()
}

fn cases<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Case> {
    let lines = lines.into_iter();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn embedded() -> String {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/embedded");
    models.display().to_string()
}

fn lines(records: impl IntoIterator<Item = Value>) -> String {
    let lines = records.into_iter().map(|record| record.to_string() + "\n");
    lines.collect()
}

fn scores(place: &Place, model: &str, arguments: &[&str]) -> RecordBatch {
    let run = ["run", model, "--input", "in.jsonl", "--out", "out"];
    let how = ["--take", "scores", "--compute", "f32", "--fresh"];
    place.sli(&[&run[..], &how, arguments].concat()).success();
    read_parquet(&place.path("out/scores.parquet"))
}

fn value(table: &RecordBatch, column: &str, row: usize) -> Option<f64> {
    let column = table[column].as_primitive::<Float64Type>();
    column.is_valid(row).then(|| column.value(row))
}

#[test]
fn completions_have_the_loss_of_the_reference() {
    let cases = cases(read("cases.jsonl").lines());
    let place = Place::new();
    place.write(
        "in.jsonl",
        lines(cases.iter().map(|case| case.record.clone())),
    );
    compare(
        &cases,
        &scores(&place, &embedded(), &["--score", "assistant"]),
    );
}

fn compare(cases: &[Case], table: &RecordBatch) {
    assert_eq!(table.num_rows(), cases.len());
    let counts = table["completion_tokens"].as_primitive::<UInt32Type>();
    for (row, Case { record, expected }) in cases.iter().enumerate() {
        let ids = table["token_ids"].as_list::<i32>().value(row);
        assert_eq!(
            ids.as_primitive::<UInt32Type>().values(),
            &expected.ids[..],
            "{record}"
        );
        assert_eq!(counts.value(row), expected.count, "{record}");
        let spans = table["completion_spans"].as_list::<i32>().value(row);
        let mut found = vec![0; expected.mask.len()];
        for span in spans.as_list::<i32>() {
            let span = span.unwrap();
            let ends = span.as_primitive::<UInt32Type>().values();
            found[ends[0] as usize..ends[1] as usize].fill(1);
        }
        assert_eq!(found, expected.mask, "{record}");
        let logprobs = table["logprobs"].as_list::<i32>().value(row);
        let logprobs = logprobs.as_primitive::<Float32Type>();
        let marked = logprobs.iter().zip(&expected.mask).skip(1);
        let own = marked.filter(|(_, mark)| **mark == 1);
        let sum: f64 = own.map(|(logprob, _)| f64::from(logprob.unwrap())).sum();
        assert_eq!(
            value(table, "completion_sum_logprob", row),
            Some(sum),
            "{record}"
        );
        assert!(
            (sum + expected.loss.unwrap_or(0.0)).abs() < 1e-4 * (1.0 + sum.abs()),
            "{record}"
        );
        let perplexity = value(table, "completion_perplexity", row);
        assert_eq!(perplexity.is_some(), expected.count > 0, "{record}");
        if let Some(text) = record["completion"].as_str()
            && expected.count > 0
        {
            let bits = -sum / std::f64::consts::LN_2 / text.len() as f64;
            let found = value(table, "completion_bits_per_byte", row);
            assert_eq!(found, (!text.is_empty()).then_some(bits), "{record}");
        }
    }
}

#[test]
fn what_a_template_marks_counts() {
    compare_with_template(&read("marked.jsonl"));
}

/// Templates that render earlier messages otherwise: what counts is what the same template marks, with marks.
#[test]
fn what_the_assistant_says_is_found_where_earlier_messages_are_rendered_otherwise() {
    let texts = read("unmarked.jsonl");
    let mut templates = 0;
    for text in texts.split("\n\n") {
        compare_with_template(text);
        templates += 1;
    }
    assert_eq!(templates, 2);
}

/// Runs cases with the template that stands in front of them.
fn compare_with_template(text: &str) {
    let place = Place::new();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let bytes = fs_err::read(Path::new(&embedded()).join(file)).unwrap();
        place.write(&format!("model/{file}"), bytes);
    }
    let config = fs_err::read(Path::new(&embedded()).join("tokenizer_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    let (template, lines_of) = text.split_once('\n').unwrap();
    config["chat_template"] = serde_json::from_str(template).unwrap();
    place.write("model/tokenizer_config.json", config.to_string());
    let cases = cases(lines_of.lines());
    place.write(
        "in.jsonl",
        lines(cases.iter().map(|case| case.record.clone())),
    );
    compare(&cases, &scores(&place, "model", &["--score", "assistant"]));
}

#[test]
fn without_a_completion_there_is_none() {
    let place = Place::new();
    let records = [
        json!({"text": "a text of twenty-six bytes"}),
        // Classes of a classifier, not labels of tokens.
        json!({"text": "a text of twenty-six bytes", "labels": [3]}),
        json!({"text": "a text of twenty-six bytes", "labels": 1}),
        json!({"messages": [{"role": "assistant", "content": "said"}]}),
        json!({"input_ids": [5, 6, 7]}),
    ];
    place.write("in.jsonl", lines(records));
    let table = scores(&place, &embedded(), &[]);
    for row in 0..5 {
        assert!(table["completion_tokens"].is_null(row));
        assert_eq!(value(&table, "completion_sum_logprob", row), None);
        let sum = value(&table, "sum_logprob", row).unwrap();
        let bits = value(&table, "bits_per_byte", row);
        match row {
            0..3 => assert_eq!(bits, Some(-sum / std::f64::consts::LN_2 / 26.0)),
            3 => assert!(bits.is_some()),
            _ => assert_eq!(bits, None),
        }
        assert_eq!(table["offsets"].is_null(row), row == 4);
        assert!(table["completion_spans"].is_null(row));
    }
}

#[test]
fn what_is_no_completion_is_refused() {
    let place = Place::new();
    let model = embedded();
    for (record, says) in [
        (
            json!({"input_ids": [5, 6], "labels": [5]}),
            "1 values for 2 tokens",
        ),
        (
            json!({"input_ids": [5, 6], "labels": [5, 7]}),
            "`labels` is 7 at position 1",
        ),
        (
            json!({"input_ids": [5, 6], "labels": [-1, 6]}),
            "`labels` is -1 at position 0",
        ),
        (
            json!({"input_ids": [5, 6], "labels": [-100.0, 6.0]}),
            "`labels` holds -100.0 at position 0, not an integer",
        ),
        (
            json!({"input_ids": [5, 6], "labels": [5, null]}),
            "`labels` holds null at position 1",
        ),
        (
            json!({"input_ids": [5, 6], "labels": [[5, 6]]}),
            "`labels` holds a list at position 0",
        ),
        (
            json!({"input_ids": [5, 6], "completion_mask": [0, 2]}),
            "neither 0 nor 1",
        ),
        (
            json!({"prompt": "a", "completion": [{"role": "user", "content": "b"}]}),
            "`prompt` is neither",
        ),
        (
            json!({"prompt": 3, "completion": "x"}),
            "`prompt` is neither",
        ),
    ] {
        place.write("in.jsonl", lines([record]));
        let run = [
            "run", &model, "--input", "in.jsonl", "--out", "out", "--take", "scores",
        ];
        place.sli(&run).failure(3, &[says, "hint:"]);
    }
    let classes = json!({"input_ids": [5, 6], "labels": [0.0, 1.0, 0.0]});
    place.write("in.jsonl", lines([classes]));
    let run = ["run", &model, "--input", "in.jsonl", "--out", "classes"];
    let outcome = place
        .sli(&[&run[..], &["--take", "scores"]].concat())
        .success();
    assert!(outcome.stderr.contains("`labels` that are not those"));
    place.write("in.jsonl", lines([json!({"text": "a"})]));
    let run = ["run", &model, "--input", "in.jsonl", "--out", "out"];
    let how = ["--take", "profile", "--score", "assistant"];
    place
        .sli(&[&run[..], &how].concat())
        .failure(2, &["--take scores"]);
}
