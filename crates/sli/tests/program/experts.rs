//! A layer of many experts needs the memory of a few.

use serde_json::{Value, json};

use super::place::Place;

/// A model of one layer with this many experts of 768 KiB, two a token.
fn write_mixtral(place: &Place, name: &str, experts: usize) {
    let config = json!({
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": experts,
        "num_experts_per_tok": 2,
        "vocab_size": 20,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": false
    });
    place.write_model(name, &config);
}

/// The smallest budget that works, in bytes.
fn smallest(place: &Place, model: &str) -> u64 {
    let plan = ["plan", model, "--input", "in.jsonl", "--memory", "1MiB"];
    let outcome = place.sli(&plan).failure(4, &["hint: --memory "]);
    let (_, hint) = outcome.stderr.split_once("hint: --memory ").unwrap();
    let (mebibytes, _) = hint.split_once(" MiB").or(hint.split_once("MiB")).unwrap();
    (mebibytes.parse::<f64>().unwrap() * 1024.0 * 1024.0) as u64
}

#[test]
fn a_layer_of_many_experts_runs_in_the_memory_of_two() {
    let place = Place::new();
    write_mixtral(&place, "two", 2);
    write_mixtral(&place, "many", 256);
    // 48 tokens that choose many different experts.
    place.write(
        "in.jsonl",
        json!({"input_ids": (0..48).map(|n| n * 7 % 20).collect::<Vec<_>>()}).to_string() + "\n",
    );
    let (two, many) = (smallest(&place, "two"), smallest(&place, "many"));
    // What grows is the router and the list of tensors, not the experts: those are 190 MiB more.
    assert!(many < two + (2 << 20), "{many} bytes against {two}");
    let budget = many.to_string();
    let run = ["run", "many", "--input", "in.jsonl", "--json"];
    let takes = ["--take", "profile", "--take", "router", "--take", "hidden"];
    let of = |out: &str, memory: &str| {
        let run = [&run[..], &takes, &["--out", out, "--memory", memory]].concat();
        serde_json::from_str::<Value>(&place.sli(&run).success().stdout).unwrap()
    };
    let summary = of("least", &budget);
    let peak = summary["peak_memory"].as_u64().unwrap();
    assert!(peak <= many, "{peak} bytes of {many}");
    of("ample", "2GiB");
    for name in [
        "hidden/decoder.001.safetensors",
        "router.parquet",
        "experts.parquet",
    ] {
        let [least, ample] =
            ["least", "ample"].map(|out| fs_err::read(place.path(out).join(name)).unwrap());
        assert!(least == ample, "{name}");
    }
}
