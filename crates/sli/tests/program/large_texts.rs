//! Tokenizers, texts and files that are larger than the budget: the peak stays within it, or the error names
//! the budget that works.

use serde_json::{Value, json};

use crate::place::{Place, llama};

const MIB: u64 = 1 << 20;
const ENTRIES: usize = 60_000;

/// A place whose tokenizer has many entries, all of them words of letters.
fn place() -> (Place, Vec<String>) {
    let place = Place::new();
    let mut config = llama();
    config["vocab_size"] = json!(ENTRIES + 1000);
    config["max_position_embeddings"] = json!(4_000_000);
    place.write_model("model", &config);
    let mut vocabulary = serde_json::Map::new();
    let mut merges = Vec::new();
    let add = |vocabulary: &mut serde_json::Map<String, Value>, entry: &str| {
        let id = vocabulary.len();
        vocabulary.entry(entry).or_insert(json!(id));
    };
    for letter in ('a'..='z').chain(['▁']) {
        add(&mut vocabulary, &letter.to_string());
    }
    let mut words = Vec::new();
    let mut state = 1_u64;
    while vocabulary.len() < ENTRIES {
        let mut word = "▁".to_owned();
        for _ in 0..6 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let letter = char::from(b'a' + (state >> 33) as u8 % 26);
            let longer = format!("{word}{letter}");
            if !vocabulary.contains_key(&longer) {
                merges.push(json!([word, letter.to_string()]));
                add(&mut vocabulary, &longer);
            }
            word = longer;
        }
        words.push(word.trim_start_matches('▁').to_owned());
    }
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}
    });
    place.write("model/tokenizer.json", tokenizer.to_string());
    place.write(
        "model/tokenizer_config.json",
        json!({"chat_template": "{% for m in messages %}{{ m.content }} {% endfor %}"}).to_string(),
    );
    (place, words)
}

fn text(words: &[String], bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 8);
    for number in 0.. {
        text += &words[number * 7919 % words.len()];
        if text.len() >= bytes {
            break;
        }
        text.push(' ');
    }
    text
}

/// A command on a dataset, within a budget.
fn on<'a>(command: &'a str, input: &'a str, memory: &'a str) -> [&'a str; 10] {
    [
        command,
        "model",
        "--input",
        input,
        "--max-length",
        "16",
        "--take",
        "scores",
        "--memory",
        memory,
    ]
}

/// Runs within a budget and compares the peak with it.
fn within(place: &Place, input: &str, memory: &str, bytes: u64) {
    let run = [&on("run", input, memory)[..], &["--out", "out", "--json"]].concat();
    let outcome = place.sli(&run).success();
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let peak = summary["peak_memory"].as_u64().unwrap();
    assert!(
        0 < peak && peak <= bytes,
        "{input}: {peak} bytes of {memory}"
    );
    fs_err::remove_dir_all(place.path("out")).unwrap();
}

/// What does not fit is refused with a budget, which then works.
fn refused_then_within(place: &Place, input: &str, memory: &str, says: &str) {
    let run = [&on("run", input, memory)[..], &["--out", "out"]].concat();
    let outcome = place.sli(&run).failure(4, &[says, "hint: --memory "]);
    assert!(!place.path("out").exists());
    let (_, flag) = outcome.stderr.split_once("hint: --memory ").unwrap();
    let memory = flag.trim();
    let bytes = memory.strip_suffix("MiB").unwrap().parse::<u64>().unwrap() * MIB;
    within(place, input, memory, bytes);
}

/// The least budget that an ample plan names holds what comes before the pass too.
fn least_of_an_ample_plan_works(place: &Place, input: &str) {
    let plan = |memory: &str| {
        let arguments = [&on("plan", input, memory)[..], &["--json"]].concat();
        place.sli(&arguments)
    };
    let ample: Value = serde_json::from_str(&plan("4GiB").success().stdout).unwrap();
    let least = ample["smallest_memory"].as_u64().unwrap();
    plan(&least.to_string()).success();
    plan(&(least - 1).to_string()).failure(4, &["hint: --memory "]);
    if input == "short.jsonl" {
        let run = [&on("run", input, "4GiB")[..], &["--out", "out", "--json"]].concat();
        let summary: Value = serde_json::from_str(&place.sli(&run).success().stdout).unwrap();
        assert_eq!(summary["plan"]["smallest_memory"], least);
        fs_err::remove_dir_all(place.path("out")).unwrap();
    }
}

fn jsonl(record: &Value) -> String {
    format!("{record}\n")
}

#[test]
fn texts_that_are_large_for_the_budget() {
    let (place, words) = place();
    let long = text(&words, 5_000_000);
    place.write("long.jsonl", jsonl(&json!({"text": long})));
    place.write(
        "chat.jsonl",
        jsonl(&json!({"messages": [{"role": "user", "content": long}]})),
    );
    let many: String = (0..8).map(|_| jsonl(&json!({"text": long}))).collect();
    place.write("many.jsonl", &many);
    place.write(
        "many.txt",
        many.replace("{\"text\":\"", "").replace("\"}", ""),
    );
    for input in ["long.jsonl", "chat.jsonl", "many.jsonl", "many.txt"] {
        within(&place, input, "120MiB", 120 * MIB);
    }
    place.write("short.jsonl", jsonl(&json!({"text": "a"})));
    refused_then_within(
        &place,
        "short.jsonl",
        "50MiB",
        "the tokenizer's 60003 entries",
    );
    refused_then_within(&place, "long.jsonl", "50MiB", "a line of 4.77 MiB");
    // A text without a space has no place where a cut makes no difference.
    let solid = "abcdefghij".repeat(60_000);
    place.write("solid.jsonl", jsonl(&json!({"text": solid})));
    refused_then_within(
        &place,
        "solid.jsonl",
        "100MiB",
        "585.9 KiB of text that cannot be cut",
    );
    let messages = vec![json!({"role": "user", "content": ""}); 100_000];
    place.write("messages.jsonl", jsonl(&json!({"messages": messages})));
    refused_then_within(&place, "messages.jsonl", "100MiB", "a conversation of ");
    let ids = vec![5; 3_000_000];
    place.write("ids.jsonl", jsonl(&json!({"input_ids": ids})));
    refused_then_within(&place, "ids.jsonl", "50MiB", "a line of 5.72 MiB");
    for input in [
        "short.jsonl",
        "long.jsonl",
        "solid.jsonl",
        "messages.jsonl",
        "ids.jsonl",
    ] {
        least_of_an_ample_plan_works(&place, input);
    }
}

#[test]
fn lines_of_any_length() {
    let place = Place::with_llama();
    let mut endless = b"{\"text\": \"".to_vec();
    endless.resize(70 << 20, b'a');
    place.write("endless.jsonl", &endless);
    let run = [
        "run",
        "model",
        "--input",
        "endless.jsonl",
        "--out",
        "out",
        "--memory",
    ];
    for memory in ["60MiB", "4GiB"] {
        let says = [
            "the line is longer than 64 MiB",
            "endless.jsonl, line 1",
            "hint: ",
        ];
        place.sli(&[&run[..], &[memory]].concat()).failure(3, &says);
    }
}
