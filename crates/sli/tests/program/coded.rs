//! Coded weights through the program: within every budget the same bytes, and what is planned is what is read.

use serde_json::{Value, json};
use sli_testing::{Golden, Stored, store_again};

use crate::budgets::within_every_budget;
use crate::end_to_end::ALL;
use crate::place::{Place, with};
use crate::planner::{compare, decoder, mixture, records};

/// No side of a matrix is a multiple of a block.
fn ragged() -> Value {
    let sizes = json!({"hidden_size": 264, "intermediate_size": 700, "head_dim": 40});
    decoder(500, &sizes)
}

#[test]
fn every_budget_gives_the_same_bytes() {
    let place = Place::new();
    place.write_fp8_model("model", &ragged());
    place.write_fp8_model("moe", &mixture());
    records(&place, "in.jsonl", 12, 40, 500);
    for model in ["model", "moe"] {
        for compute in ["f32", "bf16"] {
            let run = ["run", model, "--input", "in.jsonl", "--compute", compute];
            within_every_budget(&place, &[&run[..], &ALL].concat());
        }
    }
}

#[test]
fn bytes_and_memory_are_what_was_planned() {
    let place = Place::new();
    place.write_fp8_model("model", &ragged());
    let large = json!({"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 2});
    place.write_fp8_model("large", &decoder(500, &large));
    place.write_fp8_model("moe", &mixture());
    records(&place, "in.jsonl", 30, 60, 500);
    let mut wrong = Vec::new();
    for model in ["model", "large", "moe"] {
        for memory in ["2GiB", "80MiB", "64MiB"] {
            for compute in ["f32", "bf16"] {
                let more = ["--memory", memory, "--compute", compute];
                wrong.extend(compare(&place, model, "in.jsonl", &more));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Goldens of further codes, and files of GGUF with blocks.
const OTHERS: [&str; 14] = [
    "gpt2-bnb-nf4",
    "gpt_oss-mxfp4",
    "llama-aqlm-2x8",
    "llama-auto-round",
    "llama-awq",
    "llama-bnb-int8",
    "llama-ct-nvfp4",
    "llama-ct-packed-4",
    "llama-gptq-4",
    "llama-mlx-4",
    "llama-modelopt-nvfp4",
    "llama-quanto-4",
    "qwen3_moe-gptq",
    "starcoder2-awq",
];
const BLOCKS: [&str; 2] = ["llama-q8_0", "qwen35-q8_0"];

/// Models of these codes, and records for all of them.
fn of_other_codes(place: &Place) -> Vec<String> {
    for name in OTHERS {
        Golden::open(name).write(&place.path(name), Stored::Bf16);
    }
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/../sli-engine/tests/gguf");
    let blocks = BLOCKS.map(|name| format!("{name}.gguf"));
    for name in &blocks {
        fs_err::copy(format!("{files}/{name}"), place.path(name)).unwrap();
    }
    records(place, "small.jsonl", 12, 40, 24);
    let others = OTHERS.iter().map(|name| (*name).to_owned());
    others.chain(blocks).collect()
}

#[test]
fn what_other_codes_read_and_hold_was_planned() {
    let place = Place::new();
    let mut wrong = Vec::new();
    let models = of_other_codes(&place).into_iter();
    // An expert's codes and its scales are read in one go where they are nearer than a page, which the last experts' are in a
    // model so small; the plan takes the first one's bytes for all.
    for model in models.filter(|model| model != "gpt_oss-mxfp4") {
        for more in [["--memory", "2GiB"], ["--compute", "bf16"]] {
            wrong.extend(compare(&place, &model, "small.jsonl", &more));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn other_codes_give_the_same_bytes_within_every_budget() {
    let place = Place::new();
    for model in of_other_codes(&place) {
        let run = ["run", &model, "--input", "small.jsonl"];
        within_every_budget(&place, &[&run[..], &ALL].concat());
    }
}

#[test]
fn a_coded_model_is_inspected() {
    let place = Place::new();
    Golden::open("qwen3-fp8-one-scale").write(&place.path("model"), Stored::Bf16);
    let said = place.sli(&["inspect", "model", "--json"]).success().stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["coverage"]["complete"], json!(true));
    assert!(said["dtypes"]["F8_E4M3"].as_u64().unwrap() > 0);
}

#[test]
fn a_configuration_that_says_more_is_3() {
    let place = Place::new();
    let golden = Golden::open("qwen3-fp8");
    place.write("in.jsonl", golden.jsonl());
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    for (key, value, said) in [
        ("fmt", json!("e3m4"), "quantization_config.fmt"),
        (
            "weight_block_size",
            json!([0, 1]),
            "quantization_config.weight_block_size",
        ),
        ("weight_block_size", json!([16, 16]), "weight_scale_inv"),
        ("rotation", json!(true), "quantization_config.rotation"),
        ("quant_method", json!("unheard of"), "not read yet"),
    ] {
        golden.write(&place.path("model"), Stored::F32);
        let path = place.path("model/config.json");
        let text = fs_err::read_to_string(&path).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["quantization_config"] =
            with(config["quantization_config"].clone(), &json!({key: value}));
        fs_err::write(&path, config.to_string()).unwrap();
        place.sli(&run).failure(3, &[said, "hint: "]);
    }
}

#[test]
fn a_coded_head_that_is_stored_beside_its_table_is_compared() {
    let place = Place::new();
    let golden = Golden::open("qwen3-fp8-one-scale");
    place.write("in.jsonl", golden.jsonl());
    let table = "model.embed_tokens.weight";
    let scale = format!("{table}_scale_inv");
    let run = |bits: Option<u8>, out: &str| {
        golden.write(&place.path("model"), Stored::F32);
        if let Some(bits) = bits {
            let scales = (&*scale, "lm_head.weight_scale_inv", 0);
            let copies = [(table, "lm_head.weight", bits), scales];
            store_again(&place.path("model/model.safetensors"), &copies);
        }
        let run = [
            "run", "model", "--input", "in.jsonl", "--out", out, "--take", "logits",
        ];
        let said = place.sli(&run).success().stderr;
        let logits = fs_err::read(place.path(&format!("{out}/logits.safetensors"))).unwrap();
        (said.contains("another head"), logits)
    };
    let (_, tied) = run(None, "tied");
    assert_eq!(run(Some(0), "again"), (false, tied.clone()));
    let (said, other) = run(Some(1), "other");
    assert!(said && other != tied);
}

#[test]
fn rounded_inputs_are_spoken_of_where_kernels_round_them() {
    let place = Place::new();
    for (name, rounds) in [("llama-ct-int8", true), ("llama-awq", false)] {
        let golden = Golden::open(name);
        golden.write(&place.path(name), Stored::Bf16);
        place.write("in.jsonl", golden.jsonl());
        let run = [
            "run", name, "--input", "in.jsonl", "--out", "out", "--fresh",
        ];
        let said = place.sli(&run).success().stderr;
        assert_eq!(said.contains("are not rounded"), rounds, "{said}");
    }
}

#[test]
fn what_optimum_quanto_says_is_in_a_file_of_its_own() {
    let place = Place::new();
    Golden::open("llama-quanto-4").write(&place.path("model"), Stored::Bf16);
    fs_err::write(
        place.path("in.jsonl"),
        "{\"id\": \"a\", \"input_ids\": [3, 5, 7]}\n",
    )
    .unwrap();
    let run = ["run", "model", "--input", "in.jsonl", "--take", "logits"];
    place.sli(&[&run[..], &["--out", "one"]].concat()).success();
    let config = place.path("model").join("config.json");
    let mut said: Value = serde_json::from_slice(&fs_err::read(&config).unwrap()).unwrap();
    let mut map = said["quantization_config"].take();
    map.as_object_mut().unwrap().remove("quant_method");
    said.as_object_mut().unwrap().remove("quantization_config");
    fs_err::write(&config, said.to_string()).unwrap();
    let beside = place.path("model").join("quanto_qmap.json");
    fs_err::write(&beside, map.to_string()).unwrap();
    place.sli(&[&run[..], &["--out", "two"]].concat()).success();
    let logits = |out: &str| {
        let files = fs_err::read_dir(place.path(out)).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let file = files.find(|file| file.extension().is_some_and(|end| end == "safetensors"));
        fs_err::read(file.unwrap()).unwrap()
    };
    assert_eq!(logits("one"), logits("two"));
    // Without it the codes are nobody's.
    fs_err::remove_file(beside).unwrap();
    let without = place.sli(&[&run[..], &["--out", "three"]].concat());
    without.failure(3, &["model.layers.0.mlp.down_proj.weight"]);
}
