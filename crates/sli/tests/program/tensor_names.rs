//! Checkpoints as training code leaves them: names, leftovers, heads and classes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sli_testing::{Golden, Stored};

use super::place::{Outcome, Place, bert, llama, with};
use super::random::Random;

const INPUT: &str = "{\"input_ids\": [3, 4, 5, 6, 7]}\n{\"input_ids\": [8, 3]}\n";

/// Changes header and data of the weights of a model.
fn edit(place: &Place, model: &str, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
    let path = place.path(&format!("{model}/model.safetensors"));
    let bytes = fs_err::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = Value::Object(header).to_string().into_bytes();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    fs_err::write(path, file).unwrap();
}

fn rename(place: &Place, model: &str, name: impl Fn(&str) -> String) {
    edit(place, model, |header, _| {
        let renamed = std::mem::take(header).into_iter().map(|(old, tensor)| {
            let new = if old == "__metadata__" {
                old
            } else {
                name(&old)
            };
            (new, tensor)
        });
        header.extend(renamed);
    });
}

fn add(place: &Place, model: &str, name: &str, dtype: &str, shape: &[usize]) {
    let width = match dtype {
        "U8" | "BOOL" => 1,
        "I64" => 8,
        _ => 4,
    };
    edit(place, model, |header, data| {
        let start = data.len();
        data.resize(start + width * shape.iter().product::<usize>(), 0);
        let offsets = [start, data.len()];
        let tensor = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.to_owned(), tensor);
    });
}

/// Takes a tensor out; its bytes must be the last ones or belong to another tensor.
fn remove(place: &Place, model: &str, name: &str) {
    edit(place, model, |header, data| {
        let tensor = header.remove(name).unwrap();
        let offset = |at: usize| tensor["data_offsets"][at].as_u64().unwrap() as usize;
        let (start, end) = (offset(0), offset(1));
        data.drain(start..end);
        for tensor in header.values_mut() {
            let Some(offsets) = tensor.get_mut("data_offsets").and_then(Value::as_array_mut) else {
                continue;
            };
            for offset in offsets {
                let old = offset.as_u64().unwrap() as usize;
                if old >= end {
                    *offset = json!(old - (end - start));
                }
            }
        }
    });
}

fn run(place: &Place, model: &str, more: &[&str]) -> Outcome {
    place.write("in.jsonl", INPUT);
    let out = format!("{model}.out");
    let run = [
        "run",
        model,
        "--input",
        "in.jsonl",
        "--out",
        &out,
        "--fresh",
        "--compute",
        "f32",
    ];
    place.sli(&[&run, more].concat())
}

/// The bytes of the results, apart from what `run.json` says about the run.
fn results(place: &Place, model: &str) -> BTreeMap<String, Vec<u8>> {
    let out = place.path(&format!("{model}.out"));
    let files = ["scores.parquet", "profile.parquet", "embeddings.parquet"];
    let found = files.into_iter().filter(|file| out.join(file).exists());
    found
        .map(|file| (file.to_owned(), fs_err::read(out.join(file)).unwrap()))
        .collect()
}

/// A plain model and one whose tensors have other names give the same bytes, and the run says so.
fn same_under(place: &Place, name: impl Fn(&str) -> String, says: &str) {
    place.write_model("wrapped", &llama());
    rename(place, "wrapped", name);
    let outcome = run(place, "wrapped", &[]).success();
    assert!(outcome.stderr.contains(says), "{says}: {}", outcome.stderr);
    assert_eq!(results(place, "wrapped"), results(place, "plain"));
}

fn plain() -> Place {
    let place = Place::new();
    place.write_model("plain", &llama());
    let outcome = run(&place, "plain", &[]).success();
    assert!(!outcome.stderr.contains("tensors are not"), "{outcome:?}");
    assert_eq!(results(&place, "plain").len(), 2);
    place
}

