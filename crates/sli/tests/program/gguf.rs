//! A GGUF file, or a folder with one, as a model.

use std::path::Path;

use serde_json::Value;

use super::place::Place;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sli-engine/tests/gguf");

/// A folder `model` with one tiny file of Llama's, and records.
fn place() -> Place {
    let place = Place::new();
    fs_err::create_dir(place.path("model")).unwrap();
    fs_err::copy(
        Path::new(FILES).join("llama.gguf"),
        place.path("model/tiny.gguf"),
    )
    .unwrap();
    place.write(
        "in.jsonl",
        "{\"input_ids\": [3, 17, 5]}\n{\"input_ids\": [1, 2, 3, 4]}\n",
    );
    place
}

#[test]
fn a_file_and_its_folder_are_the_same_model() {
    let place = place();
    for (model, out) in [("model/tiny.gguf", "a"), ("model", "b")] {
        let take = ["--take", "scores", "--take", "hidden", "--take", "logits"];
        let run = ["run", model, "--input", "in.jsonl", "--out", out];
        place.sli(&[&run[..], &take].concat()).success();
        // Finished: the same command says so.
        place.sli(&[&run[..], &take].concat()).success();
    }
    for file in [
        "scores.parquet",
        "logits.safetensors",
        "hidden/decoder.norm.safetensors",
    ] {
        let [a, b] =
            ["a", "b"].map(|out| fs_err::read(place.path(&format!("{out}/{file}"))).unwrap());
        assert!(a == b, "{file}");
    }
    place
        .sli(&["plan", "model/tiny.gguf", "--input", "in.jsonl"])
        .success();
    let shown = place.sli(&["inspect", "model", "--json"]).success().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["files_rule"], "the one GGUF file of the folder");
    assert_eq!(shown["coverage"]["complete"], true);
    assert_eq!(shown["model_type"], "llama");
}

#[test]
fn nothing_beside_it_is_read() {
    let place = place();
    place.write("model/config.json", "{\"model_type\": \"unheard of\"}");
    place.write("model/tokenizer.json", "no JSON");
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
    ];
    place.sli(&run).success();
}

#[test]
fn what_is_not_known_of_it_is_3() {
    let place = place();
    place.write("text.jsonl", "{\"text\": \"a\"}\n");
    // It was converted without a tokenizer.
    let run = [
        "run",
        "model",
        "--input",
        "text.jsonl",
        "--out",
        "out",
        "--take",
        "scores",
    ];
    place.sli(&run).failure(3, &["tokenizer"]);
    let mut file = fs_err::read(place.path("model/tiny.gguf")).unwrap();
    let key = b"llama.rope.freq_base";
    let at = file
        .windows(key.len())
        .position(|window| window == key)
        .unwrap();
    file[at + key.len() - 1] = b'd';
    fs_err::write(place.path("model/tiny.gguf"), file).unwrap();
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
    ];
    place
        .sli(&run)
        .failure(3, &["llama.rope.freq_basd", "nothing is known of this key"]);
}
