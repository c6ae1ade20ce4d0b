//! Datasets of several files, compressed ones, columns of other names, and what is elsewhere.

use std::collections::BTreeMap;
use std::io::Write;

use sli_loopback::{Hub, Repo};

use crate::end_to_end::results;
use crate::place::Place;

const LINES: [&str; 4] = [
    "{\"text\": \"the cat sat\", \"other\": 1}\n",
    "{\"text\": \"on the\"}\n",
    "{\"text\": \"the\"}\n",
    "{\"text\": \"sat on\"}\n",
];

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).unwrap()
}

/// A run over these inputs, whose results must be those of the whole file.
fn run(place: &Place, hub: Option<&Hub>, inputs: &[&str], more: &[&str]) {
    let mut arguments = vec![
        "run",
        "model",
        "--take",
        "scores",
        "--take",
        "embedding",
        "--fresh",
        "--out",
        "out",
    ];
    for input in inputs {
        arguments.extend(["--input", input]);
    }
    arguments.extend(more);
    match hub {
        None => place.sli(&arguments).success(),
        Some(hub) => place.sli_at(hub, &arguments).success(),
    };
    assert_eq!(
        results(&place.path("out")),
        results(&place.path("whole")),
        "{inputs:?}"
    );
}

fn place() -> Place {
    let place = Place::with_llama();
    place.write("whole.jsonl", LINES.concat());
    let whole = [
        "run",
        "model",
        "--input",
        "whole.jsonl",
        "--take",
        "scores",
        "--take",
        "embedding",
        "--out",
        "whole",
    ];
    place.sli(&whole).success();
    place
}