#[test]
fn what_all_names_begin_with_is_taken_off() {
    let place = plain();
    for prefix in [
        "module.",
        "_orig_mod.",
        "base_model.model.",
        "module._orig_mod.",
        "student.",
        "a.0.b.",
        "model.",
        "_fsdp_wrapped_module.",
    ] {
        same_under(&place, |name| format!("{prefix}{name}"), "is taken off");
    }
    let base = |name: &str| name.replacen("model.", "backbone.encoder.", 1);
    same_under(&place, base, "`backbone.encoder.` is read as `model.`");
    let text = |name: &str| name.replacen("model.", "model.language_model.", 1);
    same_under(&place, text, "`model.language_model.`");
    let manifest = fs_err::read(place.path("wrapped.out/run.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert!(
        manifest["tensor_names"]
            .as_str()
            .unwrap()
            .contains("is read as")
    );
}

#[test]
fn wrappers_within_names_are_left_out() {
    let place = plain();
    let in_layers = |wrapper: &'static str| {
        move |name: &str| {
            let mut parts: Vec<&str> = name.split('.').collect();
            if let Some(at) = parts.iter().position(|part| *part == "layers") {
                parts.insert(at + 2, wrapper);
            }
            parts.join(".")
        }
    };
    for wrapper in [
        "_checkpoint_wrapped_module",
        "_orig_mod",
        "module",
        "own_block",
    ] {
        same_under(
            &place,
            in_layers(wrapper),
            &format!("`{wrapper}` within names"),
        );
    }
    let merged = |name: &str| name.replace("proj.weight", "proj.base_layer.weight");
    same_under(&place, merged, "`base_layer` within names");
    let saved = |name: &str| name.replace("lm_head.", "lm_head.modules_to_save.default.");
    same_under(&place, saved, "`modules_to_save` within names");
    let both = |name: &str| {
        let inner = in_layers("_fsdp_wrapped_module")(name);
        format!("_fsdp_wrapped_module.{inner}")
    };
    same_under(&place, both, "is taken off");
}

#[test]
fn two_models_in_one_file_are_told_apart_by_the_user() {
    let place = plain();
    place.write_model("two", &llama());
    edit(&place, "two", |header, data| {
        // The second one is zeros.
        let length = data.len();
        data.extend(vec![0; length]);
        let tensors: Vec<_> = std::mem::take(header).into_iter().collect();
        for (name, tensor) in tensors {
            let mut other = tensor.clone();
            for offset in other["data_offsets"].as_array_mut().unwrap() {
                *offset = json!(offset.as_u64().unwrap() as usize + length);
            }
            header.insert(format!("student.{name}"), tensor);
            header.insert(format!("teacher.{name}"), other);
        }
    });
    let says = ["`student.`", "`teacher.`", "--allow-unused 'teacher.*'"];
    run(&place, "two", &[]).failure(3, &says);
    run(&place, "two", &["--allow-unused", "teacher.*"]).success();
    assert_eq!(results(&place, "two"), results(&place, "plain"));
    run(&place, "two", &["--allow-unused", "student.*"]).success();
    assert_ne!(results(&place, "two"), results(&place, "plain"));
    // Which one it was is part of the run: the same folder does not take the other.
    let again = [
        "run",
        "two",
        "--input",
        "in.jsonl",
        "--out",
        "two.out",
        "--compute",
        "f32",
    ];
    let other = [&again[..], &["--allow-unused", "teacher.*"]].concat();
    let outcome = place.sli(&other);
    assert!(
        outcome.code != 0 && outcome.stderr.contains("tensor names"),
        "{outcome:?}"
    );
}

#[test]
fn a_layer_trained_as_a_whole_stands_beside_the_original() {
    let place = plain();
    place.write_model("peft", &llama());
    rename(&place, "peft", |name| {
        let name = name.replace("lm_head.weight", "lm_head.modules_to_save.default.weight");
        format!("base_model.model.{name}")
    });
    add(
        &place,
        "peft",
        "base_model.model.lm_head.original_module.weight",
        "F32",
        &[20, 16],
    );
    run(&place, "peft", &[]).failure(3, &["original_module", "modules_to_save", "--allow-unused"]);
    run(&place, "peft", &["--allow-unused", "*.original_module.*"]).success();
    assert_eq!(results(&place, "peft"), results(&place, "plain"));
}

