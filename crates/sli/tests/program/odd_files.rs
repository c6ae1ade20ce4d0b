//! Paths that are no plain files, and files that change or go away under a run: an error with the right code, never
//! a wait without end, a signal or a panic.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::end_to_end::{results, start};
use crate::place::{Outcome, Place};

/// Makes something at a path.
type Make = fn(&Path);
/// Does something to a place, given the bytes of the weights.
type Harm = fn(&Place, &[u8]);

fn run() -> [&'static str; 6] {
    ["run", "model", "--input", "in.jsonl", "--out", "out"]
}

/// A place with a model of one shard, a tokenizer and a conversation.
fn place() -> Place {
    let place = Place::with_llama();
    let weights = place.path("model/model.safetensors");
    let file = fs_err::read(&weights).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let map: serde_json::Map<String, Value> = header
        .as_object()
        .unwrap()
        .keys()
        .map(|name| (name.clone(), json!("a.safetensors")))
        .collect();
    let index = json!({"weight_map": map}).to_string();
    place.write("model/model.safetensors.index.json", index);
    fs_err::rename(weights, place.path("model/a.safetensors")).unwrap();
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}";
    place.write("model/chat_template.jinja", template);
    let record = json!({"messages": [{"role": "user", "content": "the cat"}]});
    place.write("in.jsonl", format!("{record}\n"));
    place
}

