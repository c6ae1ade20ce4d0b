//! Peak memory: what the system counts for the process, against what `--memory` allows.

use serde_json::{Value, json};

use crate::end_to_end::{ALL, results};
use crate::place::{Place, bert, llama};

const MIB: f64 = 1024.0 * 1024.0;

/// The smallest budget that works for a run, as its error says it, and in bytes.
pub fn smallest(place: &Place, arguments: &[&str]) -> (String, u64) {
    let tiny = [arguments, &["--memory", "1MiB", "--out", "refused"]].concat();
    let outcome = place.sli(&tiny).failure(4, &["hint: --memory "]);
    assert!(!place.path("refused").exists());
    let (_, flag) = outcome.stderr.split_once("hint: --memory ").unwrap();
    let flag = flag.trim().to_owned();
    let number: f64 = flag.strip_suffix("MiB").unwrap().parse().unwrap();
    (flag, (number * MIB) as u64)
}

fn sized(mut config: Value, sizes: &[(&str, usize)]) -> Value {
    for (key, value) in sizes {
        config[key] = json!(value);
    }
    config
}

/// Runs with the smallest budget and larger ones: the peak stays within each, the bytes are the same.
/// Returns the summary of the run with the smallest.
pub fn within_every_budget(place: &Place, arguments: &[&str]) -> Value {
    let (flag, least) = smallest(place, arguments);
    let bit_less = (least - (1 << 20)).to_string();
    let less = [arguments, &["--memory", &bit_less, "--out", "less"]].concat();
    place.sli(&less).failure(4, &[&flag]);
    let mut first = None;
    for (number, share) in [1.0, 1.1, 1.5, 20.0].into_iter().enumerate() {
        let budget = if number == 0 {
            flag.clone()
        } else {
            ((least as f64 * share) as u64).to_string()
        };
        let out = format!("out-{number}");
        let run = [arguments, &["--memory", &budget, "--out", &out, "--json"]].concat();
        let outcome = place.sli(&run).success();
        let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let peak = summary["peak_memory"].as_u64().unwrap();
        let allowed = (least as f64 * share) as u64;
        assert!(
            0 < peak && peak <= allowed,
            "{peak} bytes of {allowed}: {run:?}"
        );
        let found = results(&place.path(&out));
        fs_err::remove_dir_all(place.path(&out)).unwrap();
        match &first {
            None => first = Some((summary, found)),
            Some((_, expected)) => assert!(found == *expected, "{run:?}"),
        }
    }
    first.unwrap().0
}

/// Records of mixed lengths, the longest of `longest` tokens.
fn records(count: usize, longest: usize) -> String {
    (0..count)
        .map(|n| {
            let length = if n == 0 { longest } else { n * 13 % longest };
            let ids: Vec<usize> = (0..length).map(|i| (i * 7 + n) % 20).collect();
            json!({"input_ids": ids}).to_string() + "\n"
        })
        .collect()
}

#[test]
fn layers_of_twenty_times_the_memory_for_weights() {
    let place = Place::new();
    let sizes = [
        ("hidden_size", 320),
        ("intermediate_size", 1280),
        ("num_hidden_layers", 10),
        ("max_position_embeddings", 64),
    ];
    place.write_model("model", &sized(llama(), &sizes));
    place.write("in.jsonl", records(24, 64));
    let size = fs_err::metadata(place.path("model/model.safetensors"))
        .unwrap()
        .len();
    for compute in ["f32", "bf16"] {
        let run = ["run", "model", "--input", "in.jsonl", "--compute", compute];
        let summary = within_every_budget(&place, &[&run[..], &ALL].concat());
        let weights = summary["plan"]["weight_budget"].as_u64().unwrap()
            + 2 * summary["plan"]["tile_bytes"].as_u64().unwrap();
        assert!(
            size >= 20 * weights,
            "{size} bytes of layers, {weights} held"
        );
    }
}

#[test]
fn a_large_vocabulary_and_a_long_record() {
    let place = Place::new();
    let sizes = [("vocab_size", 50_000), ("max_position_embeddings", 512)];
    place.write_model("model", &sized(llama(), &sizes));
    place.write("in.jsonl", records(3, 300));
    let run = ["run", "model", "--input", "in.jsonl", "--spill", "always"];
    let takes = ["--take", "logits", "--take", "topk:40", "--take", "scores"];
    within_every_budget(&place, &[&run[..], &takes].concat());
}

#[test]
fn an_encoder_with_a_wide_feed_forward() {
    let place = Place::new();
    let sizes = [
        ("hidden_size", 64),
        ("intermediate_size", 8192),
        ("max_position_embeddings", 200),
    ];
    place.write_model("model", &sized(bert(), &sizes));
    place.write("in.jsonl", records(20, 200));
    let run = ["run", "model", "--input", "in.jsonl", "--no-share"];
    let takes = [
        "--take",
        "embedding:mean",
        "--take",
        "hidden",
        "--take",
        "profile",
    ];
    within_every_budget(&place, &[&run[..], &takes].concat());
}

#[test]
fn tables_of_several_row_groups() {
    let place = Place::new();
    let sizes = [("hidden_size", 512), ("num_hidden_layers", 1)];
    place.write_model("model", &sized(llama(), &sizes));
    let line = |n: usize| json!({"input_ids": vec![n % 20; n % 3]}).to_string() + "\n";
    place.write("in.jsonl", (0..4000).map(line).collect::<String>());
    let run = ["run", "model", "--input", "in.jsonl", "--take", "embedding"];
    let run = [&run[..], &["--memory", "40MiB", "--out", "out", "--json"]].concat();
    let outcome = place.sli(&run).success();
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let peak = summary["peak_memory"].as_u64().unwrap();
    assert!(0 < peak && peak <= 40 << 20, "{peak} bytes of 40 MiB");
}

#[test]
fn a_long_record_with_many_logits() {
    let place = Place::new();
    let sizes = [
        ("vocab_size", 2000),
        ("num_hidden_layers", 1),
        ("max_position_embeddings", 4000),
    ];
    place.write_model("model", &sized(llama(), &sizes));
    let ids: Vec<usize> = (0..4000).map(|token| token * 7 % 2000).collect();
    place.write("in.jsonl", json!({"input_ids": ids}).to_string());
    for best in ["topk:1000", "topk:300"] {
        let run = ["run", "model", "--input", "in.jsonl", "--take", best];
        within_every_budget(&place, &run);
    }
}
