//! Output folders: finished ones, those of another run, those that cannot be written.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::end_to_end::results;
use crate::place::{Outcome, Place, bert, llama};

/// What tells whether a file was touched: inode, modification time, size.
fn traces(folder: &Path) -> Vec<(String, u64, i64, i64, u64)> {
    let mut names: Vec<String> = results(folder).into_keys().collect();
    names.extend(["run.json".into(), String::new(), "hidden".into()]);
    let trace = |name: String| {
        let metadata = fs_err::metadata(folder.join(&name)).unwrap();
        let (inode, size) = (metadata.ino(), metadata.len());
        (name, inode, metadata.mtime(), metadata.mtime_nsec(), size)
    };
    names.into_iter().map(trace).collect()
}

const RUN: [&str; 9] = [
    "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "hidden", "--json",
];

#[test]
fn a_finished_folder_is_left_alone() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the cat sat\"}\n");
    let first: Value = serde_json::from_str(&place.sli(&RUN).success().stdout).unwrap();
    let before = traces(&place.path("out"));
    let again = place.sli(&RUN).success();
    assert!(again.stderr.contains("finished already"), "{again:?}");
    assert!(again.stderr.contains("--fresh"), "{again:?}");
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["files"], first["files"]);
    assert_eq!(traces(&place.path("out")), before);
    // Copied, moved and touched files are the same model and the same data.
    fs_err::create_dir(place.path("copy")).unwrap();
    for entry in fs_err::read_dir(place.path("model")).unwrap() {
        let name = entry.unwrap().file_name();
        let to = place.path("copy").join(&name);
        fs_err::copy(place.path("model").join(name), to).unwrap();
    }
    fs_err::copy(place.path("in.jsonl"), place.path("elsewhere.jsonl")).unwrap();
    let moved = [
        "run",
        "copy",
        "--input",
        "elsewhere.jsonl",
        "--out",
        "out",
        "--take",
        "hidden",
    ];
    let moved = place.sli(&moved).success();
    assert!(moved.stderr.contains("finished already"), "{moved:?}");
    assert_eq!(traces(&place.path("out")), before);
    // A result that somebody damaged is not called finished.
    place.write("out/hidden/decoder.001.safetensors", "");
    place
        .sli(&RUN)
        .failure(5, &["decoder.001.safetensors", "hint: ", "--fresh"]);
    place.sli(&[&RUN[..], &["--fresh"]].concat()).success();
}

/// Runs after `change`, which must be named in the error and leave the results alone; then undoes it.
fn refused_after(place: &Place, change: impl FnOnce(&Place), says: &str) {
    let before = traces(&place.path("out"));
    let config = fs_err::read(place.path("model/config.json")).unwrap();
    let weights = fs_err::read(place.path("model/model.safetensors")).unwrap();
    let tokenizer = fs_err::read(place.path("model/tokenizer.json")).unwrap();
    let data = fs_err::read(place.path("in.jsonl")).unwrap();
    change(place);
    place
        .sli(&RUN)
        .failure(3, &["belongs to another run", says, "hint: ", "--fresh"]);
    assert_eq!(traces(&place.path("out")), before);
    place.write("model/config.json", config);
    place.write("model/model.safetensors", weights);
    place.write("model/tokenizer.json", tokenizer);
    place.write("in.jsonl", data);
}

#[test]
fn whatever_changed_is_named() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"text\": \"the cat sat\"}\n");
    place.sli(&RUN).success();
    let eps = |place: &Place| {
        let mut config = llama();
        config["rms_norm_eps"] = json!(1e-6);
        place.write("model/config.json", config.to_string());
    };
    refused_after(&place, eps, "model config.json was ");
    let metadata = |place: &Place| {
        // One more entry in the header: the size differs, too.
        let path = place.path("model/model.safetensors");
        let file = fs_err::read(&path).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(file[8..8 + length].to_vec()).unwrap();
        let header = header.replacen('{', "{\"__metadata__\":{\"a\":\"bcdef\"},", 1);
        let mut changed = (header.len() as u64).to_le_bytes().to_vec();
        changed.extend(header.bytes());
        changed.extend(&file[8 + length..]);
        fs_err::write(path, changed).unwrap();
    };
    refused_after(&place, metadata, "weights model.safetensors was ");
    let words = |place: &Place| {
        let path = place.path("model/tokenizer.json");
        let text = fs_err::read_to_string(&path).unwrap();
        fs_err::write(path, text.replace("\"dog\"", "\"cow\"")).unwrap();
    };
    refused_after(&place, words, "model tokenizer.json was ");
    let data = |place: &Place| _ = place.write("in.jsonl", "{\"text\": \"the cat ran\"}\n");
    refused_after(&place, data, "input was ");
    place.write_model("bert", &bert());
    for (more, says) in [
        (
            &["--take", "logits"][..],
            "takes was hidden, is hidden logits",
        ),
        (&["--max-length", "2"], "max length was nothing, is 2"),
        (&["--hidden-dtype", "f16"], "hidden dtype was f32, is f16"),
        (&["--compute", "bf16"], "compute was f32, is bf16"),
    ] {
        place
            .sli(&[&RUN[..], more].concat())
            .failure(3, &[says, "--fresh"]);
    }
    // What changes no result is nobody's business.
    let means = [
        "--threads",
        "1",
        "--memory",
        "1GiB",
        "--spill",
        "never",
        "--no-share",
    ];
    let same: Outcome = place.sli(&[&RUN[..], &means].concat()).success();
    assert!(same.stderr.contains("finished already"), "{same:?}");
}

#[test]
fn folders_that_cannot_be_written_are_5() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3]}\n");
    place.write("file", "mine");
    for out in ["file", "file/below", "/dev/null", "/proc/sli"] {
        let run = ["run", "model", "--input", "in.jsonl", "--out", out];
        place.sli(&run).failure(5, &[out]);
    }
    assert_eq!(fs_err::read(place.path("file")).unwrap(), b"mine");
}

#[test]
fn standard_output_that_takes_nothing_is_5_and_the_results_are_there() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3]}\n");
    let full = fs_err::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = place
        .command(&RUN)
        .stdout(full.into_file())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    let again = place.sli(&RUN).success();
    assert!(again.stderr.contains("finished already"), "{again:?}");
}
