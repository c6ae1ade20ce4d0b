//! A GGUF file, or a folder with one, as a model.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use serde_json::{Value, json};

use super::exactness::read_parquet;
use super::place::Place;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sli-engine/tests/gguf");

/// A folder `model` with one tiny file of Llama's, and records.
fn place() -> Place {
    let place = Place::new();
    fs_err::create_dir(place.path("model")).unwrap();
    fs_err::copy(
        Path::new(FILES).join("llama.gguf"),
        place.path("model/tiny.gguf"),
    )
    .unwrap();
    place.write(
        "in.jsonl",
        "{\"input_ids\": [3, 17, 5]}\n{\"input_ids\": [1, 2, 3, 4]}\n",
    );
    place
}

#[test]
fn a_file_and_its_folder_are_the_same_model() {
    let place = place();
    for (model, out) in [("model/tiny.gguf", "a"), ("model", "b")] {
        let take = ["--take", "scores", "--take", "hidden", "--take", "logits"];
        let run = ["run", model, "--input", "in.jsonl", "--out", out];
        place.sli(&[&run[..], &take].concat()).success();
        // Finished: the same command says so.
        place.sli(&[&run[..], &take].concat()).success();
    }
    for file in [
        "scores.parquet",
        "logits.safetensors",
        "hidden/decoder.norm.safetensors",
    ] {
        let [a, b] =
            ["a", "b"].map(|out| fs_err::read(place.path(&format!("{out}/{file}"))).unwrap());
        assert!(a == b, "{file}");
    }
    place
        .sli(&["plan", "model/tiny.gguf", "--input", "in.jsonl"])
        .success();
    let shown = place.sli(&["inspect", "model", "--json"]).success().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["files_rule"], "the one GGUF file of the folder");
    assert_eq!(shown["coverage"]["complete"], true);
    assert_eq!(shown["model_type"], "llama");
}

#[test]
fn nothing_beside_it_is_read() {
    let place = place();
    place.write("model/config.json", "{\"model_type\": \"unheard of\"}");
    place.write("model/tokenizer.json", "no JSON");
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
    ];
    place.sli(&run).success();
}

#[test]
fn what_is_not_known_of_it_is_3() {
    let place = place();
    place.write("text.jsonl", "{\"text\": \"a\"}\n");
    // It was converted without a tokenizer.
    let run = [
        "run",
        "model",
        "--input",
        "text.jsonl",
        "--out",
        "out",
        "--take",
        "scores",
    ];
    place.sli(&run).failure(3, &["tokenizer"]);
    let mut file = fs_err::read(place.path("model/tiny.gguf")).unwrap();
    let key = b"llama.rope.freq_base";
    let at = file
        .windows(key.len())
        .position(|window| window == key)
        .unwrap();
    file[at + key.len() - 1] = b'd';
    fs_err::write(place.path("model/tiny.gguf"), file).unwrap();
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
    ];
    place
        .sli(&run)
        .failure(3, &["llama.rope.freq_basd", "nothing is known of this key"]);
}

/// Log-probabilities of all tokens but the first, by rows of logits.
fn expected_scores(ids: &[usize], rows: &[Vec<f64>]) -> Vec<f64> {
    let score = |(row, next): (&Vec<f64>, &usize)| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - most).exp()).sum();
        row[*next] - most - sum.ln()
    };
    rows.iter().zip(&ids[1..]).map(score).collect()
}

#[test]
#[ignore = "starts the program 300 times"]
fn every_file_is_inspected_and_scored() {
    let mut files: Vec<_> = fs_err::read_dir(FILES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "gguf"))
        .collect();
    files.sort();
    assert!(files.len() > 130);
    let mut scored = 0;
    for file in files {
        let place = Place::new();
        let text = fs_err::read_to_string(file.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let mut record = json!({"input_ids": expected["ids"]});
        if !expected["decoder_ids"].is_null() {
            record["decoder_input_ids"] = expected["decoder_ids"].clone();
        }
        place.write("in.jsonl", record.to_string());
        let name = file.to_str().unwrap();
        let shown = place.sli(&["inspect", name, "--json"]).success().stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["coverage"]["complete"], true, "{name}");
        let run = ["run", name, "--input", "in.jsonl", "--out", "out"];
        let scores = ["--take", "scores", "--compute", "f32"];
        let outcome = place.sli(&[&run[..], &scores].concat());
        if outcome.code != 0 {
            // An encoder.
            assert!(
                outcome.stderr.contains("no `scores`"),
                "{name}: {outcome:?}"
            );
            let hidden = ["--take", "hidden"];
            place.sli(&[&run[..], &hidden].concat()).success();
            continue;
        }
        if expected["hidden"] == true {
            // What is stored are states.
            continue;
        }
        let of_scores = record.get("decoder_input_ids");
        let ids = of_scores.unwrap_or(&record["input_ids"]).clone();
        let ids: Vec<usize> = serde_json::from_value(ids).unwrap();
        let rows: Vec<Vec<f64>> = serde_json::from_value(expected["rows"].clone()).unwrap();
        let table = read_parquet(&place.path("out/scores.parquet"));
        let found = table["logprobs"].as_list::<i32>().value(0);
        let found = found.as_primitive::<Float32Type>().values().to_vec();
        let expected = expected_scores(&ids, &rows);
        let found = &found[found.len() - expected.len()..];
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference < 1e-3, "{name}: {found}, not {expected}");
        }
        scored += 1;
    }
    assert!(scored > 115);
}
