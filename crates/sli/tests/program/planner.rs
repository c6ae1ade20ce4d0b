//! What the planner says before a run against what the run then did.

use serde_json::{Value, json};

use super::place::Place;

/// A decoder of 25 MiB with a vocabulary of this size; `more` replaces and adds keys.
fn decoder(vocabulary: usize, more: &Value) -> Value {
    let mut config = json!({
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": false
    });
    let (Value::Object(config_keys), Value::Object(more)) = (&mut config, more) else {
        panic!("objects");
    };
    config_keys.extend(more.clone());
    config
}

fn mixture() -> Value {
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
    json!({
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "vocab_size": 8000,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0
    })
}

/// Records of random tokens, all of them different from the start.
fn records(place: &Place, name: &str, records: usize, tokens: usize, vocabulary: usize) {
    let mut state = 7_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % (vocabulary - 1) + 1
    };
    let lines: String = (0..records)
        .map(|_| {
            let ids: Vec<usize> = (0..tokens).map(|_| next()).collect();
            json!({"input_ids": ids}).to_string() + "\n"
        })
        .collect();
    place.write(name, lines);
}

/// Runs, and compares the plan with the run.
fn compare(place: &Place, model: &str, input: &str, more: &[&str]) -> Vec<String> {
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
            if (planned / happened - 1.0).abs() > tolerance {
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
        ("llama", "many.jsonl", &["--memory", "100MiB"]),
        (
            "llama",
            "many.jsonl",
            &["--memory", "100MiB", "--spill", "never"],
        ),
        (
            "llama",
            "many.jsonl",
            &["--memory", "90MiB", "--compute", "bf16"],
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
        ("llama", "many.jsonl", &["--memory", "78MiB"]),
        ("wide", "one.jsonl", &["--memory", "2GiB"]),
        (
            "wide",
            "many.jsonl",
            &["--memory", "2GiB", "--take", "topk:10"],
        ),
        ("wide", "many.jsonl", &["--memory", "110MiB"]),
        ("moe", "one.jsonl", &["--memory", "2GiB"]),
        ("moe", "many.jsonl", &["--memory", "2GiB"]),
        ("moe", "many.jsonl", &["--memory", "100MiB"]),
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
            &["--memory", "90MiB", "--spill", "always"],
        ),
    ] {
        wrong.extend(compare(&place, model, input, more));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
