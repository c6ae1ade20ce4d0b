//! Datasets as people have them: every rule of the input formats, through the program.

use crate::place::{Outcome, Place, bert, llama};
use serde_json::{Value, json};

fn plan(place: &Place, file: &str, content: impl AsRef<[u8]>, more: &[&str]) -> Outcome {
    place.write(file, content);
    place.sli(&[&["plan", "model", "--json", "--input", file], more].concat())
}

#[track_caller]
fn counts(outcome: &Outcome) -> (u64, u64) {
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    (
        json["records"].as_u64().unwrap(),
        json["tokens"].as_u64().unwrap(),
    )
}

#[test]
fn text_gets_special_tokens_and_neither_padding_nor_cuts() {
    let place = Place::with_llama();
    // The tokenizer file says: pad to 16, cut to 4.
    let outcome = plan(
        &place,
        "in.txt",
        "the cat sat on a mat\r\n\r\n  \nthe dog",
        &[],
    );
    assert_eq!(counts(&outcome), (2, 7 + 3));
    let outcome = plan(
        &place,
        "in.jsonl",
        "{\"text\": \"the cat\"}\n{\"input_ids\": [3, 4]}\n",
        &[],
    );
    assert_eq!(counts(&outcome), (2, 3 + 2));
}

#[test]
fn lines_end_as_in_python() {
    let place = Place::with_llama();
    for text in ["the\rcat\r", "the\ncat", "the\r\n\rcat\r\n"] {
        assert_eq!(
            counts(&plan(&place, "in.txt", text, &[])),
            (2, 4),
            "{text:?}"
        );
        let lines = text
            .replace("the", "{\"text\": \"a\"}")
            .replace("cat", "{\"text\":\t\"b\"}");
        assert_eq!(
            counts(&plan(&place, "in.jsonl", lines, &[])),
            (2, 4),
            "{text:?}"
        );
    }
    let outcome = plan(
        &place,
        "in.txt",
        "the\u{b}cat\u{c}sat\u{85}on\u{2028}a\n",
        &[],
    );
    assert_eq!(counts(&outcome).0, 1);
    // A mark belongs to a text, and not to JSON, as for `datasets`.
    let outcome = plan(&place, "in.txt", "\u{feff}the\ncat", &[]);
    assert_eq!(counts(&outcome).0, 2);
    assert!(
        outcome
            .stderr
            .contains("warning: the first text begins with a byte order mark"),
        "{outcome:?}"
    );
    let outcome = plan(&place, "in.jsonl", "\u{feff}{\"text\": \"the\"}", &[]);
    assert_eq!(counts(&outcome), (1, 2));
    assert!(!outcome.stderr.contains("warning"), "{outcome:?}");
}

