//! `--take sparse` on folders of SPLADE models, against sentence-transformers (`tools/sparse/goldens.py`).

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt32Type};
use serde_json::{Value, json};

use super::contract::{documented, with_nulls};
use super::exactness::read_parquet;
use super::pieces::in_pieces_and_whole;
use super::place::{Place, bert, with};

const FOLDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sparse");
const TAKE: [&str; 8] = [
    "--input",
    "in.jsonl",
    "--out",
    "out",
    "--compute",
    "f32",
    "--take",
    "sparse",
];

/// Token -> weight of every record of a run.
fn sparse(place: &Place) -> Vec<BTreeMap<u32, f64>> {
    let table = read_parquet(&place.path("out/sparse.parquet"));
    let (ids, weights) = (
        table["token_ids"].as_list::<i32>(),
        table["weights"].as_list::<i32>(),
    );
    let of_row = |row: usize| {
        let (ids, weights) = (ids.value(row), weights.value(row));
        let ids = ids.as_primitive::<UInt32Type>().values().to_vec();
        let weights = weights.as_primitive::<Float32Type>().values().to_vec();
        ids.into_iter()
            .zip(weights.into_iter().map(f64::from))
            .collect()
    };
    (0..table.num_rows()).map(of_row).collect()
}

#[test]
fn weights_are_those_of_the_reference() {
    let mut compared = 0;
    for entry in fs_err::read_dir(FOLDERS).unwrap() {
        let folder = entry.unwrap().path();
        let text = fs_err::read(folder.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let place = Place::new();
        let lines = expected["texts"].as_array().unwrap().iter();
        let lines = lines.map(|text| format!("{}\n", json!({"text": text})));
        place.write("in.jsonl", lines.collect::<String>());
        let model = folder.join("model").display().to_string();
        let mut run = [&["run", &model][..], &TAKE].concat();
        run.extend(
            expected["prompt"]
                .as_str()
                .map(|name| ["--prompt", name])
                .into_iter()
                .flatten(),
        );
        place.sli(&run).success();
        for (text, (found, wanted)) in sparse(&place)
            .iter()
            .zip(expected["sparse"].as_array().unwrap())
            .enumerate()
        {
            let list = |at: usize| wanted[at].as_array().into_iter().flatten();
            let ids = list(0).map(|id| id.as_u64().unwrap() as u32);
            let wanted: BTreeMap<u32, f64> = ids
                .zip(list(1).map(|weight| weight.as_f64().unwrap()))
                .collect();
            let most = wanted
                .values()
                .fold(1e-3_f64, |most, &weight| most.max(weight));
            for id in found.keys().chain(wanted.keys()) {
                let of = |weights: &BTreeMap<u32, f64>| weights.get(id).copied().unwrap_or(0.0);
                let apart = (of(found) - of(&wanted)).abs();
                assert!(
                    apart < 1e-5 * most + 1e-6,
                    "{model}: text {text}, token {id}: {apart}"
                );
            }
            compared += wanted.len();
        }
    }
    assert!(compared > 1000, "{compared} weights compared");
}

#[test]
fn pieces_change_no_bit_and_the_table_is_as_documented() {
    const PIECE: usize = 256;
    let place = Place::new();
    let sizes =
        json!({"hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 2000});
    place.write_model("model", &with(bert(), &sizes));
    let lengths = [5, 4 * PIECE + 77, 0, PIECE, 1];
    let ids = |length: usize| -> Vec<usize> { (0..length).map(|at| at * at % 20).collect() };
    place.write(
        "in.jsonl",
        lengths
            .map(|length| format!("{}\n", json!({"input_ids": ids(length)})))
            .concat(),
    );
    let run = ["run", "model", "--input", "in.jsonl", "--take", "sparse"];
    assert!(in_pieces_and_whole(&place, &run) > 0);
    place
        .sli(&[&["run", "model"][..], &TAKE].concat())
        .success();
    assert_eq!(
        with_nulls(&place.path("out/sparse.parquet")),
        documented()["sparse"]
    );
    let found = sparse(&place);
    assert!(found[2].is_empty() && !found[0].is_empty());
}

#[test]
fn what_gives_no_sparse_embedding_is_refused() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    let run = [&["run", "model"][..], &TAKE].concat();
    place.sli(&run).failure(2, &["predicts the next token"]);
    place.write_model("model", &bert());
    let module = |name: &str| json!({"type": format!("sentence_transformers.sparse_encoder.models.{name}"), "path": if name == "MLMTransformer" { "" } else { name }});
    let list = ["MLMTransformer", "SpladePooling", "SparseAutoEncoder"].map(module);
    place.write("model/modules.json", json!(list).to_string());
    place.sli(&run).failure(3, &["SparseAutoEncoder", "hint:"]);
    place.write("model/modules.json", json!(list[..2]).to_string());
    place.write(
        "model/SpladePooling/config.json",
        "{\"pooling_strategy\": \"median\"}",
    );
    place.sli(&run).failure(3, &["median", "hint:"]);
}
