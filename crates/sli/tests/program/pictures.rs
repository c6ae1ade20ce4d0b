//! Records with pictures that a processor has prepared.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sli_testing::{Golden, Stored, compare, read_tensors};

use crate::budgets::within_every_budget;
use crate::place::{Place, safetensors};

/// A place with the model of a golden in `model`, and its records with their tensors in `data`.
fn place_of(golden: &Golden) -> Place {
    let place = Place::new();
    fs_err::create_dir_all(place.path("model")).unwrap();
    golden.write(&place.path("model"), Stored::F32);
    let tensors = fs_err::read(golden.folder.join("expected.safetensors")).unwrap();
    place.write("data/in.safetensors", tensors);
    let lines = golden.records().into_iter().map(|record| {
        let mut line = json!({"id": record.id});
        if !record.input_ids.is_empty() {
            line["input_ids"] = json!(record.input_ids);
        }
        if record.pictures.is_some() {
            line["tensors"] = json!("in.safetensors");
            line["tensor_prefix"] = json!(format!("{}.", record.id));
        }
        line.to_string() + "\n"
    });
    place.write("data/in.jsonl", lines.collect::<String>());
    place
}

/// The same with so many records: those of the golden by turns.
pub fn of_pictures(name: &str, records: usize) -> Place {
    let golden = Golden::open(name);
    let place = place_of(&golden);
    let own = golden.records();
    let line = |number: usize| {
        let record = &own[number % own.len()];
        let mut line = json!({"input_ids": record.input_ids});
        if record.pictures.is_some() {
            line["tensors"] = json!("in.safetensors");
            line["tensor_prefix"] = json!(format!("{}.", record.id));
        }
        line.to_string() + "\n"
    };
    place.write("data/in.jsonl", (0..records).map(line).collect::<String>());
    place
}

#[test]
fn a_record_names_its_pictures() {
    for name in ["clip_vision_model", "llava", "qwen2_5_vl", "qwen3_vl"] {
        let golden = Golden::open(name);
        let place = place_of(&golden);
        let has_logits = golden.expectations("0").contains_key("logits");
        let mut run = vec!["run", "model", "--input", "data/in.jsonl", "--out", "out"];
        run.extend(["--take", "hidden"]);
        if has_logits {
            run.extend(["--take", "logits", "--take", "scores"]);
        }
        place.sli(&run).success();
        let mut compared = 0;
        for record in golden.records() {
            for (what, expected) in golden.expectations(&record.id) {
                let file = match what.strip_prefix("hidden.") {
                    Some(boundary) => format!("out/hidden/{boundary}.safetensors"),
                    None if what == "logits" => "out/logits.safetensors".to_owned(),
                    None => continue,
                };
                let tensors = read_tensors(&place.path(&file));
                compare(&tensors[&record.id], &expected, 1e-4)
                    .unwrap_or_else(|problem| panic!("{name}, {}, {what}: {problem}", record.id));
                compared += 1;
            }
        }
        assert!(compared > 3, "{name}: {compared}");
        assert_eq!(place.path("out/scores.parquet").exists(), has_logits);
    }
}

#[test]
fn pictures_change_no_bit_with_the_budget() {
    let place = of_pictures("llava", 40);
    let run = [
        "run",
        "model",
        "--input",
        "data/in.jsonl",
        "--take",
        "scores",
        "--take",
        "hidden",
        "--take",
        "profile",
    ];
    let summary = within_every_budget(&place, &run);
    assert_eq!(summary["records"], 40);
}

#[test]
fn pictures_that_do_not_fit_are_refused() {
    let place = place_of(&Golden::open("llava"));
    let shapes: BTreeMap<String, Vec<usize>> = [
        ("small.pixel_values", vec![1, 3, 24, 32]),
        ("grey.pixel_values", vec![1, 1, 32, 32]),
        ("fine.pixel_values", vec![1, 3, 32, 32]),
        ("flat.pixel_values", vec![32, 32]),
    ]
    .into_iter()
    .map(|(name, shape)| (name.to_owned(), shape))
    .collect();
    place.write("data/pictures.safetensors", safetensors(&shapes));
    let sixteen: Vec<u32> = [5].into_iter().chain([3; 16]).chain([7]).collect();
    let with = |prefix: &str, ids: &[u32]| -> Value {
        json!({"tensors": "pictures.safetensors", "tensor_prefix": prefix, "input_ids": ids})
    };
    let cases = [
        (with("none.", &sixteen), "has no tensor `none.pixel_values`"),
        (
            with("small.", &sixteen),
            "the model wants [views, 3, 32, 32]",
        ),
        (
            with("grey.", &sixteen),
            "the model wants [views, 3, 32, 32]",
        ),
        (
            with("flat.", &sixteen),
            "the model wants [views, 3, 32, 32]",
        ),
        (
            with("fine.", &sixteen[..10]),
            "it is there 9 times, and its pictures have 16 rows",
        ),
        (
            json!({"input_ids": sixteen}),
            "it is there 16 times, and its pictures have 0 rows",
        ),
        (
            with("fine.", &[5, 6]),
            "it is there 0 times, and its pictures have 16 rows",
        ),
    ];
    for (line, says) in cases {
        place.write("data/wrong.jsonl", format!("{line}\n"));
        let run = [
            "run",
            "model",
            "--input",
            "data/wrong.jsonl",
            "--out",
            "wrong",
        ];
        place.sli(&run).failure(3, &[says, "hint: ", "wrong.jsonl"]);
    }
    let place = place_of(&Golden::open("qwen2_vl"));
    let shapes: BTreeMap<String, Vec<usize>> = [("a.pixel_values".to_owned(), vec![24, 96])].into();
    place.write("data/pictures.safetensors", safetensors(&shapes));
    place.write("data/wrong.jsonl", format!("{}\n", with("a.", &[3; 6])));
    let run = [
        "run",
        "model",
        "--input",
        "data/wrong.jsonl",
        "--out",
        "wrong",
    ];
    let says = ["has no tensor `a.image_grid_thw`", "hint: "];
    place.sli(&run).failure(3, &says);
}
