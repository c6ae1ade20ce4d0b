//! What may be said on the command line, and what happens otherwise.

use std::process::Stdio;

use crate::place::{Place, bert, llama};
use serde_json::{Value, json};

#[test]
fn help_goes_to_stdout_and_shows_examples() {
    let place = Place::new();
    for (command, says) in [
        (&["--help"][..], "Exit codes:"),
        (
            &["run", "--help"],
            "sli run models/llama --input corpus.jsonl",
        ),
        (&["run", "-h"], "--checkpoint-interval"),
        (&["plan", "--help"], "sli plan models/llama"),
        (&["merge", "--help"], "sli merge part-1 part-2"),
        (&["inspect", "--help"], "sli inspect models/llama"),
        (&["architectures", "--help"], "sli architectures --json"),
        (&["completions", "--help"], "sli completions bash"),
    ] {
        let outcome = place.sli(command).success();
        assert!(
            outcome.stdout.contains(says),
            "{command:?}: {}",
            outcome.stdout
        );
        assert_eq!(outcome.stderr, "");
        // Nothing is coloured for a pipe.
        assert!(!outcome.stdout.contains('\u{1b}'));
    }
    let version = place.sli(&["--version"]).success().stdout;
    assert_eq!(version, format!("sli {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn scripts_for_shells_and_the_manual() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.sli(&["completions", shell]).success().stdout;
        assert!(script.contains("checkpoint-interval"), "{shell}");
    }
    assert!(place.sli(&["man"]).success().stdout.contains(".TH sli"));
}

#[test]
fn wrong_usage_is_2() {
    let place = Place::with_llama();
    place.write("in.txt", "the cat\n");
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run"],
        &["run", "model"],
        &["run", "model", "--input", "in.txt"],
        &["run", "model", "--out", "out"],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--nonsense",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--memory", "8G",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--memory", "-1",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--threads",
            "0",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--threads",
            "two",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--max-length",
            "0",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--compute",
            "f64",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--hidden-dtype",
            "int8",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--spill",
            "sometimes",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--checkpoint-interval",
            "-1",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--take",
            "everything",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--take", "topk",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--take", "topk:0",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--take",
            "hidden:4-2",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--take", "hidden:3",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--take",
            "hidden:encoder.1",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--take", "topk:2", "--take",
            "topk:3",
        ],
        &[
            "run", "model", "--input", "in.txt", "--out", "out", "--take", "router",
        ],
        &[
            "run",
            "model",
            "--input",
            "in.txt",
            "--out",
            "out",
            "--take",
            "embedding:pooler",
        ],
        &["plan", "model"],
        &["inspect"],
    ] {
        let outcome = place.sli(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
        assert!(!place.path("out").exists(), "{arguments:?}");
    }
    let hinted = place.sli(&[
        "run", "model", "--input", "in.txt", "--out", "out", "--take", "score",
    ]);
    assert!(hinted.stderr.contains("scores"), "{hinted:?}");
    let ambiguous = place.sli(&[
        "run", "model", "--input", "in.txt", "--out", "out", "--memory", "8G",
    ]);
    assert!(ambiguous.stderr.contains("8GiB"), "{ambiguous:?}");
}

#[test]
fn a_take_that_the_model_cannot_give() {
    let place = Place::new();
    place.write_model("model", &bert());
    place.write("in.jsonl", "{\"input_ids\": [1, 2]}\n");
    place
        .sli(&["plan", "model", "--input", "in.jsonl", "--take", "scores"])
        .failure(2, &["no `scores`", "masked", "hint: "]);
    let some = place
        .sli(&["plan", "model", "--input", "in.jsonl"])
        .success();
    assert!(some.stderr.contains("warning: no `scores`"), "{some:?}");
    assert!(some.stdout.contains("profile"), "{some:?}");
}

#[test]
fn models_that_cannot_be_used_are_3() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [1, 2]}\n");
    let plan = |model: &str| place.sli(&["plan", model, "--input", "in.jsonl"]);
    plan("nowhere").failure(3, &["nowhere"]);
    let change = |name: &str, key: &str, value: Value| {
        let mut config = llama();
        config[key] = value;
        place.write(&format!("{name}/config.json"), config.to_string());
        fs_err::copy(
            place.path("model/model.safetensors"),
            place.path(name).join("model.safetensors"),
        )
        .unwrap();
    };
    change("type", "model_type", json!("lama"));
    plan("type").failure(
        3,
        &[
            "`lama` is not supported",
            "type/config.json",
            "hint: did you mean `llama`",
        ],
    );
    change("unread", "surprise_factor", json!(3));
    plan("unread").failure(
        3,
        &[
            "`surprise_factor`",
            "hint: ",
            "--allow-unread surprise_factor",
        ],
    );
    let allowed = &[
        "plan",
        "unread",
        "--input",
        "in.jsonl",
        "--allow-unread",
        "surprise_factor",
    ];
    assert!(place.sli(allowed).success().stderr.contains("warning: "));
    change("layers", "num_hidden_layers", json!(3));
    plan("layers").failure(3, &["model.layers.2.self_attn.q_proj.weight"]);
    change("wide", "hidden_size", json!(32));
    plan("wide").failure(3, &["model.embed_tokens.weight", "[20, 16]", "[20, 32]"]);
    change("huge", "num_hidden_layers", json!(1_000_000_000));
    assert_eq!(plan("huge").code, 3);
    place.write("broken/config.json", "{\"model_type\": ");
    plan("broken").failure(3, &["broken/config.json"]);
    place.write("empty/config.json", llama().to_string());
    plan("empty").failure(3, &["empty"]);
}

