//! What other programs rely on: the names of result files, their columns and types.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float32Type, Int64Type};
use serde_json::Value;
use sli_testing::{Golden, Stored};

use crate::end_to_end::results;
use crate::exactness::read_parquet;
use crate::place::Place;

/// Columns of a Parquet file as `name type`, lists as `[type]`.
pub fn columns(path: &Path) -> Vec<String> {
    fn spell(kind: &DataType) -> String {
        match kind {
            DataType::List(of) => format!("[{}]", spell(of.data_type())),
            DataType::FixedSizeList(of, length) => format!("[{}; {length}]", spell(of.data_type())),
            plain => plain.to_string(),
        }
    }
    let schema = read_parquet(path).schema();
    let fields = schema.fields().iter();
    fields
        .map(|field| format!("{} {}", field.name(), spell(field.data_type())))
        .collect()
}

/// The tables of docs/results.md: file, column and type.
pub fn documented() -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results.md");
    let text = fs_err::read_to_string(path).unwrap();
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut file = String::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, column, kind, ..] = cells[..] else {
            panic!("{line}");
        };
        if let Some(name) = name.strip_prefix('`') {
            // `classes.parquet` of tokens is another table than that of records.
            file = name.replace(".parquet`", "");
        }
        if column.starts_with('`') {
            let column = format!("{} {kind}", column.trim_matches('`'));
            tables.entry(file.clone()).or_default().push(column);
        }
    }
    tables
}

/// Columns as the documentation spells them: with a question mark where there can be nulls.
pub fn with_nulls(path: &Path) -> Vec<String> {
    let schema = read_parquet(path).schema();
    let mark = |nullable: bool| if nullable { "?" } else { "" };
    let marks = schema
        .fields()
        .iter()
        .map(|field| mark(field.is_nullable()));
    columns(path)
        .into_iter()
        .zip(marks)
        .map(|(column, mark)| column.replace("; 64]", "; N]") + mark)
        .collect()
}

#[test]
fn every_result_is_where_and_what_the_contract_says() {
    let place = Place::new();
    Golden::open("mixtral-16-experts").write(&place.path("model"), Stored::F32);
    let lines = [
        "{\"id\": \"a/../b\", \"input_ids\": [3, 4, 5]}",
        "{\"id\": 7, \"input_ids\": []}",
        "{\"input_ids\": [9]}",
    ];
    place.write("in.jsonl", lines.join("\n"));
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--json",
    ];
    let takes = [
        "--take",
        "hidden",
        "--take",
        "logits",
        "--take",
        "scores",
        "--take",
        "topk:4",
        "--take",
        "embedding:last",
        "--take",
        "router",
        "--take",
        "profile",
        "--take",
        "lens:2",
    ];
    let outcome = place.sli(&[&run[..], &takes].concat()).success();
    let out = place.path("out");
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let layers = summary["token_layers"].as_u64().unwrap() / 4;
    let mut expected: Vec<String> = (0..=layers)
        .map(|layer| format!("hidden/decoder.{layer:03}.safetensors"))
        .collect();
    expected.push("hidden/decoder.norm.safetensors".into());
    expected.push("logits.safetensors".into());
    for table in [
        "channels",
        "embeddings",
        "experts",
        "lens",
        "profile",
        "records",
        "router",
        "scores",
        "topk",
    ] {
        expected.push(format!("{table}.parquet"));
    }
    expected.sort();
    let names: Vec<String> = results(&out).into_keys().collect();
    assert_eq!(names, expected);
    let listed: Vec<&str> = summary["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, expected);

    for (table, wanted) in [
        (
            "scores",
            &[
                "row Int64",
                "id Utf8",
                "tokens UInt32",
                "sum_logprob Float64",
                "perplexity Float64",
                "bits_per_byte Float64",
                "completion_tokens UInt32",
                "completion_sum_logprob Float64",
                "completion_perplexity Float64",
                "completion_bits_per_byte Float64",
                "token_ids [UInt32]",
                "logprobs [Float32]",
                "offsets [[UInt32]]",
                "completion_spans [[UInt32]]",
            ][..],
        ),
        ("records", &["row Int64", "id Utf8", "tokens UInt32"]),
        (
            "topk",
            &[
                "row Int64",
                "id Utf8",
                "top_ids [[UInt32]]",
                "top_logprobs [[Float32]]",
                "logsumexp [Float32]",
                "tail_mass [Float32]",
            ],
        ),
        (
            "embeddings",
            &["row Int64", "id Utf8", "embedding [Float32; 64]"],
        ),
        (
            "profile",
            &[
                "stack Utf8",
                "layer UInt32",
                "site Utf8",
                "statistic Utf8",
                "value Float64",
            ],
        ),
        (
            "channels",
            &[
                "stack Utf8",
                "layer UInt32",
                "site Utf8",
                "abs_max [Float32]",
            ],
        ),
        (
            "experts",
            &[
                "stack Utf8",
                "layer UInt32",
                "expert UInt32",
                "tokens UInt64",
                "weight_sum Float64",
            ],
        ),
        (
            "lens",
            &[
                "row Int64",
                "id Utf8",
                "layer UInt32",
                "logprobs [Float32]",
                "entropy [Float32]",
                "kl [Float32]",
                "top_ids [[UInt32]]",
                "top_logprobs [[Float32]]",
            ],
        ),
        (
            "router",
            &[
                "row Int64",
                "id Utf8",
                "layer UInt32",
                "expert_ids [[UInt32]]",
                "weights [[Float32]]",
            ],
        ),
    ] {
        assert_eq!(
            columns(&out.join(format!("{table}.parquet"))),
            wanted,
            "{table}"
        );
    }
    let documented = documented();
    assert_eq!(documented.len(), 14);
    // Of other models and commands: `classes.rs`, `sparse.rs`, `diff.rs`.
    let own = documented.into_iter().filter(|(table, _)| {
        let others = ["sparse", "drift", "divergence"];
        !table.starts_with("classes") && !others.contains(&&table[..])
    });
    for (table, columns) in own {
        let path = out.join(format!("{table}.parquet"));
        assert_eq!(with_nulls(&path), columns, "docs/results.md: {table}");
    }
    // Rows in the order of the input; the first token of a record has no probability.
    let scores = read_parquet(&out.join("scores.parquet"));
    let ids = scores["id"].as_string::<i32>();
    assert_eq!(
        ids.iter().flatten().collect::<Vec<_>>(),
        ["a/../b", "7", "2"]
    );
    let rows = scores["row"].as_primitive::<Int64Type>();
    assert_eq!(rows.values(), &[0, 1, 2]);
    let first = scores["logprobs"].as_list::<i32>().value(0);
    let first = first.as_primitive::<Float32Type>();
    assert_eq!((first.len(), first.null_count()), (3, 1));
    assert!(first.is_null(0));
    assert!(first.value(1) < 0.0);
    // Tensors are named by the id, also where it looks like a path.
    let file = fs_err::read(out.join("hidden/decoder.001.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    for (id, rows) in [("a/../b", 3), ("7", 0), ("2", 1)] {
        assert_eq!(header[id]["dtype"], "F32");
        assert_eq!(header[id]["shape"][0], rows, "{id}");
    }
}
