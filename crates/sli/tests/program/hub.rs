//! Models that are elsewhere: ids of a hub, addresses, and what is kept of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use sli_loopback::{COMMIT, Fault, Hub, Repo};

use crate::end_to_end::{ALL, results};
use crate::place::{Place, llama, with};

/// A hub with the model of a folder as `org/name`.
fn hub_with(place: &Place, model: &str) -> Hub {
    let hub = Hub::start();
    let repo = Repo::of(files_of(&place.path(model)));
    hub.put("org/name", repo);
    hub
}

pub fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files_of(&path).into_iter();
            files.extend(inner.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, fs_err::read(path).unwrap());
        }
    }
    files
}

/// A llama whose weights are larger than what is had whole before it is used.
fn large(place: &Place) {
    let config = with(
        llama(),
        &json!({"vocab_size": 60_000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}),
    );
    place.write_model("model", &config);
    place.write(
        "in.jsonl",
        "{\"input_ids\": [1, 5, 7, 40000, 3]}\n{\"input_ids\": [59999, 2]}\n",
    );
}

#[test]
fn an_id_runs_as_its_folder_does() {
    let place = Place::with_llama();
    place.write(
        "in.jsonl",
        "{\"text\": \"the cat sat\"}\n{\"text\": \"on the\"}\n",
    );
    let run = |model: &'static str, out: &'static str| {
        [
            &["run", model, "--input", "in.jsonl"][..],
            &ALL,
            &["--out", out],
        ]
        .concat()
    };
    place.sli(&run("model", "here")).success();
    let hub = hub_with(&place, "model");
    let said = place
        .sli_at(&hub, &run("org/name", "there"))
        .success()
        .stderr;
    assert!(said.contains("over the network"), "{said}");
    assert_eq!(results(&place.path("here")), results(&place.path("there")));
    // What is kept is enough from then on.
    hub.requests();
    let said = place.sli(&run("org/name", "offline")).success().stderr;
    assert!(!said.contains("over the network"), "{said}");
    assert!(hub.requests().is_empty());
    assert_eq!(
        results(&place.path("here")),
        results(&place.path("offline"))
    );
    let streamed = [&run("hf://org/name@v1", "streamed")[..], &["--stream"]].concat();
    let fresh = place.path("fresh");
    let mut command = place.command_at(&hub, &streamed);
    assert!(
        command
            .env("HF_HOME", &fresh)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(
        results(&place.path("here")),
        results(&place.path("streamed"))
    );
    let blobs = fresh.join("hub/models--org--name/blobs");
    assert!(!blobs.exists(), "{}", blobs.display());
    // By its address, and as a single file.
    let web: &'static str = hub.web("org/name").leak();
    place.sli_at(&hub, &run(web, "web")).success();
    assert_eq!(results(&place.path("here")), results(&place.path("web")));
    place
        .sli_at(&hub, &run("hf://org/name/model.safetensors", "file"))
        .success();
    assert_eq!(results(&place.path("here")), results(&place.path("file")));
    let plan = ["plan", "org/name", "--input", "in.jsonl"];
    let planned = place.sli_at(&hub, &plan).success().stdout;
    assert!(
        planned.contains("fetches") && planned.contains("0 bytes over the network"),
        "{planned}"
    );
    for command in ["plan", "inspect", "bench"] {
        let arguments = match command {
            "plan" => vec!["plan", "org/name", "--input", "in.jsonl", "--json"],
            "bench" => vec![
                "bench",
                "org/name",
                "--records",
                "2",
                "--tokens",
                "3",
                "--json",
            ],
            _ => vec!["inspect", "org/name", "--json"],
        };
        place.sli_at(&hub, &arguments).success();
    }
}

#[test]
fn what_cannot_be_had_is_one_clear_error() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the\"}\n");
    let hub = hub_with(&place, "model");
    let mut gated = Repo::of(files_of(&place.path("model")));
    gated.gated = true;
    hub.put("org/gated", gated.clone());
    gated.gated = false;
    gated.token = Some("hf_secret");
    hub.put("org/private", gated);
    let run = |model: &'static str| ["run", model, "--input", "in.jsonl", "--out", "out"];
    for (model, says) in [
        ("org/none", "no such repository"),
        ("org/gated", "who wants to read it"),
        ("org/private", "no such repository"),
        ("org/name@v7", "no revision `v7`"),
    ] {
        place.sli_at(&hub, &run(model)).failure(3, &[says]);
        place.sli_at(&hub, &["inspect", model]).failure(3, &[says]);
    }
    place.sli(&run("org/name")).failure(3, &["HF_HUB_OFFLINE"]);
    place
        .sli(&run("hf://org/na me"))
        .failure(2, &["is no place"]);
    place.sli(&run("ftp://bucket/x")).failure(2, &["s3://"]);
    place
        .sli_at(&hub, &["download", "model"])
        .failure(2, &["path of this machine"]);
    let mut silent = place.command_at(&hub, &run("org/name"));
    silent.env("HF_ENDPOINT", "http://127.0.0.1:9");
    let output = silent.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(!place.path("out").exists());
    // A token lets in, and is written nowhere.
    let mut known = place.command_at(&hub, &run("org/private"));
    let output = known.env("HF_TOKEN", "hf_secret").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let manifest = fs_err::read_to_string(place.path("out/run.json")).unwrap();
    assert!(!manifest.contains("secret"));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
}

