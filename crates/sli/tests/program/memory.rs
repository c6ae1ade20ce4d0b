//! Models of real widths under budgets from the least to ample: the peak stays within every one, whatever the
//! threads, the precision, the takes, the shape.

use std::path::Path;

use serde_json::{Value, json};

use crate::budgets::smallest;
use crate::place::{self, Place, with};

/// A shape, its takes and two data sets: records that share beginnings and one that is long.
struct Shape {
    name: &'static str,
    config: Value,
    takes: &'static [&'static str],
    /// Tokens of the longest record, and how many records there are.
    longest: usize,
    records: usize,
}

const EVERYTHING: &[&str] = &[
    "hidden",
    "logits",
    "scores",
    "topk:20",
    "embedding",
    "profile",
];

fn decoder(model_type: &str, class: &str, sizes: [usize; 4], more: &Value) -> Value {
    let [hidden, inner, layers, vocabulary] = sizes;
    let sizes = json!({
        "model_type": model_type,
        "architectures": [class],
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden / 128,
        "num_key_value_heads": (hidden / 512).max(1),
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096
    });
    with(with(place::llama(), &sizes), more)
}

fn llama(sizes: [usize; 4]) -> Value {
    decoder("llama", "LlamaForCausalLM", sizes, &json!({}))
}

/// Latent attention with heads as wide as the published ones; a dense layer, then one of experts.
fn deepseek() -> Value {
    json!({
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "moe_intermediate_size": 512,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "q_lora_rank": 768,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 32,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "norm_topk_prob": true,
        "routed_scaling_factor": 2.5,
        "vocab_size": 2000,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu"
    })
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape {
            name: "wide hidden",
            config: llama([4096, 4096, 1, 2000]),
            takes: EVERYTHING,
            longest: 64,
            records: 8,
        },
        Shape {
            name: "wide feed-forward",
            config: llama([1024, 12_288, 1, 2000]),
            takes: EVERYTHING,
            longest: 150,
            records: 6,
        },
        Shape {
            name: "large vocabulary",
            config: llama([256, 512, 2, 128_000]),
            takes: &["topk:100", "scores", "hidden:last,norm"],
            longest: 150,
            records: 6,
        },
        Shape {
            name: "many experts",
            config: decoder(
                "mixtral",
                "MixtralForCausalLM",
                [1024, 1024, 2, 2000],
                &json!({"num_local_experts": 48, "num_experts_per_tok": 2}),
            ),
            takes: &["hidden", "scores", "profile", "router"],
            longest: 200,
            records: 8,
        },
        Shape {
            name: "large experts",
            config: decoder(
                "mixtral",
                "MixtralForCausalLM",
                [1024, 6000, 1, 2000],
                &json!({"num_local_experts": 4, "num_experts_per_tok": 2}),
            ),
            takes: EVERYTHING,
            longest: 200,
            records: 8,
        },
        Shape {
            name: "latent attention",
            config: deepseek(),
            takes: &["hidden", "scores", "profile", "router"],
            longest: 200,
            records: 8,
        },
        // Its matrices are stored transposed, and query, key and value as one.
        Shape {
            name: "stored transposed",
            config: json!({
                "model_type": "gpt2",
                "architectures": ["GPT2LMHeadModel"],
                "n_embd": 1536,
                "n_head": 12,
                "n_layer": 2,
                "vocab_size": 30_000,
                "n_positions": 1024
            }),
            takes: EVERYTHING,
            longest: 200,
            records: 6,
        },
        Shape {
            name: "encoder",
            config: with(
                place::bert(),
                &json!({
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 16,
                    "vocab_size": 30_000,
                    "max_position_embeddings": 512
                }),
            ),
            takes: &["hidden", "topk:10", "embedding:mean", "profile"],
            longest: 400,
            records: 6,
        },
    ]
}

