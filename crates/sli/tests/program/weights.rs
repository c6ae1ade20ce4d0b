//! Which weights are taken, and that results of other weights, or of other files, are never kept.

use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::end_to_end::{results, start};
use crate::place::{Outcome, Place, bert, llama, with};
use crate::random::Random;

const RUN: [&str; 7] = [
    "run",
    "model",
    "--input",
    "in.jsonl",
    "--compute",
    "f32",
    "--out",
];

fn run(place: &Place, out: &str, more: &[&str]) -> Outcome {
    place.sli(&[&RUN[..], &[out], more].concat())
}

fn manifest(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&fs_err::read(place.path(out).join("run.json")).unwrap()).unwrap()
}

#[test]
fn what_is_taken_and_what_is_left_is_said() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the cat sat\"}\n");
    let quiet = run(&place, "out", &[]).success();
    assert!(!quiet.stderr.contains("not looked at"), "{quiet:?}");
    assert_eq!(manifest(&place, "out")["weights"]["left"], json!([]));
    let index = "{\"weight_map\": {\"gone\": \"model-00001-of-00002.safetensors\"}}";
    place.write("model/model.safetensors.index.json", index);
    let says = "`model.safetensors.index.json` in the same folder is not looked at";
    let again = run(&place, "again", &[]).success();
    assert!(again.stderr.contains(says), "{again:?}");
    let weights = manifest(&place, "again")["weights"].clone();
    assert_eq!(weights["files"], json!(["model.safetensors"]));
    assert_eq!(weights["left"], json!(["model.safetensors.index.json"]));
    assert!(results(&place.path("out")) == results(&place.path("again")));
    let shown = place.sli(&["inspect", "model"]).success();
    assert!(shown.stderr.contains(says), "{shown:?}");
    assert!(shown.stdout.contains("not looked at"), "{shown:?}");
}

#[test]
fn an_adapter_is_no_model() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the cat sat\"}\n");
    for (kind, says, hint) in [
        ("LORA", "a LoRA adapter of `example/base`", "merge"),
        ("IA3", "an IA3 adapter of `example/base`", "merge"),
        ("PROMPT_TUNING", "a PROMPT_TUNING adapter", "not supported"),
    ] {
        let config = json!({"peft_type": kind, "base_model_name_or_path": "example/base"});
        place.write("adapter/adapter_config.json", config.to_string());
        place.write("adapter/adapter_model.safetensors", "");
        let alone = ["run", "adapter", "--input", "in.jsonl", "--out", "out"];
        place.sli(&alone).failure(3, &[says, hint]);
        place.sli(&["inspect", "adapter"]).failure(3, &[says, hint]);
        place.write("model/adapter_config.json", config.to_string());
        run(&place, "out", &[]).failure(3, &[says, "beside the model", "merge"]);
    }
    run(&place, "out", &["--allow-unread", "adapter_config.json"]).success();
}

#[test]
fn what_is_no_safetensors_file_says_what_it_is() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the cat sat\"}\n");
    for (content, says) in [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "Git LFS pointer",
        ),
        ("<!DOCTYPE html><html></html>", "a web page"),
        ("PK\u{3}\u{4}pickled", "PyTorch"),
        ("", "empty"),
    ] {
        place.write("model/model.safetensors", content);
        run(&place, "out", &[]).failure(3, &["model.safetensors", says]);
    }
}

/// Flips the lowest bit of an f32 in a file, whose times of change stay.
fn flip(path: &Path, at: u64) {
    let modified = fs_err::metadata(path).unwrap().modified().unwrap();
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, at).unwrap();
    file.file().write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.file().set_modified(modified).unwrap();
}

/// Names of the tensors of a file, and where they begin and end in it.
fn tensors(path: &Path) -> Vec<(String, u64, u64)> {
    let bytes = fs_err::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let header: Value = serde_json::from_slice(&bytes[8..8 + length as usize]).unwrap();
    let place = |(name, tensor): (&String, &Value)| {
        let at = |index: usize| 8 + length + tensor["data_offsets"][index].as_u64().unwrap();
        (name.clone(), at(0), at(1))
    };
    header.as_object().unwrap().iter().map(place).collect()
}

#[test]
fn other_weights_of_the_same_shape_are_another_run() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the cat sat\"}\n");
    run(&place, "out", &[]).success();
    let file = place.path("model/model.safetensors");
    for (_, start, end) in tensors(&file) {
        for at in [start, (start + end) / 8 * 4, end - 4] {
            flip(&file, at);
            run(&place, "out", &[]).failure(3, &["another run", "weights model.safetensors was"]);
            flip(&file, at);
        }
    }
    let again = run(&place, "out", &[]).success();
    assert!(again.stderr.contains("finished already"), "{again:?}");
}

