//! Disks that are full and files that go away while the program runs.

use std::process::Command;

use serde_json::json;

use crate::end_to_end::{ALL, results, start};
use crate::place::{Place, llama};

/// A run of some seconds in the making: 1 MiB of results.
fn prepare(place: &Place) -> Vec<&'static str> {
    let mut config = llama();
    for (key, value) in [
        ("hidden_size", 64),
        ("intermediate_size", 512),
        ("num_hidden_layers", 4),
        ("max_position_embeddings", 64),
    ] {
        config[key] = json!(value);
    }
    place.write_model("model", &config);
    let lines: String = (0..100)
        .map(|n| json!({"input_ids": vec![n % 20; 8 + n % 24]}).to_string() + "\n")
        .collect();
    place.write("in.jsonl", lines);
    let base = ["run", "model", "--input", "in.jsonl", "--memory", "41MiB"];
    [&base[..], &ALL, &["--checkpoint-interval", "0"]].concat()
}

/// The command that gives a script mounts of its own; `None` where that is not permitted.
pub fn own_mounts() -> Option<[&'static str; 2]> {
    let works = |command: [&str; 2]| {
        let trial = "mount -t tmpfs -o size=64k none /tmp";
        let status = Command::new(command[0])
            .args([command[1], "sh", "-c", trial])
            .output();
        status.is_ok_and(|output| output.status.success())
    };
    [["unshare", "-m"], ["unshare", "-rm"]]
        .into_iter()
        .find(|command| works(*command))
}

#[test]
fn a_full_disk_is_5_and_the_run_goes_on_when_there_is_space() {
    let Some(unshare) = own_mounts() else {
        eprintln!("skipped: mounting a small disk is not permitted here");
        return;
    };
    let place = Place::new();
    let run = prepare(&place);
    place
        .sli(&[&run[..], &["--out", "undisturbed"]].concat())
        .success();
    fs_err::create_dir(place.path("disk")).unwrap();
    // The run meets disks of every size, each too small, and goes on where it stopped on the last.
    let script = r#"
        set -u
        mount -t tmpfs -o size=8k none disk
        codes=
        for size in 8k 24k 64k 160k 400k 1m 2m 3m; do
            mount -o remount,size=$size disk
            "$@" --out disk/out 2>said-$size
            code=$?
            codes="$codes $code"
            [ $code = 0 ] && break
        done
        echo $codes
        mount -o remount,size=64m disk
        "$@" --out disk/out 2>said-last || exit
        cp -r disk/out out
    "#;
    let output = place
        .other(unshare[0])
        .args([unshare[1], "sh", "-c", script, "sh"])
        .arg(env!("CARGO_BIN_EXE_sli"))
        .args(&run)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let codes = String::from_utf8(output.stdout).unwrap();
    assert!(codes.starts_with("5 5 5"), "{codes}");
    assert!(
        codes
            .split_whitespace()
            .all(|code| code == "5" || code == "0")
    );
    for size in ["8k", "24k", "64k"] {
        let said = fs_err::read_to_string(place.path(&format!("said-{size}"))).unwrap();
        assert!(
            said.contains("error: no space left on the device for "),
            "{said}"
        );
        assert!(said.contains("hint: free some space"), "{said}");
    }
    assert!(results(&place.path("out")) == results(&place.path("undisturbed")));
}

#[test]
fn weights_that_shrink_under_a_run_are_an_error_and_it_goes_on_when_they_are_back() {
    let place = Place::new();
    let run = prepare(&place);
    place
        .sli(&[&run[..], &["--out", "undisturbed"]].concat())
        .success();
    let (weights, whole) = (place.path("model/model.safetensors"), place.path("whole"));
    fs_err::copy(&weights, &whole).unwrap();
    let run = [&run[..], &["--out", "out"]].concat();
    let mut child = start(&place, &run);
    while !place.path("out/.sli/passes").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let file = fs_err::OpenOptions::new()
        .write(true)
        .open(&weights)
        .unwrap();
    file.set_len(4096).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(
        said.contains("error: ") && said.contains("model.safetensors"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    place.sli(&run).failure(3, &["model.safetensors", "hint: "]);
    fs_err::copy(&whole, &weights).unwrap();
    place.sli(&run).success();
    assert!(results(&place.path("out")) == results(&place.path("undisturbed")));
}
