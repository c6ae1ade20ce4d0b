//! Whole runs: results, resuming, refusals.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::{Place, bert, has, llama};
use serde_json::{Value, json};

/// Every take that a decoder gives.
pub const ALL: [&str; 12] = [
    "--take",
    "hidden",
    "--take",
    "logits",
    "--take",
    "scores",
    "--take",
    "topk:3",
    "--take",
    "embedding",
    "--take",
    "profile",
];

/// Every file of a result folder but the manifest.
pub fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name != "run.json" {
                files.insert(name, fs_err::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn a_run_writes_every_result() {
    let place = Place::with_llama();
    place.write(
        "in.jsonl",
        "{\"id\": \"a/b\", \"text\": \"the cat sat\"}\n{\"input_ids\": [3]}\n{\"text\": \"\"}\n",
    );
    let run = [
        &[
            "run", "model", "--input", "in.jsonl", "--out", "deep/out", "--json",
        ],
        &ALL[..],
    ]
    .concat();
    let outcome = place.sli(&run).success();
    for says in [
        "done",
        "3 records",
        "read",
        "% of the roofline",
        "memory",
        "results",
        "deep/out",
    ] {
        assert!(outcome.stderr.contains(says), "{says}: {outcome:?}");
    }
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&json["records"], &json["tokens"], &json["out"]),
        (&json!(3), &json!(6), &json!("deep/out"))
    );
    let out = place.path("deep/out");
    for name in [
        "run.json",
        "hidden/decoder.000.safetensors",
        "hidden/decoder.001.safetensors",
        "hidden/decoder.002.safetensors",
        "hidden/decoder.norm.safetensors",
        "logits.safetensors",
        "scores.parquet",
        "topk.parquet",
        "embeddings.parquet",
        "profile.parquet",
        "channels.parquet",
        "records.parquet",
    ] {
        assert!(has(&out, name), "{name}");
    }
    assert_eq!(results(&out).len(), 11);
    let again = place.sli(&run).success();
    assert!(again.stderr.contains("finished already"), "{again:?}");
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["records"], 3);
}

#[test]
fn the_same_bytes_whatever_the_means() {
    let place = Place::with_llama();
    let lines: String = (0..40)
        .map(|n| json!({"input_ids": vec![3 + n % 7; n % 12]}).to_string() + "\n")
        .collect();
    place.write("in.jsonl", lines);
    let run = |out: &str, more: &[&str]| {
        let base = ["run", "model", "--input", "in.jsonl", "--out", out];
        place.sli(&[&base[..], &ALL, more].concat()).success();
        results(&place.path(out))
    };
    let expected = run("plain", &[]);
    for (out, more) in [
        ("one", &["--threads", "1"][..]),
        ("small", &["--memory", "100MiB"]),
        ("spill", &["--spill", "always"]),
        ("alone", &["--no-share"]),
        ("often", &["--checkpoint-interval", "0"]),
    ] {
        assert!(run(out, more) == expected, "{more:?}");
    }
}

#[test]
fn what_changed_is_named_and_fresh_starts_over() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n");
    let run = |more: &[&str]| {
        place.sli(
            &[
                &["run", "model", "--input", "in.jsonl", "--out", "out"],
                more,
            ]
            .concat(),
        )
    };
    run(&[]).success();
    let before = results(&place.path("out"));
    run(&["--take", "logits"]).failure(3, &["takes was", "logits", "hint: ", "--fresh"]);
    run(&["--compute", "bf16"]).failure(3, &["compute was f32, is bf16"]);
    run(&["--max-length", "1"]).failure(3, &["max length"]);
    place.write("in.jsonl", "{\"input_ids\": [3, 5]}\n");
    run(&[]).failure(3, &["input was"]);
    assert!(results(&place.path("out")) == before);
    run(&["--fresh"]).success();
    assert!(results(&place.path("out")) != before);
    // Memory, threads and other means are nobody's business; neither is where the model lies.
    fs_err::rename(place.path("model"), place.path("moved")).unwrap();
    let moved = [
        "run",
        "moved",
        "--input",
        "in.jsonl",
        "--out",
        "out",
        "--threads",
        "1",
        "--memory",
        "1GiB",
    ];
    assert!(
        place
            .sli(&moved)
            .success()
            .stderr
            .contains("finished already")
    );
    // A folder of somebody else's is not touched.
    place.write("theirs/letter.txt", "dear");
    let theirs = [
        "run", "moved", "--input", "in.jsonl", "--out", "theirs", "--fresh",
    ];
    place.sli(&theirs).failure(3, &["theirs"]);
    assert!(has(&place.path("theirs"), "letter.txt"));
}

