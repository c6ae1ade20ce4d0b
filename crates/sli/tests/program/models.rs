//! Types of every family through the program, against the reference.

use sli_testing::{Golden, Stored, compare, read_tensors};

use super::place::Place;

const TOLERANCE: f64 = 1e-4;

/// A type for every mixer, position, norm and layout of weights.
const GOLDENS: [&str; 19] = [
    "bert-flags",
    "bloom-published-names",
    "cohere2-flags",
    "cpmant-flags",
    "deepseek_v3-flags",
    "deepseek_v32-flags",
    "distilbert-flags",
    "doge-moe",
    "falcon-new-decoder",
    "gemma3n_text-flags",
    "gemma4_text-moe",
    "gpt2-published-names",
    "gpt_oss",
    "llama-rope-longrope",
    "mixtral-16-experts",
    "opt-350m",
    "remote-chatglm",
    "remote-llama3-original-2shard",
    "remote-qwen",
];

#[test]
fn types_of_every_family_are_met() {
    let place = Place::new();
    let mut met = 0;
    for name in GOLDENS {
        let golden = Golden::open(name);
        // The values of published forms are not rounded to bf16.
        let stored = if name.starts_with("remote-") {
            Stored::F32
        } else {
            Stored::Bf16
        };
        golden.write(&place.path(name), stored);
        let input = format!("{name}.jsonl");
        place.write(&input, golden.jsonl());
        let out = format!("{name}.out");
        let run = ["run", name, "--input", &input, "--out", &out];
        let takes = ["--take", "hidden", "--take", "logits", "--compute", "f32"];
        place.sli(&[&run[..], &takes].concat()).success();
        met += compare_results(&place, &golden, &out);
    }
    assert!(met > 250, "{met} tensors are few");
}

/// Compares every hidden state and the logits; returns how many.
fn compare_results(place: &Place, golden: &Golden, out: &str) -> usize {
    let mut compared = 0;
    for record in golden.records() {
        for (what, expected) in golden.expectations(&record.id) {
            let file = match what.split_once('.') {
                None if what == "logits" => "logits.safetensors".to_owned(),
                Some(("hidden", rest)) => format!("hidden/{rest}.safetensors"),
                _ => continue,
            };
            let found = read_tensors(&place.path(out).join(&file));
            if let Err(problem) = compare(&found[&record.id], &expected, TOLERANCE) {
                panic!("{}, record {}, {what}: {problem}", golden.name, record.id);
            }
            compared += 1;
        }
    }
    compared
}

#[test]
fn a_prompt_in_front_of_records_is_the_same_in_any_company() {
    let place = Place::new();
    let golden = Golden::open("cpmant-flags");
    golden.write(&place.path("model"), Stored::F32);
    let takes = ["--take", "hidden", "--take", "logits", "--take", "scores"];
    let run = |input: &str, out: &str| {
        let run = [
            "run", "model", "--input", input, "--out", out, "--take", "profile",
        ];
        place.sli(&[&run[..], &takes].concat()).success();
    };
    place.write(
        "all.jsonl",
        golden.jsonl() + "{\"id\": \"none\", \"input_ids\": []}\n",
    );
    run("all.jsonl", "all");
    let lines = golden.jsonl();
    for (record, line) in golden.records().iter().zip(lines.lines()) {
        let out = format!("alone-{}", record.id);
        place.write("one.jsonl", format!("{line}\n"));
        run("one.jsonl", &out);
        for file in ["hidden/decoder.002.safetensors", "logits.safetensors"] {
            let of = |out: &str| {
                let tensors = read_tensors(&place.path(out).join(file));
                tensors[&record.id].values.clone()
            };
            assert!(of("all") == of(&out), "record {}, {file}", record.id);
        }
    }
}

#[test]
fn packed_weights_are_refused() {
    let place = Place::new();
    Golden::open("llama").write(&place.path("model"), Stored::F32);
    let path = place.path("model").join("config.json");
    let text = fs_err::read_to_string(&path).unwrap();
    let packed = text.replacen(
        '{',
        "{\"quantization_config\": {\"quant_method\": \"vptq\"},",
        1,
    );
    fs_err::write(&path, packed).unwrap();
    place.write("in.jsonl", "{\"input_ids\": [5, 6, 7]}\n");
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    let said = [
        "quantization_config",
        "vptq",
        "another form of the model",
        "hint: ",
    ];
    place.sli(&run).failure(3, &said);
    let allowed = ["--allow-unread", "quantization_config"];
    place.sli(&[&run[..], &allowed].concat()).success();
}

#[test]
fn a_record_that_chatglm_cannot_divide_is_3() {
    let place = Place::new();
    let golden = Golden::open("remote-chatglm");
    golden.write(&place.path("model"), Stored::F32);
    place.write("in.jsonl", golden.jsonl() + "{\"input_ids\": [5, 6, 7]}\n");
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    let line = format!("line {}", golden.records().len() + 1);
    place
        .sli(&run)
        .failure(3, &[&line, "begins the generated part", "hint: "]);
    assert!(!place.path("out").exists());
}

#[test]
fn a_token_beyond_a_shorter_table_of_the_layers_is_3() {
    // The layers' own embeddings have 130 rows, the vocabulary has 160.
    let place = Place::new();
    Golden::open("gemma4_text-few-own-inputs").write(&place.path("model"), Stored::F32);
    let run = |ids: &str| {
        place.write(
            "in.jsonl",
            format!("{{\"id\": \"x\", \"input_ids\": {ids}}}\n"),
        );
        let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
        place.sli(&[&run[..], &["--fresh"]].concat())
    };
    let says = [
        "record `x`",
        "token id 130 at position 1",
        "beyond the vocabulary of 130",
    ];
    run("[5, 130, 6]").failure(3, &says);
    assert!(!place.path("out").exists());
    run("[5, 129, 6]").success();
}