#[test]
fn weights_that_arrived_wrong_are_fetched_again_and_the_run_starts_over() {
    let place = Place::new();
    large(&place);
    let run = |model: &'static str, out: &'static str| {
        [
            "run", model, "--input", "in.jsonl", "--take", "scores", "--take", "hidden", "--out",
            out,
        ]
    };
    place.sli(&run("model", "here")).success();
    let hub = hub_with(&place, "model");
    let size = fs_err::metadata(place.path("model/model.safetensors"))
        .unwrap()
        .len();
    assert!(size > 16 << 20);
    hub.spoil("model.safetensors", [Fault::Wrong(size - 9)]);
    let said = place
        .sli_at(&hub, &run("org/name", "there"))
        .success()
        .stderr;
    assert!(said.contains("wrong bytes"), "{said}");
    assert_eq!(results(&place.path("here")), results(&place.path("there")));
}

#[test]
fn a_killed_run_fetches_little_again() {
    let place = Place::new();
    large(&place);
    let run = [
        "run", "org/name", "--input", "in.jsonl", "--take", "scores", "--out", "there",
    ];
    place
        .sli(&[
            "run", "model", "--input", "in.jsonl", "--take", "scores", "--out", "here",
        ])
        .success();
    let hub = hub_with(&place, "model");
    let size = fs_err::metadata(place.path("model/model.safetensors"))
        .unwrap()
        .len();
    hub.throttle(40e6);
    let mut child = place
        .command_at(&hub, &run)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while hub.served() < size / 2 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    hub.throttle(1e9);
    place.sli_at(&hub, &run).success();
    assert_eq!(results(&place.path("here")), results(&place.path("there")));
    // Pieces that were on their way on each line, and what was in the buffers of the lines.
    let extra = 12 << 20;
    assert!(hub.served() < size + extra, "{} of {size}", hub.served());
}

#[test]
fn the_cache_is_listed_verified_and_emptied() {
    let place = Place::with_llama();
    // The weights of modules behind the transformer are fetched too, those of formats that are not read are not.
    let module = |kind: &str, path: &str| json!({"type": format!("sentence_transformers.models.{kind}"), "path": path});
    let modules = json!([module("Transformer", ""), module("Dense", "2_Dense")]);
    place.write("model/modules.json", modules.to_string());
    place.write("model/2_Dense/model.safetensors", [7; 100]);
    place.write("model/sparse_linear.pt", [7; 100]);
    place.write("model/model.onnx", [7; 100]);
    let hub = hub_with(&place, "model");
    let report: Value = serde_json::from_str(
        &place
            .sli_at(&hub, &["download", "org/name", "--json"])
            .success()
            .stdout,
    )
    .unwrap();
    assert_eq!(report["files"], 7, "{report}");
    let snapshot = place.path(&format!("hub/hub/models--org--name/snapshots/{COMMIT}"));
    for (name, content) in files_of(&place.path("model")) {
        let found = fs_err::read(snapshot.join(&name)).ok();
        let is_wanted = name != "model.onnx";
        assert_eq!(found, is_wanted.then_some(content), "{name}");
    }
    let listed: Value =
        serde_json::from_str(&place.sli(&["cache", "--json"]).success().stdout).unwrap();
    assert_eq!(listed[0]["id"], "org/name");
    assert!(place.sli(&["cache"]).success().stdout.contains("org/name"));
    place.sli(&["cache", "verify"]).success();
    let blob = fs_err::canonicalize(snapshot.join("config.json")).unwrap();
    fs_err::write(&blob, "{}").unwrap();
    place
        .sli(&["cache", "verify", "org/name"])
        .failure(3, &["do not hold what they should"]);
    place.sli(&["cache", "remove", "org/name"]).success();
    place
        .sli(&["cache", "remove", "org/name"])
        .failure(2, &["not in the cache"]);
    assert!(place.sli(&["cache"]).success().stdout.contains("is empty"));
}