/// Runs with a limit of time: what waits for a pipe never ends.
fn within_a_minute(place: &Place, arguments: &[&str]) -> Outcome {
    let output = place
        .other("timeout")
        .arg("60")
        .arg(env!("CARGO_BIN_EXE_sli"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn paths_that_are_no_plain_files() {
    let place = place();
    place.sli(&run()).success();
    fs_err::remove_dir_all(place.path("out")).unwrap();
    let files = [
        "model/a.safetensors",
        "model/model.safetensors.index.json",
        "model/config.json",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "model/chat_template.jinja",
        "in.jsonl",
    ];
    let make: [(&str, Make); 4] = [
        ("a link to itself", |path| {
            std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
        }),
        ("a pipe", |path| {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        ("a folder", |path| fs_err::create_dir(path).unwrap()),
        ("a device", |path| {
            std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        }),
    ];
    for file in files {
        let path = place.path(file);
        let content = fs_err::read(&path).unwrap();
        for (what, make) in make {
            fs_err::remove_file(&path).unwrap();
            make(&path);
            let outcome = within_a_minute(&place, &run());
            assert_eq!(outcome.code, 3, "{file} is {what}: {outcome:?}");
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{outcome:?}");
            assert!(
                outcome.stderr.contains(name),
                "{file} is {what}: {outcome:?}"
            );
            assert!(!place.path("out").exists(), "{file} is {what}");
            if path.is_dir() {
                fs_err::remove_dir(&path).unwrap();
            } else {
                fs_err::remove_file(&path).unwrap();
            }
            fs_err::write(&path, &content).unwrap();
        }
    }
    place.sli(&run()).success();
}

/// A run that takes some hundred passes, with the folder of its results.
fn long_run(place: &Place) -> Vec<&'static str> {
    let lines: String = (0..400)
        .map(|n| json!({"input_ids": vec![n % 20; 12]}).to_string() + "\n")
        .collect();
    place.write("long.jsonl", lines);
    let base = [
        "run",
        "model",
        "--input",
        "long.jsonl",
        "--take",
        "hidden",
        "--take",
        "scores",
    ];
    let more = [
        "--memory",
        "70MiB",
        "--checkpoint-interval",
        "0",
        "--no-share",
        "--out",
    ];
    [&base[..], &more].concat()
}

/// Starts a run and waits until it is in the middle.
fn in_the_middle(place: &Place, run: &[&str]) -> std::process::Child {
    let mut child = start(place, run);
    while !place.path("out/.sli/passes").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child
}

#[test]
fn a_model_or_a_folder_that_goes_away_under_a_run() {
    let place = Place::with_llama();
    let base = long_run(&place);
    let run = [&base[..], &["out"]].concat();
    place.sli(&[&base[..], &["undisturbed"]].concat()).success();
    let expected = results(&place.path("undisturbed"));
    let weights = place.path("model/model.safetensors");
    let content = fs_err::read(&weights).unwrap();
    let harms: [(Harm, &[i32]); 4] = [
        // An open file lives on.
        (
            |place, _| fs_err::remove_file(place.path("model/model.safetensors")).unwrap(),
            &[0, 3, 5],
        ),
        (
            |place, content| {
                place.write("other", &content[..content.len() / 2]);
                fs_err::rename(place.path("other"), place.path("model/model.safetensors")).unwrap();
            },
            &[0, 3, 5],
        ),
        (
            |place, _| fs_err::remove_dir_all(place.path("out")).unwrap_or_default(),
            &[0, 5],
        ),
        (
            |place, _| fs_err::rename(place.path("out"), place.path("moved")).unwrap_or_default(),
            &[0, 5],
        ),
    ];
    for (number, (harm, codes)) in harms.into_iter().enumerate() {
        let child = in_the_middle(&place, &run);
        harm(&place, &content);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap_or(-1);
        assert!(codes.contains(&code), "harm {number}: {code}, {said}");
        assert!(!said.contains("panicked"), "harm {number}: {said}");
        fs_err::write(&weights, &content).unwrap();
        place.sli(&[&run[..], &["--fresh"]].concat()).success();
        assert!(results(&place.path("out")) == expected, "harm {number}");
        for folder in ["out", "moved"] {
            let _ = fs_err::remove_dir_all(place.path(folder));
        }
    }
}

#[test]
fn a_limit_of_file_sizes_is_5_and_the_run_goes_on_without_it() {
    let place = Place::with_llama();
    let base = long_run(&place);
    let run = [&base[..], &["out"]].concat();
    place.sli(&[&base[..], &["undisturbed"]].concat()).success();
    let output = place
        .other("sh")
        .args([
            "-c",
            "ulimit -f 64; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_sli"),
        ])
        .args(&run)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    for says in ["error: ", "out/", "hint: raise the limit of file sizes"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    place.sli(&run).success();
    assert!(results(&place.path("out")) == results(&place.path("undisturbed")));
}

#[test]
fn nobody_listens() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n");
    for (script, codes) in [
        ("\"$0\" architectures | head -n 1", "0"),
        ("\"$0\" architectures --json | true", "0"),
        ("\"$0\" architectures >&-", "0 5"),
        ("\"$0\" architectures >/dev/full", "5"),
        ("\"$0\" run model --input in.jsonl --out out-1 2>&-", "0"),
        (
            "\"$0\" run model --input in.jsonl --out out-2 --json >&- 2>&-",
            "0 5",
        ),
        (
            "\"$0\" run model --input in.jsonl --out out-3 --json 2>/dev/full >/dev/full",
            "5",
        ),
        (
            "\"$0\" run model --input in.jsonl --out out-4 2>&1 | true",
            "0",
        ),
        (
            "\"$0\" run nothing --input in.jsonl --out out-5 2>&1 | true",
            "3",
        ),
        ("\"$0\" run model --input in.jsonl --out out-6 <&-", "0"),
        ("\"$0\" --help >/dev/full", "0 2 5"),
        ("\"$0\" completions bash >&-", "0 5"),
    ] {
        // The code of the program, not that of the reader.
        let script = format!("set -o pipefail; {script}; echo code ${{PIPESTATUS[0]}} >&3");
        let output = place
            .other("bash")
            .args(["-c", &format!("exec 3>said; {script}")])
            .arg(env!("CARGO_BIN_EXE_sli"))
            .output()
            .unwrap();
        let code = fs_err::read_to_string(place.path("said")).unwrap();
        let code = code.trim().trim_start_matches("code ").to_owned();
        assert!(
            codes.split(' ').any(|known| known == code),
            "{script}: {code}, {output:?}"
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{script}: {said}");
    }
}