#[test]
fn conversations_get_no_second_beginning() {
    let place = Place::with_llama();
    let line = json!({"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}]});
    assert_eq!(
        counts(&plan(&place, "in.jsonl", line.to_string(), &[])),
        (1, 7)
    );
    fs_err::remove_file(place.path("model/tokenizer_config.json")).unwrap();
    plan(&place, "in.jsonl", line.to_string(), &[]).failure(3, &["no chat template", "hint: "]);
    place.write("model/chat_template.jinja", "{{ messages[0].content }}");
    assert_eq!(
        counts(&plan(&place, "in.jsonl", line.to_string(), &[])),
        (1, 2)
    );
    place.write(
        "model/chat_template.jinja",
        "{{ raise_exception('never') }}",
    );
    plan(&place, "in.jsonl", line.to_string(), &[])
        .failure(3, &["refuses", "never", "in.jsonl, line 1"]);
}

#[test]
fn records_without_tokens_are_kept_with_a_warning() {
    let place = Place::with_llama();
    let outcome = plan(
        &place,
        "in.jsonl",
        "{\"id\": \"e\", \"input_ids\": []}\n{\"input_ids\": [3]}\n",
        &[],
    );
    assert_eq!(counts(&outcome), (2, 1));
    assert!(
        outcome.stderr.contains("warning: record `e` has no tokens"),
        "{outcome:?}"
    );
    let many = "{\"input_ids\": []}\n".repeat(20);
    let outcome = plan(&place, "in.jsonl", many, &[]);
    assert_eq!(counts(&outcome), (20, 0));
    assert!(
        outcome.stderr.contains("20 records have no tokens"),
        "{outcome:?}"
    );
    assert!(outcome.stderr.lines().count() < 8);
}

#[test]
fn broken_records_are_3_and_named() {
    let place = Place::with_llama();
    for (content, says) in [
        (&b""[..], "no records"),
        (b"\n \n\r\n", "no records"),
        (b"{\"text\": \"the\"}\n[1, 2]\n", "in.jsonl, line 2"),
        (
            b"{\"text\": \"the\"}\n\n\n{\"text\": 3}\n",
            "in.jsonl, line 4",
        ),
        (b"{\"text\": \"\xff\"}\n", "not UTF-8 (in.jsonl, line 1)"),
        (b"{\"text\": \"the\"", "in.jsonl, line 1"),
        (
            b"{\"txt\": \"the\"}",
            "none of `text`, `input_ids` and `messages`",
        ),
        (
            b"{\"text\": null, \"input_ids\": null}",
            "`text` is null (in.jsonl, line 1)",
        ),
        (b"{\"input_ids\": [-1]}", "-1 is negative"),
        (b"{\"input_ids\": [1.5]}", "expected an integer"),
        (
            b"{\"input_ids\": [20]}",
            "token id 20 at position 0 is beyond the vocabulary of 20",
        ),
        (
            b"{\"text\": \"the unicorn\"}",
            "token id 500 (`unicorn`) at position 2",
        ),
        (
            b"{\"id\": \"__metadata__\", \"input_ids\": [3]}",
            "__metadata__",
        ),
        (
            b"{\"id\": {}, \"input_ids\": [3]}",
            "expected a string or an integer",
        ),
        (
            b"{\"id\": 1, \"input_ids\": [3]}\n{\"input_ids\": [3]}",
            "same id, line 1 (in.jsonl, line 2)",
        ),
        (
            b"{\"id\": \"a\", \"input_ids\": [3]}\n{\"id\": \"a\", \"input_ids\": [3]}",
            "`a`",
        ),
        (
            b"{\"input_ids\": [3], \"token_type_ids\": [0, 0]}",
            "2 `token_type_ids` for 1 tokens",
        ),
        (
            b"{\"input_ids\": [3], \"token_type_ids\": [1]}",
            "no token types",
        ),
        (
            b"{\"input_ids\": [3], \"images\": [\"a.png\"]}",
            "takes no `images`",
        ),
        (b"{\"messages\": []}", "`messages` is empty"),
        (b"{\"messages\": [\"hi\"]}", "a message is not an object"),
    ] {
        plan(&place, "in.jsonl", content, &[]).failure(3, &[says]);
    }
    plan(&place, "in.txt", b"the\n\xc3\x28\n", &[]).failure(3, &["not UTF-8 (in.txt, line 2)"]);
    plan(&place, "in.csv", b"text\nthe\n", &[])
        .failure(3, &["in.csv", ".jsonl, .txt and .parquet"]);
    plan(&place, "in", b"the\n", &[]).failure(3, &["hint: "]);
    place
        .sli(&["plan", "model", "--input", "none.jsonl"])
        .failure(3, &["none.jsonl"]);
    place
        .sli(&["plan", "model", "--input", "model"])
        .failure(3, &["model/config.json, line 1"]);
    place.write("empty/README.md", "");
    place
        .sli(&["plan", "model", "--input", "empty"])
        .failure(3, &["folder"]);
}

#[test]
fn lengths() {
    let place = Place::with_llama();
    let ids = |count: usize| json!({"id": "long", "input_ids": vec![3; count]}).to_string();
    assert_eq!(counts(&plan(&place, "in.jsonl", ids(12), &[])), (1, 12));
    plan(&place, "in.jsonl", ids(13), &[]).failure(
        3,
        &[
            "record `long` has 13 tokens",
            "trained for 12",
            "--max-length 12",
            "--allow-long",
        ],
    );
    assert_eq!(
        counts(&plan(&place, "in.jsonl", ids(13), &["--allow-long"])),
        (1, 13)
    );
    assert_eq!(
        counts(&plan(&place, "in.jsonl", ids(13), &["--max-length", "5"])),
        (1, 5)
    );
    plan(&place, "in.jsonl", ids(15), &["--max-length", "13"]).failure(3, &["13 tokens"]);
    let text = "the cat sat on a mat";
    for (length, tokens) in [("1", 1), ("2", 2), ("7", 7), ("9", 7)] {
        assert_eq!(
            counts(&plan(&place, "in.txt", text, &["--max-length", length])),
            (1, tokens)
        );
    }
    // A learned table has no rows beyond its end.
    place.write_model("model", &bert());
    assert_eq!(counts(&plan(&place, "in.jsonl", ids(12), &[])), (1, 12));
    for more in [&[][..], &["--allow-long"]] {
        plan(&place, "in.jsonl", ids(13), more)
            .failure(3, &["positions for 12", "--max-length 12"]);
    }
    assert_eq!(
        counts(&plan(&place, "in.jsonl", ids(13), &["--max-length", "12"])),
        (1, 12)
    );
}

#[test]
fn token_types() {
    let place = Place::new();
    place.write_model("model", &bert());
    let line = |types: &[u32]| json!({"input_ids": [3, 4], "token_type_ids": types}).to_string();
    assert_eq!(
        counts(&plan(&place, "in.jsonl", line(&[0, 1]), &[])),
        (1, 2)
    );
    plan(&place, "in.jsonl", line(&[0, 2]), &[])
        .failure(3, &["token type 2 at position 1", "2 types"]);
    plan(&place, "in.jsonl", line(&[0]), &[]).failure(3, &["1 `token_type_ids` for 2 tokens"]);
}

#[test]
fn tokenizers_that_cannot_be_used() {
    let place = Place::new();
    place.write_model("model", &llama());
    let ids = "{\"input_ids\": [3]}";
    assert_eq!(counts(&plan(&place, "in.jsonl", ids, &[])), (1, 1));
    plan(&place, "in.txt", "the", &[]).failure(3, &["no tokenizer.json", "hint: ", "input_ids"]);
    for content in [
        "",
        "{",
        "[]",
        "{\"model\": {\"type\": \"BPE\", \"vocab\": 3}}",
    ] {
        place.write("model/tokenizer.json", content);
        plan(&place, "in.txt", "the", &[]).failure(3, &["model/tokenizer.json"]);
        assert_eq!(counts(&plan(&place, "in.jsonl", ids, &[])), (1, 1));
    }
}

#[test]
fn a_long_line_is_an_error_and_a_long_file_is_not() {
    let place = Place::with_llama();
    let mut long = b"the\n".to_vec();
    long.resize(70 << 20, b'x');
    plan(&place, "in.txt", &long, &[]).failure(3, &["longer than 64 MiB", "in.txt, line 2"]);
    let many = "{\"input_ids\": [3, 4, 5]}\n".repeat(100_000);
    assert_eq!(
        counts(&plan(&place, "in.jsonl", many, &[])),
        (100_000, 300_000)
    );
}
