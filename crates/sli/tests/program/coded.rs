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
