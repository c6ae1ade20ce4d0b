//! Records that are longer than what memory has room for: they run in pieces, and no bit differs.

use std::process::Child;

use serde_json::{Value, json};
use sli_testing::{Golden, Stored, golden_names};

use crate::budgets::smallest;
use crate::end_to_end::{ALL, results, start};
use crate::place::{Place, bert, llama, with};
use crate::random::Random;

/// Rows of the smallest piece.
const PIECE: usize = 256;

/// Records of some lengths, of ids below `vocabulary`.
fn records(lengths: &[usize], vocabulary: usize) -> String {
    let mut random = Random::new(3);
    let line = |length: &usize| {
        let ids: Vec<usize> = (0..*length).map(|_| random.below(vocabulary)).collect();
        json!({ "input_ids": ids }).to_string() + "\n"
    };
    lengths.iter().map(line).collect()
}

fn summary(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&fs_err::read(place.path(out).join("run.json")).unwrap()).unwrap()
}

/// Runs with ample memory and with budgets from the least on; returns how many of the latter cut records.
pub fn in_pieces_and_whole(place: &Place, run: &[&str]) -> usize {
    let ample = [run, &["--memory", "4GiB", "--out", "ample"]].concat();
    place.sli(&ample).success();
    assert!(summary(place, "ample")["plan"]["cut_tokens"].is_null());
    let expected = results(&place.path("ample"));
    let (_, least) = smallest(place, run);
    let mut cut = 0;
    for (number, more) in [0, 1, 3].into_iter().enumerate() {
        let budget = (least + (more << 20)).to_string();
        let out = format!("out-{number}");
        let narrow = [run, &["--memory", &budget, "--out", &out]].concat();
        place.sli(&narrow).success();
        let summary = summary(place, &out);
        assert!(summary["peak_memory"].as_u64().unwrap() <= least + (more << 20));
        cut += usize::from(summary["plan"]["cut_tokens"].is_u64());
        let found = results(&place.path(&out));
        assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
        for (name, bytes) in &found {
            assert!(
                *bytes == expected[name],
                "{name} with {more} MiB more: {run:?}"
            );
        }
        fs_err::remove_dir_all(place.path(&out)).unwrap();
    }
    fs_err::remove_dir_all(place.path("ample")).unwrap();
    cut
}

const LENGTHS: [usize; 7] = [5, 4 * PIECE + 77, 0, PIECE, PIECE + 1, 1, 2 * PIECE];

#[test]
fn a_decoder_and_every_result() {
    let place = Place::new();
    let config = with(llama(), &json!({"max_position_embeddings": 2000}));
    place.write_model("model", &config);
    place.write("in.jsonl", records(&LENGTHS, 20));
    let run = ["run", "model", "--input", "in.jsonl"];
    for compute in ["f32", "bf16"] {
        let run = [&run[..], &ALL, &["--compute", compute]].concat();
        assert!(in_pieces_and_whole(&place, &run) > 0, "{compute}");
    }
}

#[test]
fn an_encoder_sees_the_keys_of_all_pieces() {
    let place = Place::new();
    let sizes = json!({
        "hidden_size": 64,
        "intermediate_size": 256,
        "max_position_embeddings": 2000,
    });
    let config = with(bert(), &sizes);
    place.write_model("model", &config);
    place.write("in.jsonl", records(&LENGTHS, 20));
    let run = ["run", "model", "--input", "in.jsonl", "--take", "hidden"];
    let run = [&run[..], &["--take", "embedding:mean", "--take", "profile"]].concat();
    assert!(in_pieces_and_whole(&place, &run) > 0);
}

/// A type for every kind of state, mask and position that may be cut.
const GOLDENS: [&str; 14] = [
    "cohere2-flags",
    "deepseek_v3-flags",
    "gpt_oss",
    "llama-rope-longrope",
    "mixtral-16-experts",
    "diffllama-bias",
    "lfm2",
    "minimax",
    "qwen3_next",
    "recurrent_gemma",
    "remote-rwkv7",
    "rwkv",
    "xlstm-flags",
    "zaya-flags",
];

#[test]
fn types_of_several_families() {
    for name in GOLDENS {
        assert_eq!(golden_in_pieces(name), Some(true), "{name}");
    }
}

/// A tiny Mamba or Mamba-2.
fn scan(model_type: &str) -> Value {
    let common = json!({
        "model_type": model_type,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "vocab_size": 20,
        "state_size": 6,
    });
    match model_type {
        "mamba2" => with(
            common,
            &json!({"num_heads": 4, "head_dim": 16, "n_groups": 2}),
        ),
        _ => common,
    }
}

