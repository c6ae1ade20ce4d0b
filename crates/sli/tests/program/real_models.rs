//! Trained models, in folders that the environment names. Ignored: `.ci/run` fetches them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::place::Place;
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

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