/// A model so large that not all of it is looked at when it is opened.
fn large(place: &Place) {
    let config = json!({"hidden_size": 256, "intermediate_size": 2560, "num_hidden_layers": 2,
        "max_position_embeddings": 64});
    place.write_model("model", &with(llama(), &config));
    let mut random = Random::new(3);
    let lines = (0..100).map(|_| {
        let ids: Vec<usize> = (0..=random.below(60)).map(|_| random.below(20)).collect();
        json!({"input_ids": ids}).to_string() + "\n"
    });
    place.write("in.jsonl", lines.collect::<String>());
    assert!(
        fs_err::metadata(place.path("model/model.safetensors"))
            .unwrap()
            .len()
            > 16 << 20
    );
}

#[test]
fn a_byte_that_samples_miss_is_found_in_a_finished_run() {
    let place = Place::new();
    large(&place);
    run(&place, "out", &[]).success();
    let file = place.path("model/model.safetensors");
    let matrix = |name: &str| {
        let found = tensors(&file)
            .into_iter()
            .find(|(tensor, ..)| tensor.contains(name));
        found
            .map(|(_, start, end)| start + (end - start) / 4 / 5 * 4)
            .unwrap()
    };
    for name in ["layers.1.mlp.up_proj", "layers.0.mlp.down_proj"] {
        let at = matrix(name);
        flip(&file, at);
        run(&place, "out", &[]).failure(3, &["another run", "content of the weights was"]);
        flip(&file, at);
        let again = run(&place, "out", &[]).success();
        assert!(again.stderr.contains("finished already"), "{again:?}");
    }
}

#[test]
fn a_killed_run_goes_on_with_its_own_weights_only() {
    let place = Place::new();
    large(&place);
    let means = [
        "--take",
        "scores",
        "--memory",
        "44MiB",
        "--checkpoint-interval",
        "0",
    ];
    run(&place, "undisturbed", &means).success();
    let file = place.path("model/model.safetensors");
    let tensors = tensors(&file);
    let matrices: Vec<_> = (tensors.iter())
        .filter(|(name, start, end)| name.contains("layers") && end - start > 1 << 20)
        .collect();
    let (mut random, mut refused) = (Random::new(7), 0);
    let command = [&RUN[..], &["out"], &means].concat();
    let passes = || fs_err::metadata(place.path("out/.sli/passes")).map_or(0, |file| file.len());
    for _ in 0..6 {
        // After the first super-batch, so that everything has been read once.
        let mut child = start(&place, &command);
        let enough = passes() + 3 + random.below(3) as u64;
        while passes() < enough && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if !place.path("out/.sli/state.json").is_file() {
            break;
        }
        let (name, start, end) = random.of(&matrices);
        let at = start + random.below(((end - start) / 4) as usize) as u64 * 4;
        flip(&file, at);
        let outcome = place.sli(&command);
        if outcome.code == 3 {
            outcome.failure(3, &["model.safetensors", name]);
            refused += 1;
        } else {
            // It ended before it read the tensor again: nothing is mixed.
            outcome.success();
        }
        flip(&file, at);
    }
    assert!(refused > 0);
    place.sli(&command).success();
    assert!(results(&place.path("out")) == results(&place.path("undisturbed")));
}

/// What `change` does to a finished run: it is refused, or what it left is what a run of the changed files gives.
fn refused_or_right(place: &Place, more: &[&str], what: &str, change: impl FnOnce(&Place)) -> bool {
    for out in ["out", "fresh"] {
        let _ = fs_err::remove_dir_all(place.path(out));
    }
    run(place, "out", more).success();
    change(place);
    let fresh = run(place, "fresh", more);
    let again = run(place, "out", more);
    if again.code == 3 {
        if fresh.code == 0 {
            assert!(again.stderr.contains("another run"), "{what}: {again:?}");
        }
        return true;
    }
    again.success();
    fresh.success();
    let [out, fresh] = ["out", "fresh"].map(|out| results(&place.path(out)));
    assert!(out == fresh, "{what}: results of other files were kept");
    false
}