#[test]
fn inspect_shows_a_model() {
    let place = Place::with_llama();
    let shown = place.sli(&["inspect", "model"]).success().stdout;
    for says in [
        "llama",
        "2 layers of 16 features",
        "F32",
        "0 missing, 0 unexpected",
    ] {
        assert!(shown.contains(says), "{says}: {shown}");
    }
    let mut json: Value =
        serde_json::from_str(&place.sli(&["inspect", "model", "--json"]).success().stdout).unwrap();
    assert_eq!(json["files_rule"].take(), "one file of safetensors");
    assert_eq!(json["model_type"], "llama");
    assert_eq!(
        json["parameters"],
        20 * 16 * 2 + 16 + 2 * (16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 24 + 32)
    );
    assert_eq!(json["coverage"]["complete"], true);
    assert_eq!(json["stacks"][0]["layers"], 2);
    let file = place
        .sli(&["inspect", "model/model.safetensors", "--json"])
        .success()
        .stdout;
    assert_eq!(serde_json::from_str::<Value>(&file).unwrap(), json);
}

#[test]
fn inspect_shows_a_configuration_without_weights() {
    let place = Place::with_llama();
    let whole = place.sli(&["inspect", "model", "--json"]).success().stdout;
    fs_err::remove_file(place.path("model/model.safetensors")).unwrap();
    let outcome = place.sli(&["inspect", "model", "--json"]).success();
    assert!(outcome.stderr.contains("no weights"), "{outcome:?}");
    let [whole, found] =
        [&whole, &outcome.stdout].map(|text| -> Value { serde_json::from_str(text).unwrap() });
    assert!(found["coverage"].is_null());
    for key in ["model_type", "parameters", "stacks", "length_limit"] {
        assert_eq!(found[key], whole[key], "{key}");
    }
    let shown = place.sli(&["inspect", "model"]).success().stdout;
    assert!(shown.contains("2 layers of 16 features"), "{shown}");
    place.write("in.jsonl", "{\"input_ids\": [3]}\n");
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    place.sli(&run).failure(3, &["no weights"]);
}

#[test]
fn inspect_shows_what_does_not_fit() {
    let place = Place::with_llama();
    let mut config = llama();
    config["num_hidden_layers"] = json!(3);
    place.write("model/config.json", config.to_string());
    let outcome = place
        .sli(&["inspect", "model", "--json"])
        .failure(3, &["missing"]);
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(json["coverage"]["complete"], false);
    assert_eq!(json["coverage"]["missing"].as_array().unwrap().len(), 9);
}

#[test]
fn architectures_lists_the_registry() {
    let place = Place::new();
    let table = place.sli(&["architectures"]).success().stdout;
    let json: Value =
        serde_json::from_str(&place.sli(&["architectures", "--json"]).success().stdout).unwrap();
    let types = json.as_array().unwrap();
    // Two tables with a heading each and an empty line between them.
    let (supported, refused) = table.split_once("\n\n").unwrap();
    for row in types {
        let name = row["model_type"].as_str().unwrap();
        let listed = if row["supported"] == true {
            supported
        } else {
            assert!(refused.contains(row["reason"].as_str().unwrap()), "{name}");
            refused
        };
        assert!(
            listed
                .lines()
                .skip(1)
                .any(|line| line.split(' ').next() == Some(name)),
            "{name}"
        );
    }
    assert_eq!(table.lines().count(), types.len() + 3);
    assert!(types.iter().any(|row| row["model_type"] == "llama"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_budget_too_small_is_4_and_says_what_works() {
    let place = Place::with_llama();
    place.write("in.txt", "the cat sat\n");
    let outcome = place.sli(&["plan", "model", "--input", "in.txt", "--memory", "1MiB"]);
    let outcome = outcome.failure(4, &["1.00 MiB", "hint: --memory "]);
    let (_, enough) = outcome.stderr.split_once("hint: --memory ").unwrap();
    place
        .sli(&[
            "plan",
            "model",
            "--input",
            "in.txt",
            "--memory",
            enough.trim(),
        ])
        .success();
}

#[test]
fn plan_says_what_a_run_would_do() {
    let place = Place::with_llama();
    place.write("in.txt", "the cat sat\n\nthe dog ran\n");
    let plan = &[
        "plan", "model", "--input", "in.txt", "--out", "out", "--fresh",
    ];
    let outcome = place.sli(plan).success();
    for says in ["2 records, 8 tokens", "reads", "writes", "holds", "lasts"] {
        assert!(outcome.stdout.contains(says), "{says}: {outcome:?}");
    }
    assert!(!place.path("out").exists());
    let json = place
        .sli(&[plan, &["--json"][..]].concat())
        .success()
        .stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["records"], &json["tokens"]), (&json!(2), &json!(8)));
    assert!(json["bytes_read"].as_u64().unwrap() > 0);
}
