//! Datasets of unusual sizes: very many records, very long ones, empty ones.

use serde_json::{Value, json};

use crate::end_to_end::{ALL, results};
use crate::place::{Place, llama};

/// Runs within the budget, and returns the summary.
fn run(place: &Place, out: &str, budget_mib: u64, more: &[&str]) -> Value {
    let budget = format!("{budget_mib}MiB");
    let base = [
        "run", "model", "--input", "in.jsonl", "--out", out, "--json",
    ];
    let run = [&base[..], &["--memory", &budget], more].concat();
    let summary: Value = serde_json::from_str(&place.sli(&run).success().stdout).unwrap();
    let peak = summary["peak_memory"].as_u64().unwrap();
    assert!(peak <= budget_mib << 20, "{peak} bytes of {budget}");
    summary
}

#[test]
fn a_hundred_thousand_tiny_records() {
    let place = Place::with_llama();
    let lines: String = (0..100_001)
        .map(|n| json!({"input_ids": &[n % 20, n / 20 % 20, 3][..=n % 3]}).to_string() + "\n")
        .collect();
    place.write("in.jsonl", lines);
    let takes = [
        "--take",
        "scores",
        "--take",
        "profile",
        "--take",
        "hidden:last",
    ];
    let summary = run(&place, "out", 110, &takes);
    assert_eq!(summary["records"], 100_001);
    // A file has at most 100,000 records.
    let names: Vec<String> = results(&place.path("out")).into_keys().collect();
    assert_eq!(
        names,
        [
            "channels.parquet",
            "hidden/decoder.002.part-0.safetensors",
            "hidden/decoder.002.part-1.safetensors",
            "profile.parquet",
            "records.parquet",
            "scores.parquet",
        ]
    );
}

#[test]
fn a_record_of_eight_thousand_tokens() {
    let place = Place::new();
    let mut config = llama();
    config["max_position_embeddings"] = json!(8192);
    place.write_model("model", &config);
    let long: Vec<usize> = (0..8000).map(|n| n * n % 19).collect();
    let lines = [long, vec![], vec![7]].map(|ids| json!({"input_ids": ids}).to_string());
    place.write("in.jsonl", lines.join("\n"));
    let small = run(&place, "small", 100, &ALL);
    assert_eq!(small["tokens"], 8001);
    run(&place, "large", 2000, &ALL);
    assert!(results(&place.path("small")) == results(&place.path("large")));
}

#[test]
fn nothing_but_empty_records_and_single_tokens() {
    let place = Place::with_llama();
    for (name, line) in [
        ("empty", "{\"input_ids\": []}\n"),
        ("one", "{\"input_ids\": [4]}\n"),
    ] {
        place.write("in.jsonl", line.repeat(50));
        let summary = run(&place, name, 100, &ALL);
        assert_eq!(summary["records"], 50);
        assert_eq!(summary["tokens"], if name == "one" { 50 } else { 0 });
        assert_eq!(results(&place.path(name)).len(), 11);
    }
}