/// Records of which each shares its first third with the one before it, the first of `longest` tokens.
fn records(shape: &Shape) -> String {
    let line = |record: usize| {
        let length = match record {
            0 => shape.longest,
            _ => shape.longest / 2 + record * 13 % (shape.longest / 2),
        };
        let token = |place: usize| {
            let own = if place < shape.longest / 3 { 0 } else { record };
            1 + (place * 7 + own * 31) % 1900
        };
        let ids: Vec<usize> = (0..length).map(token).collect();
        json!({"input_ids": ids}).to_string() + "\n"
    };
    (0..shape.records).map(line).collect()
}

/// How a shape runs, but for the budget.
#[derive(Clone, Copy, Debug)]
struct Way {
    compute: &'static str,
    threads: &'static str,
    more: &'static [&'static str],
}

const WAYS: [Way; 4] = [
    Way {
        compute: "bf16",
        threads: "2",
        more: &[],
    },
    Way {
        compute: "f32",
        threads: "1",
        more: &["--no-share"],
    },
    Way {
        compute: "f32",
        threads: "2",
        more: &["--spill", "always"],
    },
    Way {
        compute: "bf16",
        threads: "1",
        more: &["--no-share", "--spill", "never"],
    },
];

/// Shares of the least budget: at first finely, where divisions of the model change.
const SHARES: [f64; 8] = [1.0, 1.05, 1.2, 1.35, 1.6, 2.0, 3.5, 20.0];

/// Runs shapes in some of the ways with some of the budgets; the peak of each, against its budget.
fn within(chosen: impl Fn(usize, usize, usize) -> bool) {
    let (mut beyond, mut closest) = (Vec::new(), f64::MAX);
    for (index, shape) in shapes().iter().enumerate() {
        let place = Place::new();
        place.write_large_model("model", &shape.config);
        place.write("in.jsonl", records(shape));
        for (number, way) in WAYS.into_iter().enumerate() {
            let budgets = (0..SHARES.len()).filter(|&budget| chosen(index, number, budget));
            let budgets: Vec<f64> = budgets.map(|budget| SHARES[budget]).collect();
            if budgets.is_empty() {
                continue;
            }
            let mut run = vec!["run", "model", "--input", "in.jsonl", "--json"];
            run.extend(["--compute", way.compute, "--threads", way.threads]);
            run.extend(way.more);
            run.extend(shape.takes.iter().flat_map(|take| ["--take", *take]));
            let (flag, least) = smallest(&place, &run);
            let less = (least - (1 << 20)).to_string();
            place
                .sli(&[&run[..], &["--memory", &less, "--out", "less"]].concat())
                .failure(4, &[&flag]);
            for share in budgets {
                let budget = (least as f64 * share) as u64;
                let flag = budget.to_string();
                let summary = [&run[..], &["--memory", &flag, "--out", "out", "--fresh"]].concat();
                let outcome = place.sli(&summary).success();
                let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
                let peak = summary["peak_memory"].as_u64().unwrap();
                let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                let line = format!(
                    "{} {way:?}, {:.1} MiB: {:.1} ({}, {} passes, expected {:.1})",
                    shape.name,
                    mebibytes(budget),
                    mebibytes(peak),
                    summary["plan"]["grain"],
                    summary["plan"]["super_batches"],
                    mebibytes(summary["plan"]["peak_memory"].as_u64().unwrap()),
                );
                eprintln!("{line}");
                closest = closest.min(mebibytes(budget) - mebibytes(peak));
                if peak == 0 || peak > budget {
                    beyond.push(line);
                }
            }
        }
    }
    eprintln!("closest: {closest:.1} MiB");
    assert!(beyond.is_empty(), "{}", beyond.join("\n"));
}

#[test]
fn real_widths_stay_within_their_budgets() {
    // Every shape in one way, with the least budget and a larger one.
    within(|shape, way, budget| way == shape % WAYS.len() && [0, 2 + shape % 4].contains(&budget));
}

