//! `--take hessian`: products of what enters every matrix with itself.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use sli_testing::{Golden, Stored};

use crate::budgets::within_every_budget;
use crate::end_to_end::results;
use crate::kills::kill_a_dozen_times;
use crate::place::{Place, llama, with};
use crate::random::Random;
use crate::shards::compare;

/// Rows and records of every matrix of a file, of shared ones by all of their names.
fn counts(path: &Path) -> BTreeMap<String, [i64; 2]> {
    let bytes = fs_err::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let shared: BTreeMap<String, String> = serde_json::from_str(&metadata["shared"]).unwrap();
    let names = file.names().into_iter();
    let own = names.filter_map(|name| name.strip_suffix(".xtx").map(str::to_owned));
    let own: Vec<String> = own.collect();
    let count = |name: String| {
        let tensor = file.tensor(&name).unwrap();
        i64::from_le_bytes(tensor.data().try_into().unwrap())
    };
    let of = |own: &str| ["tokens", "sequences"].map(|kind| count(format!("{own}.{kind}")));
    let alone = own.iter().map(|name| (name.clone(), of(name)));
    let others = shared.iter().map(|(name, own)| (name.clone(), of(own)));
    alone.chain(others).collect()
}

/// A model with experts, and records of mixed lengths that begin alike; the longest have several units.
fn prepare(place: &Place, config: &Value) -> [&'static str; 8] {
    place.write_model("model", config);
    let mut random = Random::new(3);
    let lines = (0..40).map(|number| {
        let length = if number % 13 == 5 {
            1100
        } else {
            random.below(40)
        };
        let token = |at: usize| if at < 5 { at } else { random.below(20) };
        let ids: Vec<usize> = (0..length).map(token).collect();
        json!({"input_ids": ids}).to_string() + "\n"
    });
    place.write("in.jsonl", lines.collect::<String>());
    [
        "run", "model", "--input", "in.jsonl", "--take", "hessian", "--take", "scores",
    ]
}

fn mixtral() -> Value {
    let experts = json!({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4,
                         "num_experts_per_tok": 2, "max_position_embeddings": 2000, "num_hidden_layers": 3});
    with(llama(), &experts)
}

fn assert_means_change_no_bit(config: &Value, more_ways: &[(&str, &[&str])]) {
    let place = Place::new();
    let run = prepare(&place, config);
    let of = |out: &str, more: &[&str]| {
        place
            .sli(&[&run[..], &["--out", out], more].concat())
            .success();
        results(&place.path(out))
    };
    let expected = of("plain", &[]);
    assert!(expected.contains_key("hessian/decoder.003.safetensors"));
    let ways = [
        ("one", &["--threads", "1"][..]),
        ("spill", &["--spill", "always", "--threads", "2"]),
        ("alone", &["--no-share"]),
        ("often", &["--checkpoint-interval", "0"]),
    ];
    for (out, more) in ways.iter().chain(more_ways) {
        assert!(of(out, more) == expected, "{more:?}");
    }
    within_every_budget(&place, &run);
}

#[test]
fn means_change_no_bit() {
    assert_means_change_no_bit(&mixtral(), &[]);
}

#[test]
fn parts_are_the_whole() {
    let place = Place::new();
    let run = prepare(&place, &mixtral());
    compare(&place, &run, &[1, 3]);
    // Parts without a record.
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n{\"input_ids\": []}\n");
    compare(&place, &run, &[4]);
    let folders = (1..=4).map(|part| format!("part-{part}-of-4"));
    let folders: Vec<String> = folders.collect();
    let merge: Vec<&str> = ["merge", "--out", "again"]
        .into_iter()
        .chain(folders.iter().map(String::as_str))
        .collect();
    let path = place.path("part-1-of-4/hessian/decoder.002.accumulators");
    let mut wrong = fs_err::read(&path).unwrap();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    fs_err::write(&path, wrong).unwrap();
    place.sli(&merge).failure(
        5,
        &["decoder.002.accumulators", "hint: run this part again"],
    );
}

#[test]
fn kills_change_no_byte() {
    let place = Place::new();
    let run = prepare(&place, &mixtral());
    let means = ["--memory", "60MiB", "--checkpoint-interval", "0"];
    kill_a_dozen_times(&place, &[&run[..], &means].concat(), 29);
}

#[test]
fn layers_are_chosen() {
    let place = Place::new();
    let run = prepare(&place, &mixtral());
    let run = [&run[..4], &["--out", "out", "--take"]].concat();
    place
        .sli(&[&run[..], &["hessian:2,last"]].concat())
        .success();
    let found = results(&place.path("out"));
    let names: Vec<&String> = found.keys().collect();
    assert_eq!(
        names,
        [
            "hessian/decoder.002.safetensors",
            "hessian/decoder.003.safetensors"
        ]
    );
    for (wrong, item) in [
        ("hessian:0", "`0`"),
        ("hessian:norm", "`norm`"),
        ("hessian:4", "`4`"),
    ] {
        place
            .sli(&[&run[..], &[wrong]].concat())
            .failure(2, &[item, "hint: there are "]);
    }
}

#[test]
fn an_encoder_and_a_decoder() {
    let place = Place::new();
    Golden::open("t5").write(&place.path("model"), Stored::F32);
    let lines = (0..9).map(|record| {
        let ids: Vec<usize> = (0..3 + record * 2)
            .map(|token| 4 + token * 3 % 50)
            .collect();
        let made: Vec<usize> = (0..2 + record).map(|token| 5 + token % 40).collect();
        json!({"input_ids": ids, "decoder_input_ids": made}).to_string() + "\n"
    });
    place.write("in.jsonl", lines.collect::<String>());
    let run = ["run", "model", "--input", "in.jsonl", "--take", "hessian"];
    let of = |out: &str, more: &[&str]| {
        place
            .sli(&[&run[..], &["--out", out], more].concat())
            .success();
        results(&place.path(out))
    };
    let expected = of("plain", &[]);
    assert!(
        of(
            "spilled",
            &["--spill", "always", "--threads", "1", "--memory", "48MiB"]
        ) == expected
    );
    let found = counts(&place.path("plain/hessian/decoder.001.safetensors"));
    let keys = &found["decoder.block.0.layer.1.EncDecAttention.k"];
    let queries = &found["decoder.block.0.layer.1.EncDecAttention.q"];
    let (read, made) = ((0..9).map(|n| 3 + n * 2).sum(), (0..9).map(|n| 2 + n).sum());
    assert_eq!(keys, &[read, 9]);
    assert_eq!(queries, &[made, 9]);
    compare(&place, &run, &[2]);
}
