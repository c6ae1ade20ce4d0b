//! `--take classes` on tiny models of several types, against the logits of the reference and the scores of its
//! cross-encoders (`tools/classes/goldens.py`), and what a model without such a head says.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float32Type;
use serde_json::{Value, json};

use super::contract::{columns, documented, with_nulls};
use super::exactness::read_parquet;
use super::pieces::in_pieces_and_whole;
use super::place::{Place, bert, llama, with};

const FOLDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/classes");
const TAKE: [&str; 8] = [
    "--input",
    "in.jsonl",
    "--out",
    "out",
    "--compute",
    "f32",
    "--take",
    "classes",
];

/// All numbers of a cell.
fn numbers(cell: &ArrayRef) -> Vec<f64> {
    if let Some(lists) = cell.as_list_opt::<i32>() {
        return lists
            .iter()
            .flatten()
            .flat_map(|list| numbers(&list))
            .collect();
    }
    let values = cell.as_primitive::<Float32Type>();
    values.iter().flatten().map(f64::from).collect()
}

/// The cell of a row of a column of lists, however long they are.
fn cell(column: &ArrayRef, row: usize) -> ArrayRef {
    match column.as_fixed_size_list_opt() {
        Some(lists) => lists.value(row),
        None => column.as_list::<i32>().value(row),
    }
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

#[test]
fn classes_are_those_of_the_reference() {
    let mut compared = 0;
    for entry in fs_err::read_dir(FOLDERS).unwrap() {
        let folder = entry.unwrap().path();
        let text = fs_err::read(folder.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let place = Place::new();
        let lines = expected["records"].as_array().unwrap().iter();
        let lines = lines.map(|line| format!("{line}\n"));
        place.write("in.jsonl", lines.collect::<String>());
        let model = folder.display().to_string();
        let run = [&["run", &model][..], &TAKE].concat();
        let cut = ["--max-length", "38"];
        let is_pairs = expected.get("scores").is_some();
        place
            .sli(&[&run[..], if is_pairs { &cut } else { &[] }].concat())
            .success();
        let table = read_parquet(&place.path("out/classes.parquet"));
        // Of one class a cross-encoder gives what its file says, of several their logits.
        let has_probabilities = !table["probabilities"].is_null(0);
        let labels = cell(&table["labels"], 0).len();
        let column = if is_pairs && labels == 1 && has_probabilities {
            "probabilities"
        } else {
            "logits"
        };
        let wanted = &expected[if is_pairs { "scores" } else { "logits" }];
        for (row, wanted) in wanted.as_array().unwrap().iter().enumerate() {
            let (found, wanted) = (numbers(&cell(&table[column], row)), flat(wanted));
            assert_eq!(found.len(), wanted.len(), "{model}: {row}");
            let largest = wanted
                .iter()
                .fold(1e-3_f64, |most, value| most.max(value.abs()));
            for (a, b) in found.iter().zip(&wanted) {
                assert!(
                    (a - b).abs() < 1e-5 * largest + 1e-6,
                    "{model}: {row}: {found:?}, not {wanted:?}"
                );
            }
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared} records compared");
}

#[test]
fn the_tables_are_as_documented() {
    let place = Place::new();
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n{\"input_ids\": []}\n");
    let documented = documented();
    for (name, table) in [
        ("bert-records", "classes"),
        ("bert-tokens", "classes of tokens"),
    ] {
        let model = format!("{FOLDERS}/{name}");
        place
            .sli(&[&["run", &model, "--fresh"][..], &TAKE].concat())
            .success();
        let path = place.path("out/classes.parquet");
        let found: Vec<String> = with_nulls(&path)
            .iter()
            .map(|column| column.replace("; 3]", "; N]"))
            .collect();
        assert_eq!(found, documented[table], "{table}");
        assert_eq!(columns(&path).len(), 5);
    }
    // A record of no tokens has no classes, and no token that has some.
    let table = read_parquet(&place.path("out/classes.parquet"));
    assert_eq!(cell(&table["logits"], 1).len(), 0);
}

#[test]
fn models_without_such_a_head_say_so() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    let run = [&["run", "model"][..], &TAKE].concat();
    place.sli(&run).failure(2, &["no head that gives classes"]);
    let named = with(
        llama(),
        &json!({"architectures": ["LlamaForSequenceClassification"]}),
    );
    place.write("model/config.json", named.to_string());
    place.sli(&run).failure(
        3,
        &[
            "lacks the head that gives classes",
            "`score.weight`",
            "hint:",
        ],
    );
    let beside = [&run[..], &["--take", "hidden"]].concat();
    place.sli(&beside).success();
    assert!(Path::new(&place.path("out/hidden")).is_dir());
    let wrong = with(named, &json!({"problem_type": "guess"}));
    place.write("model/config.json", wrong.to_string());
    place.sli(&run).failure(3, &["problem_type", "regression"]);
}

#[test]
fn pieces_change_no_bit() {
    const PIECE: usize = 256;
    let lengths = [5, 8 * PIECE + 77, 0, PIECE, PIECE + 1, 1, 2 * PIECE];
    let mut cut = 0;
    for config in [
        with(
            llama(),
            &json!({
                "architectures": ["LlamaForSequenceClassification"], "hidden_size": 64, "intermediate_size": 256,
            "max_position_embeddings": 3000, "pad_token_id": 3,
            }),
        ),
        with(
            bert(),
            &json!({
                "architectures": ["BertForTokenClassification"], "hidden_size": 64, "intermediate_size": 256,
                "max_position_embeddings": 3000, "id2label": {"0": "a", "1": "b", "2": "c"},
            }),
        ),
        with(
            bert(),
            &json!({
                "architectures": ["BertForSequenceClassification"], "hidden_size": 64, "intermediate_size": 256,
                "max_position_embeddings": 3000,
            }),
        ),
    ] {
        let place = Place::new();
        place.write_model("model", &config);
        // The last tokens of some records are padding.
        let ids = |length: usize| -> Vec<usize> {
            (0..length)
                .map(|at| if at + 300 > length { 3 } else { 4 + at % 16 })
                .collect()
        };
        let lines = lengths.map(|length| format!("{}\n", json!({"input_ids": ids(length)})));
        place.write("in.jsonl", lines.concat());
        let run = ["run", "model", "--input", "in.jsonl", "--take", "classes"];
        cut += in_pieces_and_whole(&place, &run);
    }
    assert!(cut > 1, "{cut} runs in pieces");
}