/// Convolution and recurrence go on behind a piece, behind a block of rows, and where records part.
#[test]
fn scans_hand_their_states_on() {
    for (model_type, compute) in [("mamba", "f32"), ("mamba2", "bf16")] {
        let place = Place::new();
        place.write_model("model", &scan(model_type));
        let mut random = Random::new(13);
        let mut ids =
            |length: usize| -> Vec<usize> { (0..length).map(|_| random.below(20)).collect() };
        let beginning = ids(300);
        let mut lines = records(&[5 * PIECE + 3, 0, 1, 3 * PIECE], 20);
        for shared in [300, 12, 299, 300, 40, 300, 41] {
            let record = [&beginning[..shared], &ids(7)].concat();
            lines += &(json!({ "input_ids": record }).to_string() + "\n");
        }
        place.write("in.jsonl", lines);
        let run = ["run", "model", "--input", "in.jsonl", "--compute", compute];
        let run = [&run[..], &ALL].concat();
        assert!(in_pieces_and_whole(&place, &run) > 0, "{model_type}");
        let shared = [&run[..], &["--out", "shared"]].concat();
        place.sli(&shared).success();
        let alone = [
            &run[..],
            &["--no-share", "--threads", "1", "--out", "alone"],
        ]
        .concat();
        place.sli(&alone).success();
        assert!(
            results(&place.path("alone")) == results(&place.path("shared")),
            "{model_type}"
        );
    }
}

/// What a run holds of a record follows from its pieces, however long it is.
#[test]
fn a_record_takes_no_more_memory_than_its_pieces() {
    let place = Place::new();
    let tiny = json!({"hidden_size": 8, "num_hidden_layers": 1});
    place.write_model("model", &with(scan("mamba"), &tiny));
    let run = ["run", "model", "--input", "in.jsonl", "--take", "profile"];
    let run = [
        &run[..],
        &["--take", "hidden:last", "--take", "embedding:mean"],
    ]
    .concat();
    let least = |length: usize| {
        place.write("in.jsonl", records(&[length, 3], 20));
        smallest(&place, &run).1
    };
    let long = least(120_000);
    assert!(long < 48 << 20, "{long}");
    assert!(least(24_000) + (1 << 20) >= long);
    assert_eq!(in_pieces_and_whole(&place, &run), 3);
}

/// Whether a budget cut a record; nothing where the type has no place for long records.
fn golden_in_pieces(name: &str) -> Option<bool> {
    let place = Place::new();
    let golden = Golden::open(name);
    golden.write(&place.path("model"), Stored::F32);
    let path = place.path("model/config.json");
    if let Ok(text) = fs_err::read(&path) {
        let mut config: Value = serde_json::from_slice(&text).unwrap();
        for limit in ["max_position_embeddings", "n_positions", "seq_length"] {
            if config.get(limit).is_some() {
                config[limit] = json!(4000);
            }
        }
        fs_err::write(&path, config.to_string()).unwrap();
    }
    let vocabulary = golden
        .records()
        .iter()
        .flat_map(|record| record.input_ids.clone())
        .max();
    let vocabulary = vocabulary.unwrap() as usize + 1;
    place.write("in.jsonl", records(&[3000, 3, 300], vocabulary));
    let run = ["run", "model", "--input", "in.jsonl", "--compute", "f32"];
    let mut run = [&run[..], &["--take", "hidden", "--take", "profile"]].concat();
    let out = ["--take", "router", "--out", "routed", "--memory", "4GiB"];
    let routed = place.sli(&[&run[..], &out].concat());
    if routed.code == 0 {
        run.extend(["--take", "router"]);
    }
    let out = ["--out", "probe", "--memory", "4GiB"];
    let probe = place.sli(&[&run[..], &out].concat());
    (probe.code == 0).then(|| in_pieces_and_whole(&place, &run) > 0)
}

#[test]
#[ignore = "every committed golden: minutes"]
fn all_types() {
    let (mut cut, mut whole, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for name in golden_names() {
        match golden_in_pieces(&name) {
            Some(true) => cut.push(name),
            Some(false) => whole.push(name),
            None => left.push(name),
        }
    }
    println!("cut: {cut:?}\nwhole: {whole:?}\nno long records: {left:?}");
    assert!(cut.len() > whole.len(), "{whole:?}");
}

#[test]
fn kills_between_pieces_change_no_byte() {
    let config = json!({"max_position_embeddings": 2000, "num_hidden_layers": 4});
    for config in [with(llama(), &config), scan("mamba2")] {
        killed_between_pieces(&config);
    }
}

fn killed_between_pieces(config: &Value) {
    let place = Place::new();
    place.write_model("model", config);
    place.write("in.jsonl", records(&[1500, 40, 900], 20));
    let base = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--checkpoint-interval",
        "0",
    ];
    let base = [&base[..], &ALL].concat();
    let (flag, _) = smallest(&place, &base);
    let run = [&base[..], &["--memory", &flag, "--out"]].concat();
    place.sli(&[&run[..], &["whole"]].concat()).success();
    assert!(summary(&place, "whole")["plan"]["cut_tokens"].is_u64());
    let mut random = Random::new(9);
    let run = [&run[..], &["out"]].concat();
    for _ in 0..6 {
        let mut child = start(&place, &run);
        die_somewhere(&mut child, &mut random);
    }
    place.sli(&run).success();
    assert!(results(&place.path("out")) == results(&place.path("whole")));
}

fn die_somewhere(child: &mut Child, random: &mut Random) {
    (0..random.below(400)).for_each(|_| std::thread::yield_now());
    (0..random.below(20_000_000)).for_each(|_| std::hint::spin_loop());
    // One that has ended cannot be killed.
    let _ = child.kill();
    child.wait().unwrap();
}
