//! Trained models, in folders that the environment names. Ignored: `.ci/run` fetches them.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Float64Type};
use serde_json::{Value, json};

use super::exactness::read_parquet;
use super::place::{Place, safetensors};
use super::sentences::embeddings;

/// Sentences, and what transformers makes of them (`tools/goldens/sentences.py`).
const SENTENCES: &str = include_str!("../sentences/sentences.jsonl");
const EMBEDDINGS: &str = include_str!("../sentences/embeddings.jsonl");

#[test]
#[ignore = "needs SLI_MINILM, the folder of all-MiniLM-L6-v2"]
fn minilm_embeds_sentences_as_the_reference_does() {
    let model = std::env::var("SLI_MINILM").expect("SLI_MINILM names the model's folder");
    let place = Place::new();
    place.write("in.jsonl", SENTENCES);
    let run = ["run", &model, "--input", "in.jsonl", "--out", "out"];
    // The stored vectors are of whole texts; the model's own files cut them to 256 tokens.
    let take = ["--take", "embedding", "--max-length", "512"];
    place.sli(&[&run[..], &take].concat()).success();
    let found = embeddings(&place).into_iter();
    let found: BTreeMap<String, Vec<f64>> = found
        .map(|(id, vector)| (id, vector.expect("no text is empty")))
        .collect();
    let expected = EMBEDDINGS.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let values = line["embedding"].as_array().unwrap().iter();
        let values: Vec<f64> = values.map(|value| value.as_f64().unwrap()).collect();
        (line["id"].as_str().unwrap().to_owned(), values)
    });
    let expected: BTreeMap<String, Vec<f64>> = expected.collect();
    assert_eq!(found.len(), expected.len());
    for (id, embedding) in &found {
        let close = cosine(embedding, &expected[id]);
        assert!(close > 0.9999, "{id}: cosine {close} to the reference");
        // The model's own files ask for vectors of length one.
        let length = dot(embedding, embedding).sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{id}: length {length}");
    }
    // `weather-1` and `weather-2` mean the same, `weather-1` and `code-1` do not.
    let topic = |id: &str| {
        id.strip_suffix(|c: char| c.is_ascii_digit())
            .map(str::to_owned)
    };
    for (a, of_a) in found.iter().filter(|(id, _)| topic(id).is_some()) {
        for (b, of_b) in found.iter().filter(|(id, _)| topic(id).is_some()) {
            let close = cosine(of_a, of_b);
            if topic(a) == topic(b) {
                assert!(close > 0.5, "{a}, {b}: {close}");
            } else {
                assert!(close < 0.2, "{a}, {b}: {close}");
            }
        }
    }
}

/// Texts, and their perplexities by transformers 5.23 from the same file.
const TEXTS: [(&str, f64); 3] = [
    (
        "The capital of France is Paris. It lies on the river Seine, and is known for its museums and architecture.",
        9.006_34,
    ),
    (
        "def add(a, b):\n    return a + b\n\nprint(add(\"x\", \"y\"))\n",
        4.009_04,
    ),
    (
        "It was the best of times, it was the worst of times: don't you think so?",
        20.896_9,
    ),
];

#[test]
#[ignore = "needs SLI_SMOLLM2, the GGUF file of SmolLM2-135M-Instruct"]
fn smollm2_scores_texts_from_its_file_alone() {
    let model = std::env::var("SLI_SMOLLM2").expect("SLI_SMOLLM2 names the file");
    let place = Place::new();
    let records = TEXTS.map(|(text, _)| json!({"text": text}).to_string());
    place.write("in.jsonl", records.join("\n"));
    let run = ["run", &model, "--input", "in.jsonl", "--out", "out"];
    let take = ["--take", "scores", "--compute", "f32"];
    place.sli(&[&run[..], &take].concat()).success();
    let table = read_parquet(&place.path("out/scores.parquet"));
    let found = table["perplexity"].as_primitive::<Float64Type>();
    for (row, (text, expected)) in TEXTS.iter().enumerate() {
        let found = found.value(row);
        assert!(
            (found / expected - 1.0).abs() < 1e-4,
            "{text}: {found}, not {expected}"
        );
    }
}

#[test]
#[ignore = "needs SLI_ANTIBERTY, the folder of AntiBERTy with a torch file"]
fn antiberty_runs_from_its_torch_file() {
    let model = std::env::var("SLI_ANTIBERTY").expect("SLI_ANTIBERTY names the folder");
    let place = Place::new();
    place.write("in.jsonl", "{\"input_ids\": [2, 5, 6, 7, 8, 9, 3]}\n");
    let run = [
        "run",
        &model,
        "--input",
        "in.jsonl",
        "--out",
        "out",
        "--take",
        "embedding:mean",
    ];
    let heads = ["chain", "graft", "species"].map(|head| format!("cls.{head}.*"));
    let unused: Vec<&str> = heads
        .iter()
        .flat_map(|head| ["--allow-unused", head])
        .collect();
    place.sli(&[&run[..], &unused].concat()).success();
}

/// What Whisper tiny.en is to say of noise, and what transformers 5.23 gives its tokens behind the start.
const SAID: &str = " The quick brown fox jumps over the lazy dog.";
const SAID_LOGPROBS: [f32; 12] = [
    -3.921_97, -4.947_31, -9.283_14, -8.943_02, -8.177_17, -8.481_44, -3.785_07, -0.594_69,
    -11.747_27, -4.966_85, -2.077_48, -0.545_51,
];

#[test]
#[ignore = "needs SLI_WHISPER, the folder that tools/whisper/convert.py wrote of tiny.en"]
fn whisper_scores_what_it_is_to_say() {
    let model = std::env::var("SLI_WHISPER").expect("SLI_WHISPER names the folder");
    let place = Place::new();
    let frames = BTreeMap::from([("input_features".to_owned(), vec![80, 3000])]);
    place.write("frames.safetensors", safetensors(&frames));
    let record = json!({"tensors": "frames.safetensors", "decoder_text": SAID});
    place.write("in.jsonl", record.to_string());
    let run = ["run", &model, "--input", "in.jsonl", "--out", "out"];
    let take = ["--take", "scores", "--compute", "f32"];
    place.sli(&[&run[..], &take].concat()).success();
    let table = read_parquet(&place.path("out/scores.parquet"));
    let found = table["logprobs"].as_list::<i32>().value(0);
    let found: Vec<f32> = found.as_primitive::<Float32Type>().values().to_vec();
    assert_eq!(found.len(), SAID_LOGPROBS.len(), "{found:?}");
    for (found, expected) in found.iter().zip(SAID_LOGPROBS) {
        assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