#[test]
fn a_bad_record_leaves_nothing_behind() {
    let place = Place::with_llama();
    place.write(
        "in.jsonl",
        "{\"input_ids\": [3, 4]}\n{\"input_ids\": [99]}\n",
    );
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    place.sli(&run).failure(3, &["token id 99", "line 2"]);
    assert!(!place.path("out").exists());
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n");
    place.sli(&run).success();
}

#[test]
fn an_encoder_embeds() {
    let place = Place::new();
    place.write_model("model", &bert());
    place.write(
        "in.jsonl",
        "{\"input_ids\": [3, 4], \"token_type_ids\": [0, 1]}\n{\"input_ids\": [3, 4]}\n",
    );
    let takes = [
        "--take",
        "embedding:mean",
        "--take",
        "logits",
        "--take",
        "scores",
    ];
    let run = [
        &["run", "model", "--input", "in.jsonl", "--out", "out"],
        &takes[..],
    ]
    .concat();
    let outcome = place.sli(&run).success();
    assert!(
        outcome.stderr.contains("warning: no `scores`"),
        "{outcome:?}"
    );
    assert!(has(&place.path("out"), "embeddings.parquet"));
    assert!(!has(&place.path("out"), "scores.parquet"));
}

/// A model and a dataset that keep the program busy for some seconds.
fn long_run(place: &Place) -> Vec<&'static str> {
    let mut config = llama();
    for (key, value) in [
        ("hidden_size", 256),
        ("intermediate_size", 1024),
        ("num_hidden_layers", 12),
    ] {
        config[key] = json!(value);
    }
    place.write_model("model", &config);
    let lines: String = (0..2000)
        .map(|n| json!({"input_ids": vec![n % 20; 12]}).to_string() + "\n")
        .collect();
    place.write("in.jsonl", lines);
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--threads",
        "1",
        "--compute",
        "f32",
    ];
    let more = [
        "--checkpoint-interval",
        "0",
        "--memory",
        "80MiB",
        "--take",
        "embedding",
        "--take",
        "profile",
    ];
    [&run[..], &more].concat()
}

pub fn start(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the run has a state on the device.
fn wait_for_state(place: &Place, child: &mut Child) {
    let state = place.path("out/.sli/state.json");
    let patience = Instant::now() + Duration::from_mins(2);
    while !state.is_file() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < patience, "no state after two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ctrl_c_is_130_and_the_same_command_goes_on() {
    let place = Place::new();
    let run = long_run(&place);
    place
        .sli(&[&run[..], &["--out", "undisturbed"]].concat())
        .success();
    let run = [&run[..], &["--out", "out"]].concat();
    let mut child = start(&place, &run);
    wait_for_state(&place, &mut child);
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("interrupted; run the same command again"),
        "{said}"
    );
    let outcome = place.sli(&run).success();
    assert!(outcome.stderr.contains("going on after"), "{outcome:?}");
    assert!(results(&place.path("out")) == results(&place.path("undisturbed")));
}

#[test]
fn two_runs_on_one_folder() {
    let place = Place::new();
    let run = long_run(&place);
    let run = [&run[..], &["--out", "out"]].concat();
    let mut child = start(&place, &run);
    wait_for_state(&place, &mut child);
    place.sli(&run).failure(5, &["another run", "hint: "]);
    child.kill().unwrap();
    child.wait().unwrap();
}
