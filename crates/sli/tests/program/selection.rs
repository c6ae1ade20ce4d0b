//! Records with several contents, or with none: what is used, what is refused, what is left out.

use serde_json::{Value, json};

use crate::exactness::read_parquet;
use crate::place::{Outcome, Place};
use arrow::array::AsArray;
use arrow::datatypes::UInt32Type;

fn run(place: &Place, lines: &[Value], more: &[&str]) -> Outcome {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    run_text(place, &lines.join("\n"), more)
}

fn run_text(place: &Place, text: &str, more: &[&str]) -> Outcome {
    place.write("in.jsonl", text);
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores", "--json",
        "--fresh",
    ];
    place.sli(&[&run[..], more].concat())
}

/// Ids of the results and the tokens of each.
#[track_caller]
fn tokens(place: &Place) -> Vec<(String, Vec<u32>)> {
    let scores = read_parquet(&place.path("out/scores.parquet"));
    let ids = scores["id"].as_string::<i32>().iter().flatten();
    let lists = scores["token_ids"].as_list::<i32>();
    ids.zip(lists.iter().flatten())
        .map(|(id, list)| {
            (
                id.to_owned(),
                list.as_primitive::<UInt32Type>().values().to_vec(),
            )
        })
        .collect()
}

fn of(records: &[(&str, &[u32])]) -> Vec<(String, Vec<u32>)> {
    records
        .iter()
        .map(|(id, tokens)| ((*id).to_owned(), tokens.to_vec()))
        .collect()
}

#[test]
fn ids_go_before_messages_and_these_before_text() {
    let place = Place::with_llama();
    let all = json!({"text": "the", "messages": [{"role": "user", "content": "a"}], "input_ids": [5, 6, 0, 0],
                     "attention_mask": [1, 1, 0, 0], "token_type_ids": [0, 0, 0, 0]});
    let outcome = run(&place, &[all.clone(), all.clone()], &[]).success();
    assert_eq!(tokens(&place), of(&[("0", &[5, 6]), ("1", &[5, 6])]));
    let said = "warning: records have `input_ids` and `messages`, `text`: `input_ids` is used";
    assert_eq!(outcome.stderr.matches(said).count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("--use"), "{outcome:?}");
    let outcome = run(&place, std::slice::from_ref(&all), &["--use", "text"]).success();
    assert!(!outcome.stderr.contains("is used"), "{outcome:?}");
    let text = tokens(&place);
    assert_eq!(text[0].1.len(), 2);
    run(&place, &[json!({"text": "the"})], &[]).success();
    assert_eq!(tokens(&place), text);
    run(&place, std::slice::from_ref(&all), &["--use", "messages"]).success();
    let messages = tokens(&place);
    let mut without_ids = all.clone();
    for key in ["input_ids", "attention_mask", "token_type_ids"] {
        without_ids[key] = Value::Null;
    }
    let outcome = run(&place, &[without_ids], &[]).success();
    assert!(outcome.stderr.contains("`messages` is used"), "{outcome:?}");
    assert_eq!(tokens(&place), messages);

    let other = json!({"text": "the"});
    let outcome = run(&place, &[all, other], &["--use", "input_ids"]);
    outcome.failure(
        3,
        &[
            "the record has no `input_ids`",
            "in.jsonl, line 2",
            "hint: with --use",
        ],
    );
    let null = json!({"text": null, "input_ids": [5]});
    run(&place, &[null], &["--use", "text"]).failure(3, &["`text` is null"]);
    run(&place, &[json!({"text": "a"})], &["--use", "words"]).failure(2, &["--use"]);
}

#[test]
fn what_was_chosen_is_part_of_the_run() {
    let place = Place::with_llama();
    let record = json!({"text": "the", "input_ids": [5, 6]});
    run(&place, &[record], &[]).success();
    let again = |more: &[&str]| {
        let run = [
            "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
        ];
        place.sli(&[&run[..], more].concat())
    };
    assert!(again(&[]).success().stderr.contains("finished already"));
    again(&["--use", "text"]).failure(3, &["another run", "use"]);
    again(&["--skip-empty"]).failure(3, &["another run", "null and empty records"]);
}

