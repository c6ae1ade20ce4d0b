//! What the planner says before a run against what the run then did.

use serde_json::{Value, json};

use super::place::{Place, bert, llama, with};
use super::random::Random;

/// A decoder of 25 MiB with a vocabulary of this size; `more` replaces and adds keys.
pub fn decoder(vocabulary: usize, more: &Value) -> Value {
    let sizes = json!({
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096
    });
    with(with(llama(), &sizes), more)
}

pub fn mixture() -> Value {
    let more = json!({
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_hidden_layers": 3,
        "num_local_experts": 16,
        "num_experts_per_tok": 2
    });
    decoder(2000, &more)
}

fn encoder() -> Value {
    let sizes = json!({
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "vocab_size": 8000,
        "max_position_embeddings": 512
    });
    with(bert(), &sizes)
}

/// Records of random tokens, all of them different from the start.
pub fn records(place: &Place, name: &str, records: usize, tokens: usize, vocabulary: usize) {
    let mut random = Random::new(7);
    let lines: String = (0..records)
        .map(|_| {
            let ids: Vec<usize> = (0..tokens)
                .map(|_| 1 + random.below(vocabulary - 1))
                .collect();
            json!({"input_ids": ids}).to_string() + "\n"
        })
        .collect();
    place.write(name, lines);
}

/// How many bytes of a peak are a matter of the machine in these small runs, whose peaks are mostly
/// the program itself: how far the readers are ahead of the products when the peak comes, which a
/// busy machine decides, and which pages of the program are in memory.
const NOISE: f64 = 6.0 * 1024.0 * 1024.0;

/// Runs, and compares the plan with the run.
pub fn compare(place: &Place, model: &str, input: &str, more: &[&str]) -> Vec<String> {
    let out = format!("out-{}", more.join(""));
    let base = [&[model, "--input", input, "--json"], more].concat();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&place.sli(arguments).success().stdout).unwrap()
    };
    let plan = json(&[&["plan"], &base[..]].concat());
    let run = json(&[&["run"], &base[..], &["--out", &out, "--fresh"]].concat());
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    let mut wrong = Vec::new();
    let bound = number(&run["plan"], "memory_bound");
    let (peak, read) = (number(&run, "peak_memory"), number(&run, "bytes_read"));
    for (said, plan) in [("sli plan", &plan), ("the run's plan", &run["plan"])] {
        for (key, happened, tolerance) in [("bytes_read", read, 0.02), ("peak_memory", peak, 0.15)]
        {
            let planned = number(plan, key);
            let noise = if key == "peak_memory" { NOISE } else { 0.0 };
            if (planned - happened).abs() > (tolerance * happened).max(noise) {
                wrong.push(format!(
                    "{model} {input} {more:?}: {key} of {said} is {planned}, in the run {happened}"
                ));
            }
        }
    }
    if peak > bound {
        wrong.push(format!(
            "{model} {input} {more:?}: {peak} bytes beyond {bound}"
        ));
    }
    wrong
}

#[test]
fn bytes_and_memory_are_what_was_planned() {
    let place = Place::new();
    place.write_model("llama", &decoder(2000, &json!({})));
    place.write_model("wide", &decoder(30_000, &json!({"num_hidden_layers": 2})));
    place.write_model("moe", &mixture());
    place.write_model("bert", &encoder());
    for (name, count, tokens, vocabulary) in [
        ("one.jsonl", 1, 100, 2000),
        ("many.jsonl", 100, 60, 2000),
        ("long.jsonl", 4, 2000, 2000),
    ] {
        records(&place, name, count, tokens, vocabulary);
    }
    let mut wrong = Vec::new();
    for (model, input, more) in [
        ("llama", "one.jsonl", &["--memory", "2GiB"][..]),
        ("llama", "many.jsonl", &["--memory", "2GiB"]),
        ("llama", "many.jsonl", &["--memory", "72MiB"]),
        (
            "llama",
            "many.jsonl",
            &["--memory", "72MiB", "--spill", "never"],
        ),
        (
            "llama",
            "many.jsonl",
            &["--memory", "62MiB", "--compute", "bf16"],
        ),
        (
            "llama",
            "long.jsonl",
            &["--memory", "1GiB", "--take", "scores"],
        ),
        (
            "llama",
            "many.jsonl",
            &["--memory", "2GiB", "--take", "hidden"],
        ),
        ("llama", "many.jsonl", &["--memory", "50MiB"]),
        ("wide", "one.jsonl", &["--memory", "2GiB"]),
        (
            "wide",
            "many.jsonl",
            &["--memory", "2GiB", "--take", "topk:10"],
        ),
        ("wide", "many.jsonl", &["--memory", "82MiB"]),
        ("moe", "one.jsonl", &["--memory", "2GiB"]),
        ("moe", "many.jsonl", &["--memory", "2GiB"]),
        ("moe", "many.jsonl", &["--memory", "72MiB"]),
        (
            "bert",
            "one.jsonl",
            &["--memory", "2GiB", "--take", "hidden"],
        ),
        (
            "bert",
            "many.jsonl",
            &["--memory", "2GiB", "--take", "embedding:mean"],
        ),
        (
            "bert",
            "many.jsonl",
            &["--memory", "62MiB", "--spill", "always"],
        ),
    ] {
        wrong.extend(compare(&place, model, input, more));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