#[test]
fn unmerged_adapters_and_parametrizations_stay_refused() {
    let place = plain();
    place.write_model("lora", &llama());
    rename(&place, "lora", |name| {
        let name = name.replace("q_proj.weight", "q_proj.base_layer.weight");
        format!("base_model.model.{name}")
    });
    let lora = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight";
    add(&place, "lora", lora, "F32", &[2, 16]);
    run(&place, "lora", &[]).failure(3, &["lora_A", "merge it into its base model"]);
    place.write_model("normed", &llama());
    rename(&place, "normed", |name| {
        name.replace("q_proj.weight", "q_proj.parametrizations.weight.original1")
    });
    run(&place, "normed", &[]).failure(3, &["missing: model.layers.0.self_attn.q_proj.weight"]);
}

#[test]
fn leftovers_are_left_out_and_named() {
    let place = plain();
    let leftovers: [(&str, &str, &[usize]); 14] = [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", &[2]),
        (
            "model.layers.1.self_attn.rotary_emb.cos_cached",
            "F32",
            &[1, 1, 8, 4],
        ),
        ("model.layers.0.self_attn.bias", "F32", &[1, 1, 8, 8]),
        ("model.layers.0.self_attn.masked_bias", "F32", &[]),
        ("model.embeddings.position_ids", "I64", &[1, 8]),
        ("model.layers.0.self_attn.k_scale", "F32", &[]),
        ("model.layers.0.self_attn.v_proj.output_scale", "F32", &[1]),
        ("mtp.layers.0.weight", "F32", &[4, 4]),
        ("v_head.summary.weight", "F32", &[1, 16]),
        ("score.weight", "F32", &[2, 16]),
        ("classifier.bias", "F32", &[2]),
        ("optimizer.state.exp_avg", "F32", &[3]),
        ("model.layers.0.self_attn._extra_state", "U8", &[5]),
        ("vision_tower.patch.weight", "F32", &[2, 2]),
    ];
    place.write_model("more", &llama());
    for (name, dtype, shape) in leftovers {
        add(&place, "more", name, dtype, shape);
    }
    let outcome = run(&place, "more", &[]).success();
    for says in [
        "not used: ",
        "v_head.summary.weight",
        "model.layers.*.self_attn.k_scale",
    ] {
        assert!(outcome.stderr.contains(says), "{says}: {}", outcome.stderr);
    }
    assert_eq!(results(&place, "more"), results(&place, "plain"));
    let manifest = fs_err::read(place.path("more.out/run.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let left_out = manifest["left_out"].to_string();
    let shown = place.sli(&["inspect", "more", "--json"]).success().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        shown["coverage"]["ignored"].as_array().unwrap().len(),
        leftovers.len()
    );
    for (name, ..) in leftovers {
        let general = name.replace(".0.", ".*.").replace(".1.", ".*.");
        assert!(left_out.contains(&general), "{general} in {left_out}");
    }
}

#[test]
fn what_is_missing_under_a_prefix_is_named_as_the_model_does() {
    let place = plain();
    place.write_model("less", &llama());
    remove(&place, "less", "model.layers.1.input_layernorm.weight");
    rename(&place, "less", |name| format!("module.{name}"));
    let says = [
        "missing: model.layers.1.input_layernorm.weight",
        "20 tensors fit",
    ];
    let outcome = run(&place, "less", &[]).failure(3, &says);
    assert_eq!(
        outcome.stderr.matches("missing: ").count(),
        1,
        "{outcome:?}"
    );
    assert!(!outcome.stderr.contains("unexpected: "), "{outcome:?}");
}

#[test]
fn what_is_not_known_is_refused_with_the_flag_that_lets_it_through() {
    let place = plain();
    for (name, pattern) in [
        ("model.layers.2.mlp.up_proj.weight", "model.layers.2.*"),
        (
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.self_attn.q_norm.*",
        ),
        (
            "model.layers.0.self_attn.k_scale",
            "model.layers.0.self_attn.k_scale",
        ),
        ("other.weight", "other.*"),
    ] {
        place.write_model("more", &llama());
        add(&place, "more", name, "F32", &[4, 4]);
        let hint = format!("--allow-unused '{pattern}'");
        run(&place, "more", &[]).failure(3, &[&format!("unexpected: {name}"), &hint]);
        for command in ["inspect", "bench"] {
            let flags = ["--allow-unused", pattern];
            let rest: &[&str] = if command == "bench" {
                &["--records", "1", "--tokens", "2"]
            } else {
                &[]
            };
            place
                .sli(&[&[command, "more"], &flags[..], rest].concat())
                .success();
        }
        let outcome = run(&place, "more", &["--allow-unused", pattern]).success();
        assert!(
            outcome.stderr.contains(name.rsplit('.').nth(1).unwrap()),
            "{outcome:?}"
        );
        assert_eq!(results(&place, "more"), results(&place, "plain"));
    }
    place.write_model("layer", &llama());
    for weight in ["mlp.up_proj", "mlp.down_proj", "input_layernorm"] {
        add(
            &place,
            "layer",
            &format!("model.layers.2.{weight}.weight"),
            "F32",
            &[4],
        );
    }
    run(&place, "layer", &[]).failure(3, &["--allow-unused 'model.layers.2.*'"]);
    let outcome = run(
        &place,
        "layer",
        &["--allow-unused", "model.layers.2.*", "--allow-unused", "x*"],
    );
    assert!(outcome.success().stderr.contains("'x*' leaves nothing out"));
    // A weight that the model uses is used, whatever is allowed.
    run(&place, "layer", &["--allow-unused", "*"]).success();
    assert_eq!(results(&place, "layer"), results(&place, "plain"));
}

#[test]
fn a_head_is_needed_by_what_uses_it() {
    let place = plain();
    run(
        &place,
        "plain",
        &["--take", "embedding:mean", "--take", "profile"],
    )
    .success();
    let wanted = results(&place, "plain");
    place.write_model("headless", &llama());
    remove(&place, "headless", "lm_head.weight");
    run(
        &place,
        "headless",
        &["--take", "embedding:mean", "--take", "profile"],
    )
    .success();
    assert_eq!(results(&place, "headless"), wanted);
    for take in ["scores", "logits", "topk:2"] {
        let says = ["`lm_head.weight`", "embedding"];
        run(&place, "headless", &["--take", take]).failure(3, &says);
    }
    // By default the scores are left out, with a warning.
    let outcome = run(&place, "headless", &[]).success();
    assert!(
        outcome
            .stderr
            .contains("warning: no `scores`: the checkpoint lacks the head"),
        "{outcome:?}"
    );
    assert!(!place.path("headless.out/scores.parquet").exists());
    place.sli(&["inspect", "headless"]).success();
    // A norm is no head.
    remove(&place, "headless", "model.norm.weight");
    run(&place, "headless", &["--take", "profile"]).failure(3, &["missing: model.norm.weight"]);
}

#[test]
fn classes_with_other_heads_run_without_them() {
    let place = plain();
    run(&place, "plain", &["--take", "embedding:mean"]).success();
    let wanted = results(&place, "plain");
    let code = json!({"auto_map": {"AutoModel": "modeling.Own"}});
    for (class, more, head) in [
        (
            "LlamaForSequenceClassification",
            json!({"num_labels": 2}),
            "score.weight",
        ),
        ("OwnRewardModel", code, "v_head.weight"),
    ] {
        place.write_model("other", &llama());
        let config = with(with(llama(), &json!({"architectures": [class]})), &more);
        place.write("other/config.json", config.to_string());
        remove(&place, "other", "lm_head.weight");
        add(&place, "other", head, "F32", &[2, 16]);
        let outcome = run(&place, "other", &["--take", "embedding:mean"]).success();
        // A head for classes is known, whether or not anything needs it.
        let said = [class, head].map(|name| outcome.stderr.contains(name));
        let is_known = class.starts_with("LlamaFor");
        assert_eq!(said, [!is_known; 2], "{class}: {}", outcome.stderr);
        assert_eq!(results(&place, "other"), wanted, "{class}");
        run(&place, "other", &["--take", "scores"]).failure(2, &["no head"]);
    }
    // Question answering keeps its transformer under another name.
    place.write_model("answers", &llama());
    let config = with(
        llama(),
        &json!({"architectures": ["LlamaForQuestionAnswering"]}),
    );
    place.write("answers/config.json", config.to_string());
    remove(&place, "answers", "lm_head.weight");
    rename(&place, "answers", |name| {
        name.replacen("model.", "transformer.", 1)
    });
    add(&place, "answers", "qa_outputs.weight", "F32", &[2, 16]);
    run(&place, "answers", &["--take", "embedding:mean"]).success();
    assert_eq!(results(&place, "answers"), wanted);
    // A masked language model without its head, and one that is not said to have any.
    place.write_model("masked", &bert());
    run(&place, "masked", &["--take", "embedding:mean"]).success();
    let wanted = results(&place, "masked");
    for name in ["bias", "transform.dense.weight", "transform.dense.bias"] {
        remove(&place, "masked", &format!("cls.predictions.{name}"));
    }
    for name in ["weight", "bias"] {
        remove(
            &place,
            "masked",
            &format!("cls.predictions.transform.LayerNorm.{name}"),
        );
    }
    run(&place, "masked", &["--take", "embedding:mean"]).success();
    assert_eq!(results(&place, "masked"), wanted);
    run(&place, "masked", &["--take", "logits"])
        .failure(3, &["cls.predictions.transform.dense.weight"]);
}

#[test]
fn goldens_of_many_types_keep_their_bytes_under_wrappers() {
    let place = Place::new();
    let wrapped: [fn(&str) -> String; 3] = [
        |name| format!("module.{name}"),
        |name| format!("model._orig_mod.{name}"),
        |name| {
            format!(
                "pretrained_model.{}",
                name.replace("proj.weight", "proj.base_layer.weight")
            )
        },
    ];
    for name in [
        "bert",
        "bloom",
        "deepseek_v3",
        "distilbert",
        "falcon",
        "gemma3n_text",
        "gpt2",
        "gpt_neox",
        "mixtral",
        "opt",
        "roberta",
    ] {
        Golden::open(name).write(&place.path("plain"), Stored::F32);
        run(
            &place,
            "plain",
            &["--take", "profile", "--take", "embedding:mean"],
        )
        .success();
        for wrap in wrapped {
            Golden::open(name).write(&place.path("wrapped"), Stored::F32);
            rename(&place, "wrapped", wrap);
            run(
                &place,
                "wrapped",
                &["--take", "profile", "--take", "embedding:mean"],
            )
            .success();
            assert_eq!(
                results(&place, "wrapped"),
                results(&place, "plain"),
                "{name}"
            );
        }
    }
}

#[test]
fn a_random_prefix_changes_no_byte() {
    const LETTERS: &[u8] = b"abxyz_0123456789";
    let place = plain();
    let mut random = Random::new(7);
    for _ in 0..12 {
        let mut prefix = String::new();
        for _ in 0..=random.below(4) {
            for _ in 0..=random.below(6) {
                prefix.push(char::from(LETTERS[random.below(LETTERS.len())]));
            }
            prefix.push('.');
        }
        same_under(&place, |name| format!("{prefix}{name}"), "is taken off");
    }
}

/// The reference's `AutoModelForCausalLM` takes the head that a folder has, whatever class the file names.
#[test]
fn the_base_class_with_a_head_has_scores() {
    let place = Place::new();
    let scores = |name: &str, class: &str, tied: bool| {
        let config = with(llama(), &json!({"tie_word_embeddings": tied}));
        place.write_model(name, &config);
        let config = with(config, &json!({"architectures": [class]}));
        place.write(&format!("{name}/config.json"), config.to_string());
        run(&place, name, &["--take", "scores", "--take", "topk:3"]).success();
        results(&place, name)
    };
    for tied in [false, true] {
        let causal = scores("causal", "LlamaForCausalLM", tied);
        let base = scores("base", "LlamaModel", tied);
        assert_eq!(base, causal, "{tied}");
    }
    // Neither a head nor a table that is one.
    place.write_model("other", &llama());
    let config = with(llama(), &json!({"architectures": ["LlamaModel"]}));
    place.write("other/config.json", config.to_string());
    remove(&place, "other", "lm_head.weight");
    run(&place, "other", &["--take", "scores"]).failure(2, &["no head"]);
    // The head of something else.
    add(&place, "other", "lm_head.weight", "F32", &[2, 16]);
    run(&place, "other", &["--take", "scores"]).failure(2, &["no head"]);
    run(&place, "other", &["--take", "embedding:mean"]).success();
}