/// Tables of long lists are most of what a run holds: the least budget is what they take, and little more.
#[test]
fn the_least_budget_for_the_best_tokens_of_a_long_record_is_close() {
    let place = Place::new();
    place.write_large_model("model", &llama([256, 512, 1, 1500]));
    let ids: Vec<usize> = (0..2048).map(|token| token * 7 % 1500).collect();
    place.write("in.jsonl", json!({"input_ids": ids}).to_string() + "\n");
    // More than there are.
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--take",
        "topk:100000",
    ];
    let (flag, least) = smallest(&place, &run);
    let budget = ["--memory", &flag, "--out", "out", "--json"];
    let outcome = place.sli(&[&run[..], &budget].concat()).success();
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let peak = summary["peak_memory"].as_u64().unwrap();
    let expected = summary["plan"]["peak_memory"].as_u64().unwrap();
    eprintln!("{peak} of {least}, expected {expected}");
    assert!(peak <= least, "{peak} of {least}");
    assert!(least as f64 <= 1.15 * peak as f64, "{peak} of {least}");
    assert!(expected.abs_diff(peak) as f64 <= 0.15 * peak as f64);
}

/// Scores of one record of a million tokens, whose row is written a cell at a time.
#[test]
fn scores_of_a_million_tokens_fit_64_mib() {
    let place = Place::new();
    let config = json!({
        "model_type": "mamba", "architectures": ["MambaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1,
        "state_size": 2, "conv_kernel": 2, "expand": 1, "time_step_rank": 1, "vocab_size": 40
    });
    place.write_large_model("model", &config);
    let ids: Vec<usize> = (0..1_000_000).map(|token| token * token % 39).collect();
    place.write("in.jsonl", json!({"input_ids": ids}).to_string() + "\n");
    let run = [
        "run", "model", "--input", "in.jsonl", "--take", "scores", "--json",
    ];
    let peak = |budget: &str| {
        let run = [&run[..], &["--memory", budget, "--out", budget]].concat();
        let outcome = place.sli(&run).success();
        let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
        summary["peak_memory"].as_u64().unwrap()
    };
    let (peak, ample) = (peak("64MiB"), peak("2GiB"));
    eprintln!("{peak} and {ample}");
    assert!(peak <= 64 << 20 && peak < ample, "{peak} and {ample}");
    let scores = |budget: &str| fs_err::read(place.path(budget).join("scores.parquet")).unwrap();
    assert!(scores("64MiB") == scores("2GiB"));
}

/// The model that comes with the program on its sample, as texts and as conversations, and on a long text.
#[test]
fn texts_and_conversations_stay_within_the_least_budget() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/embedded");
    let model = models.display().to_string();
    let place = Place::new();
    let sample = fs_err::read_to_string(models.join("sample.jsonl")).unwrap();
    let texts = sample.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["text"].as_str().unwrap().to_owned()
    });
    let texts: Vec<String> = texts.collect();
    let conversations = texts.iter().map(|text| {
        let message = json!({"role": "user", "content": text});
        json!({"messages": [message]}).to_string() + "\n"
    });
    place.write("texts.jsonl", &sample);
    place.write("conversations.jsonl", conversations.collect::<String>());
    let long = texts.join(" ").repeat(30);
    place.write("long.jsonl", json!({"text": long}).to_string() + "\n");
    let takes = ["--take", "profile", "--take", "scores", "--take", "topk:20"];
    for input in ["texts.jsonl", "conversations.jsonl", "long.jsonl"] {
        for threads in ["1", "2"] {
            let run = ["run", &model, "--input", input, "--max-length", "512"];
            let how = ["--threads", threads];
            let run = [&run[..], &takes, &how].concat();
            let (flag, least) = smallest(&place, &run);
            let budget = ["--memory", &flag, "--out", "out", "--fresh", "--json"];
            let outcome = place.sli(&[&run[..], &budget].concat()).success();
            let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
            let peak = summary["peak_memory"].as_u64().unwrap();
            eprintln!("{input} {threads}: {peak} of {least}");
            assert!(0 < peak && peak <= least, "{input}: {peak} of {least}");
            let less = (least - (1 << 20)).to_string();
            let less = ["--memory", &less, "--out", "less"];
            place
                .sli(&[&run[..], &less].concat())
                .failure(4, &[&format!("--memory {flag}")]);
        }
    }
}

#[test]
#[ignore = "takes minutes: every shape in every way with every budget"]
fn every_shape_in_every_way_stays_within_every_budget() {
    within(|_, _, _| true);
}
