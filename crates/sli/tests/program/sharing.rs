//! Common beginnings of records on the command line: what is said of them, and `--no-share`.

use serde_json::{Value, json};

use crate::end_to_end::results;
use crate::place::{Place, llama};

#[test]
fn common_beginnings_are_reported_and_change_no_byte() {
    let place = Place::new();
    let mut config = llama();
    config["max_position_embeddings"] = json!(64);
    place.write_model("model", &config);
    let lines: String = (0..24)
        .map(|n| {
            let tokens: Vec<u32> = (0..40).map(|i| i % 13).chain([n % 6, n / 6]).collect();
            json!({"id": n.to_string(), "input_ids": tokens}).to_string() + "\n"
        })
        .collect();
    place.write("in.jsonl", lines);
    let base = ["model", "--input", "in.jsonl"];
    let plan = |more: &[&str]| {
        let said = place.sli(&[&["plan"], &base[..], more].concat());
        said.success().stdout
    };
    let rows = 40 + 6 + 24;
    assert!(plan(&[]).contains("common beginnings: "), "{}", plan(&[]));
    assert!(plan(&["--no-share"]).contains("no common beginnings: sharing is switched off"));
    let json: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!(json["shared_tokens"], 41);
    assert_eq!(json["not_shared"], Value::Null);

    let takes = ["--take", "scores", "--take", "hidden", "--take", "profile"];
    let run = |out: &str, more: &[&str]| {
        let arguments = [&["run"], &base[..], &takes, &["--json", "--out", out], more];
        place.sli(&arguments.concat()).success()
    };
    let shared = run("shared", &[]);
    assert!(
        shared.stderr.contains("x fewer token-layers"),
        "{}",
        shared.stderr
    );
    let json: Value = serde_json::from_str(&shared.stdout).unwrap();
    assert_eq!(json["token_layers"], 2 * rows);
    assert_eq!(json["token_layers_alone"], 2 * 24 * 42);
    let alone = run("alone", &["--no-share"]);
    assert!(!alone.stderr.contains("fewer token-layers"));
    let json: Value = serde_json::from_str(&alone.stdout).unwrap();
    assert_eq!(json["token_layers"], 2 * 24 * 42);
    let files = |out: &str| results(&place.path(out));
    assert!(files("shared") == files("alone"));
    // The other way of running is nobody's business either.
    let again = run("shared", &["--no-share"]);
    assert!(again.stderr.contains("finished already"));
}