#[test]
fn several_files_are_one_dataset() {
    let place = place();
    place.write("parts/b.jsonl", LINES[2..].concat());
    place.write("parts/a.jsonl", LINES[..2].concat());
    place.write("parts/README.md", "no records");
    place.write("parts/_old.jsonl", "no records either");
    place.write("texts/1.txt", "the cat sat\non the\n");
    place.write("texts/2.txt", "the\nsat on\n");
    run(&place, None, &["parts/a.jsonl", "parts/b.jsonl"], &[]);
    run(&place, None, &["parts"], &[]);
    run(&place, None, &["parts/[ab].jsonl"], &[]);
    run(&place, None, &["texts/*.txt"], &[]);
    run(&place, None, &["parts/a.jsonl", "texts/2.txt"], &[]);
    // What is wrong with a later file says which.
    place.write("parts/c.jsonl", "{\"text\": \"the\"}\n{\"text\": 1}\n");
    let wrong = ["run", "model", "--input", "parts", "--out", "wrong"];
    place.sli(&wrong).failure(3, &["parts/c.jsonl, line 2"]);
    place.write("empty/README.md", "");
    for (input, says) in [
        ("empty", "no file of records"),
        ("none/*.jsonl", "no file fits"),
        ("parts/none.jsonl", "cannot read the input"),
        ("parts/[.jsonl", "makes no sense"),
    ] {
        place
            .sli(&["plan", "model", "--input", input])
            .failure(3, &[says]);
    }
    // A run goes on with the same files alone.
    let run = |inputs: &[&'static str]| [&["run", "model", "--out", "kept"][..], inputs].concat();
    place
        .sli(&run(&[
            "--input",
            "parts/a.jsonl",
            "--input",
            "parts/b.jsonl",
        ]))
        .success();
    place
        .sli(&run(&[
            "--input",
            "parts/b.jsonl",
            "--input",
            "parts/a.jsonl",
        ]))
        .failure(3, &["input"]);
}

#[test]
fn compressed_lines_are_read_as_they_are_unpacked() {
    let place = place();
    let text = LINES.concat();
    place.write("a.jsonl.gz", gzip(&text));
    place.write("b.jsonl.zst", zstd(&text));
    // Members and frames one after another are one file.
    place.write(
        "c.jsonl.gz",
        [gzip(&LINES[..1].concat()), gzip(&LINES[1..].concat())].concat(),
    );
    place.write(
        "d.json.zst",
        [zstd(&LINES[..3].concat()), zstd(LINES[3])].concat(),
    );
    place.write("e.txt.gz", gzip("the cat sat\non the\nthe\nsat on\n"));
    for input in [
        "a.jsonl.gz",
        "b.jsonl.zst",
        "c.jsonl.gz",
        "d.json.zst",
        "e.txt.gz",
    ] {
        run(&place, None, &[input], &[]);
    }
    // What is unpacked is read by the name behind the compression, which counts for a run that goes on.
    place.write("kept.jsonl.gz", gzip(&text));
    place.write("kept.txt.gz", gzip(&text));
    let kept = |input: &'static str| ["run", "model", "--input", input, "--out", "kept"];
    place.sli(&kept("kept.jsonl.gz")).success();
    place
        .sli(&kept("kept.txt.gz"))
        .failure(3, &["input format"]);
    let whole = gzip(&text);
    place.write("cut.jsonl.gz", &whole[..whole.len() - 9]);
    place.write("plain.jsonl.gz", &text);
    place.write("gzip.jsonl.zst", gzip(&text));
    place.write("x.parquet.gz", gzip(&text));
    place.write("hidden.jsonl", gzip(&text));
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    wide.write_all(text.as_bytes()).unwrap();
    place.write("wide.jsonl.zst", wide.finish().unwrap());
    for (input, code, says) in [
        ("cut.jsonl.gz", 5, "cannot read the input"),
        ("plain.jsonl.gz", 3, "not compressed with gzip"),
        ("gzip.jsonl.zst", 3, "not compressed with zstd"),
        ("x.parquet.gz", 3, "compressed Parquet"),
        ("hidden.jsonl", 3, "compressed with gzip"),
        ("wide.jsonl.zst", 4, "window"),
    ] {
        let run = [
            "run", "model", "--input", input, "--memory", "100MiB", "--out", "wrong",
        ];
        place.sli(&run).failure(code, &[says]);
    }
}

#[test]
fn columns_stand_for_the_keys_that_they_are_given() {
    let place = place();
    let renamed = LINES.concat().replace("\"text\"", "\"content\"");
    place.write(
        "renamed.jsonl",
        renamed.replace("\"other\": 1", "\"text\": 5, \"other\": NaN"),
    );
    run(
        &place,
        None,
        &["renamed.jsonl"],
        &["--column", "text=content"],
    );
    let refused = |column: &'static str| {
        [
            "plan",
            "model",
            "--input",
            "renamed.jsonl",
            "--column",
            column,
        ]
    };
    place
        .sli(&refused("txt=content"))
        .failure(2, &["`txt` is no key"]);
    place.sli(&refused("text")).failure(2, &["KEY=NAME"]);
    place
        .sli(&refused("text=none"))
        .failure(3, &["has none of"]);
}

#[test]
fn datasets_are_fetched_from_elsewhere() {
    let place = place();
    let hub = Hub::start();
    let files = [
        ("data/train-0.jsonl", LINES[..2].concat().into_bytes()),
        ("data/train-1.jsonl.gz", gzip(&LINES[2..].concat())),
        ("whole/all.jsonl", LINES.concat().into_bytes()),
        ("README.md", b"records".to_vec()),
    ];
    let files: BTreeMap<String, Vec<u8>> = files
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
    hub.put("org/data", Repo::of(files));
    let web = format!("{}whole/all.jsonl", hub.web("org/data"));
    for input in [
        "hf://datasets/org/data/whole/all.jsonl",
        "hf://datasets/org/data@v1/data",
        "hf://datasets/org/data/data/train-*",
        &web,
    ] {
        run(&place, Some(&hub), &[input], &[]);
    }
    for (input, code, says) in [
        ("hf://datasets/org/none/x.jsonl", 3, "no such repository"),
        (
            "hf://datasets/org/data/none/*.jsonl",
            2,
            "no file of records",
        ),
        ("ftp://host/x.jsonl", 2, "ftp://"),
    ] {
        place
            .sli_at(&hub, &["plan", "model", "--input", input])
            .failure(code, &[says]);
    }
    let listed = place.sli(&["cache"]).success().stdout;
    assert!(listed.contains("datasets/org/data"), "{listed}");
}