#[test]
fn null_and_empty_records_are_left_out_where_that_is_asked_for() {
    let place = Place::with_llama();
    let records = [
        json!({"text": null}),
        json!({"text": "the"}),
        json!({"text": ""}),
        json!({"input_ids": []}),
        json!({"messages": null}),
        json!({"messages": []}),
        json!({"input_ids": [5]}),
    ];
    run(&place, &records, &[]).failure(
        3,
        &["`text` is null (in.jsonl, line 1)", "hint: --skip-empty"],
    );
    run(&place, &records[4..], &[]).failure(3, &["`messages` is null (in.jsonl, line 1)"]);
    let outcome = run(&place, &records, &["--skip-empty"]).success();
    let ids: Vec<String> = tokens(&place).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["1", "6"]);
    assert!(
        outcome.stderr.contains("5 records that are null or empty"),
        "{outcome:?}"
    );
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&summary["records"], &summary["skipped"]),
        (&json!(2), &json!(5))
    );
    let missing = run(&place, &[json!({"label": 1})], &["--skip-empty"]);
    missing.failure(3, &["the record has none of `text`"]);
    let none = run(&place, &records[..1], &["--skip-empty"]);
    none.failure(3, &["all 1 records are null or empty"]);
    // Batches of nothing but such records do not end the run.
    let many = "{\"text\": null}\n".repeat(2000) + "{\"text\": \"the\"}\n{\"text\": NaN}";
    run_text(&place, &many, &["--skip-empty"]).success();
    assert_eq!(tokens(&place)[0].0, "2000");
}

#[test]
fn null_ids() {
    let place = Place::with_llama();
    let lines = |ids: &[Value]| -> Vec<Value> {
        ids.iter()
            .map(|id| json!({"id": id, "text": "the"}))
            .collect()
    };
    let numbers = run(&place, &lines(&[Value::Null, Value::Null]), &[]);
    numbers.success();
    assert_eq!(tokens(&place)[1].0, "1");
    run(&place, &lines(&[json!(1), Value::Null]), &[]).failure(
        3,
        &["the id is null, but earlier records have ids (in.jsonl, line 2)"],
    );
    run(&place, &lines(&[Value::Null, json!("a")]), &[]).failure(
        3,
        &["the record has the id `a`, but the id of an earlier one is null"],
    );
    run(&place, &lines(&[json!(1.0)]), &[]).failure(3, &["`id`: 1.0 is no whole number", "Int64"]);
    run(&place, &lines(&[json!(true)]), &[]).failure(3, &["`id`", "boolean"]);
    let odd = lines(&[
        json!("a\u{0}\n\tb"),
        json!(-3),
        json!(u64::MAX),
        json!("x".repeat(60_000)),
    ]);
    run(&place, &odd, &[]).success();
    let ids: Vec<String> = tokens(&place).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids[..3], ["a\u{0}\n\tb", "-3", "18446744073709551615"]);
}

#[test]
fn what_python_writes_beside_json() {
    let place = Place::with_llama();
    let text = "{\"id\": \"a\", \"text\": \"the\", \"score\": NaN}\n\
                {\"id\": \"b\", \"text\": \"a\", \"more\": {\"x\": [-Infinity, \"NaN\"]}, \"u\": \"\\ud83d\"}\n";
    run_text(&place, text, &[]).success();
    assert_eq!(tokens(&place).len(), 2);
    for (line, says) in [
        ("{\"text\": NaN}", &["`text` is NaN (in.jsonl, line 1)"][..]),
        ("{\"id\": NaN, \"text\": \"a\"}", &["`id` is NaN"]),
        (
            "{\"input_ids\": [1, Infinity]}",
            &["`input_ids` holds Infinity"],
        ),
        (
            "{\"text\": \"a \\ud83d\"}",
            &["half of a surrogate pair", "`text`"],
        ),
        (
            "[\n{\"text\": \"a\"}\n]",
            &["the file is a JSON array", "jq"],
        ),
        (
            "{\n \"text\": \"a\"\n}",
            &["the line ends within its object", "jq"],
        ),
        (
            "{\"text\": \"a\"} {\"text\": \"b\"}",
            &["trailing characters"],
        ),
        ("{'text': 'a'}", &["key must be a string"]),
    ] {
        run_text(&place, line, &[]).failure(3, says);
    }
}