/// Where every pass over the weights comes over a slow line, activations go to the disk instead.
#[test]
fn a_slow_line_makes_activations_move_and_not_weights() {
    let place = Place::new();
    let sizes = json!({
        "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 10, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": 100,
    });
    place.write_model("model", &with(llama(), &sizes));
    let line = |n: usize| json!({"input_ids": vec![n % 20; 100]}).to_string() + "\n";
    place.write("in.jsonl", (0..60).map(line).collect::<String>());
    let hub = hub_with(&place, "model");
    hub.throttle(50e6);
    // Beside the same memory for what is read: the lines of what is elsewhere have some of their own.
    let planned = |name: &str, more: &[&str]| -> Value {
        let plan = [
            "plan",
            name,
            "--input",
            "in.jsonl",
            "--take",
            "embedding:mean",
            "--json",
        ];
        let plan = [&plan[..], more].concat();
        let tiny = [&plan[..], &["--memory", "1MiB"]].concat();
        let tiny = place.sli_at(&hub, &tiny).failure(4, &["hint: --memory "]);
        let (_, least) = tiny.stderr.split_once("hint: --memory ").unwrap();
        let least: u64 = least.trim().strip_suffix("MiB").unwrap().parse().unwrap();
        let memory = format!("{}MiB", least + 12);
        let plan = [&plan[..], &["--memory", &memory]].concat();
        serde_json::from_str(&place.sli_at(&hub, &plan).success().stdout).unwrap()
    };
    let bytes = |plan: &Value, name: &str| plan[name].as_u64().unwrap();
    let here = planned("model", &[]);
    let there = planned("org/name", &["--stream"]);
    let kept = planned("org/name", &[]);
    assert_eq!(
        (&here["spill"], &there["spill"]),
        (&json!(false), &json!(true))
    );
    assert!(
        bytes(&there, "bytes_read") < bytes(&here, "bytes_read") / 2,
        "{there}"
    );
    // What is kept comes over the line once.
    assert_eq!(bytes(&kept, "bytes_read"), bytes(&here, "bytes_read"));
    assert!(
        bytes(&kept, "bytes_to_fetch") < bytes(&kept, "bytes_read") / 2,
        "{kept}"
    );
}

#[test]
fn what_arrives_is_within_the_memory_of_a_run() {
    let place = Place::new();
    large(&place);
    let hub = hub_with(&place, "model");
    for more in [&[][..], &["--stream"]] {
        let run = [
            "run", "org/name", "--input", "in.jsonl", "--fresh", "--out", "out", "--json",
        ];
        let run = [&run[..], more].concat();
        let tiny = [&run[..], &["--memory", "1MiB"]].concat();
        let tiny = place.sli_at(&hub, &tiny).failure(4, &["hint: --memory "]);
        let (_, least) = tiny.stderr.split_once("hint: --memory ").unwrap();
        let run = [&run[..], &["--memory", least.trim()]].concat();
        let done: Value = serde_json::from_str(&place.sli_at(&hub, &run).success().stdout).unwrap();
        let least: u64 = least.trim().strip_suffix("MiB").unwrap().parse().unwrap();
        let peak = done["peak_memory"].as_u64().unwrap();
        assert!(
            0 < peak && peak <= least << 20,
            "{peak} bytes of {least} MiB"
        );
    }
}