/// Every file of a model folder that anything reads, changed, added and removed under a finished run.
#[test]
fn whatever_file_changes_no_stale_result_is_kept() {
    let mean = json!({"pooling_mode_mean_tokens": true}).to_string();
    let cls = json!({"pooling_mode_cls_token": true}).to_string();
    let modules = |pooling: &str| {
        json!([
            {"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": pooling}
        ])
        .to_string()
    };
    let prepare = |place: &Place| {
        place.write_model(
            "model",
            &with(bert(), &json!({"architectures": ["BertModel"]})),
        );
        place.write_tokenizer("model");
        place.write("model/modules.json", modules("7_Other"));
        place.write("model/7_Other/config.json", &mean);
        place.write("model/1_Pooling/config.json", &cls);
        place.write(
            "in.jsonl",
            "{\"text\": \"the cat sat\"}\n{\"text\": \"a dog ran\"}\n",
        );
    };
    let lower = "{\"do_lower_case\": true}";
    let decoder = json!({"added_tokens_decoder": {"3": {"content": "cat", "special": true}}});
    let special = "{\"bos_token\": \"<s>\", \"additional_special_tokens\": [\"sat\"]}";
    let (decoder, elsewhere) = (decoder.to_string(), modules("1_Pooling"));
    let files: [(&str, Option<&str>); 17] = [
        ("modules.json", Some(&elsewhere)),
        ("modules.json", None),
        ("7_Other/config.json", Some(&cls)),
        ("1_Pooling/config.json", Some(&mean)),
        ("sentence_bert_config.json", Some(lower)),
        ("sentence_roberta_config.json", Some(lower)),
        ("sentence_bert_config.json", Some("{\"max_seq_length\": 2}")),
        (
            "config_sentence_transformers.json",
            Some("{\"default_prompt_name\": \"q\", \"prompts\": {\"q\": \"the \"}}"),
        ),
        ("tokenizer_config.json", Some(&decoder)),
        ("tokenizer_config.json", None),
        ("special_tokens_map.json", Some(special)),
        ("added_tokens.json", Some("{\"ran\": 14}")),
        ("chat_template.jinja", Some("{{ messages }}")),
        ("generation_config.json", Some("{\"bos_token_id\": 3}")),
        ("preprocessor_config.json", Some("{}")),
        ("adapter_config.json", Some("{\"peft_type\": \"LORA\"}")),
        ("README.md", Some("what it is")),
    ];
    let mut refused = Vec::new();
    for (file, content) in files {
        let place = Place::new();
        prepare(&place);
        let change = |place: &Place| {
            let name = format!("model/{file}");
            match content {
                Some(content) => _ = place.write(&name, content),
                None => fs_err::remove_file(place.path(&name)).unwrap(),
            }
        };
        if refused_or_right(&place, &["--take", "embedding"], file, change) {
            refused.push(file);
        }
    }
    for file in [
        "modules.json",
        "7_Other/config.json",
        "tokenizer_config.json",
    ] {
        assert!(refused.contains(&file), "{refused:?}");
    }
    assert!(!refused.contains(&"README.md"), "{refused:?}");
}

/// The template counts where it was used, and only there.
#[test]
fn a_template_belongs_to_runs_of_conversations() {
    let change = |place: &Place| {
        place.write(
            "model/chat_template.jinja",
            "<s> the {{ messages[0].content }}",
        );
    };
    for (record, is_refused) in [
        (
            json!({"messages": [{"role": "user", "content": "cat"}]}),
            true,
        ),
        (json!({"text": "the cat"}), false),
    ] {
        let place = Place::with_llama();
        place.write("in.jsonl", record.to_string() + "\n");
        let more = ["--take", "scores"];
        assert_eq!(
            refused_or_right(&place, &more, "template", change),
            is_refused
        );
    }
}

/// Every flag added to a finished run: another run, or no other result.
#[test]
fn whatever_flag_is_added_no_stale_result_is_kept() {
    let place = Place::with_llama();
    let settings = json!({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"});
    place.write("model/tokenizer_config.json", settings.to_string());
    let records = [
        json!({"text": "the cat sat", "input_ids": [3, 4]}),
        json!({"text": "a dog ran on the mat", "input_ids": [7, 11]}),
    ];
    let lines: String = records
        .iter()
        .map(|record| record.to_string() + "\n")
        .collect();
    place.write("in.jsonl", lines);
    let mut refused = Vec::new();
    for flags in [
        &["--max-length", "2"][..],
        &["--use", "text"],
        &["--use", "input_ids"],
        &["--tokenizer-file"],
        &["--skip-empty"],
        &["--hidden-dtype", "f16"],
        &["--take", "scores"],
        &["--compute", "bf16"],
        &["--allow-long"],
        &["--allow-unread", "nothing"],
        &["--allow-unused", "nothing*"],
        &["--no-share"],
        &["--spill", "never"],
        &["--threads", "1"],
        &["--memory", "1GiB"],
    ] {
        for out in ["out", "fresh"] {
            let _ = fs_err::remove_dir_all(place.path(out));
        }
        let run = |out: &str, more: &[&str]| {
            let base = [
                "run", "model", "--input", "in.jsonl", "--take", "hidden", "--out", out,
            ];
            place.sli(&[&base[..], more].concat())
        };
        run("out", &[]).success();
        run("fresh", flags).success();
        let again = run("out", flags);
        if again.code == 3 {
            again.failure(3, &["another run"]);
            refused.push(flags[0]);
        } else {
            again.success();
            let [out, fresh] = ["out", "fresh"].map(|out| results(&place.path(out)));
            assert!(out == fresh, "{flags:?}: results of other flags were kept");
        }
    }
    for flag in ["--max-length", "--use", "--hidden-dtype", "--take"] {
        assert!(refused.contains(&flag), "{refused:?}");
    }
    for flag in ["--threads", "--memory", "--spill", "--no-share"] {
        assert!(!refused.contains(&flag), "{refused:?}");
    }
}