#[test]
fn records_of_other_forms_say_what_to_do() {
    let place = Place::with_llama();
    for (record, hint) in [
        (
            json!({"conversations": [{"from": "human", "value": "a"}]}),
            "`role` (user, assistant) for `from`",
        ),
        (json!({"chosen": "a", "rejected": "b"}), "make two records"),
        (
            json!({"sentence1": "a", "sentence2": "b"}),
            "--column text_pair=sentence2",
        ),
        (json!({"words": "a"}), "spelled otherwise"),
    ] {
        run(&place, &[record], &[]).failure(3, &["the record has none of `text`", hint]);
    }
    run(&place, &[json!({"text": "the", "question": "a"})], &[]).success();
    run(&place, &[json!({"text": "the", "pixel_values": [1]})], &[])
        .failure(3, &["takes no `pixel_values`"]);
}

#[test]
fn pairs() {
    let place = Place::with_llama();
    // The tokenizer has no template for pairs of its own: the texts follow each other.
    let pair = json!({"text": "the cat", "text_pair": "the dog"});
    run(
        &place,
        &[pair.clone(), json!({"text": "the cat", "text_pair": ""})],
        &[],
    )
    .success();
    let found = tokens(&place);
    run(
        &place,
        &[
            json!({"text": "the cat"}),
            json!({"text": "the dog", "text_pair": null}),
        ],
        &[],
    )
    .success();
    let alone = tokens(&place);
    // No second text is none.
    assert_eq!(found[1].1, alone[0].1);
    assert_ne!(found[0].1, alone[0].1);
    assert!(
        found[0].1.ends_with(&alone[1].1[1..]),
        "{found:?} {alone:?}"
    );
    run(&place, &[json!({"text_pair": "a"})], &[])
        .failure(3, &["the record has `text_pair`, but no `text`"]);
    run(&place, &[json!({"text": null, "text_pair": "a"})], &[]).failure(3, &["`text` is null"]);
    run(&place, &[json!({"text": "a", "text_pair": ["b"]})], &[]).failure(3, &["`text_pair`"]);
    let ids = json!({"input_ids": [5], "text": "a", "text_pair": "b"});
    let outcome = run(&place, &[ids], &[]).success();
    assert!(
        outcome
            .stderr
            .contains("`input_ids` and `text`, `text_pair`"),
        "{outcome:?}"
    );
}

#[test]
fn files_that_are_not_what_they_are_called() {
    let place = Place::with_llama();
    let plan = |file: &str, content: &[u8]| {
        place.write(file, content);
        place.sli(&["plan", "model", "--json", "--input", file])
    };
    let line = b"{\"text\": \"the\"}\n";
    for name in ["a.ndjson", "a.json", "a.JSONL"] {
        plan(name, line).success();
    }
    let utf16: Vec<u8> = "{\"text\": \"the\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let marked = [&b"\xff\xfe"[..], &utf16].concat();
    for (content, says) in [
        (
            &b"\x1f\x8b\x08\0\0\0\0\0"[..],
            &["the input is compressed with gzip", ".gz"][..],
        ),
        (
            b"\x28\xb5\x2f\xfd....",
            &["the input is compressed with zstd"],
        ),
        (b"BZh91AY&SY....", &["the input is compressed with bzip2"]),
        (b"\xfd7zXZ\0....", &["the input is compressed with xz"]),
        (b"PK\x03\x04....", &["the input is a zip archive"]),
        (
            b"PAR1....PAR1",
            &["the input is Parquet", "name it .parquet"],
        ),
        (
            b"ARROW1\0\0....",
            &["the input is an Arrow file", "to_parquet"],
        ),
        (
            b"\xff\xff\xff\xff\x10\0\0\0",
            &["the input is an Arrow stream", "to_parquet"],
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            &["a pointer of Git LFS", "git lfs pull"],
        ),
        (&utf16, &["the input is UTF-16", "iconv"]),
        (&marked, &["the input is UTF-16", "iconv"]),
    ] {
        for name in ["b.jsonl", "b.txt", "b.json"] {
            plan(name, content).failure(3, says);
        }
    }
    plan("c.parquet", b"\x1f\x8b\x08\0\0\0\0\0").failure(3, &["compressed with gzip"]);
    // Texts may begin like that.
    for text in ["PAR1 is a mark", "BZh is none", "version 1", "PK"] {
        plan("d.txt", text.as_bytes()).success();
    }
    for (name, says) in [
        ("e.jsonl.gz", "compressed"),
        ("e.csv", "to_parquet"),
        ("e.arrow", "to_parquet"),
        ("e.pq", "rename"),
        ("e", "formats are .jsonl, .txt and .parquet"),
    ] {
        plan(name, line).failure(3, &[says]);
    }
}
