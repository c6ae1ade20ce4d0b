//! Random damage to every kind of file that the program reads: an error with the right exit code or a
//! result, never a panic, a signal or a hang.
//!
//! `SLI_MUTATIONS=N` tries more, `SLI_MUTATIONS_SEED=N` others.

use std::path::PathBuf;

use serde_json::json;

use crate::place::{Place, llama};
use crate::random::Random;

/// What parsers stumble over.
const PIECES: [&[u8]; 24] = [
    b"-1",
    b"0",
    b"1e999",
    b"1e30",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"\xff",
    b"\0",
    b"\n",
    b"[[[[[[[[[[[[[[[[",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// One to three changes of a file.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + 1 + random.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let piece = random.of(&PIECES);
                bytes.splice(at..at, piece.iter().copied());
            }
            // A number or a word of the text becomes another.
            _ => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
                let start = bytes[..at].iter().rposition(|byte| !is_part(byte));
                let start = start.map_or(0, |start| start + 1);
                let length = bytes[at..].iter().position(|byte| !is_part(byte));
                let end = at + length.unwrap_or(bytes.len() - at);
                let piece = random.of(&PIECES);
                bytes.splice(start..end, piece.iter().copied());
            }
        }
    }
}

#[test]
fn damage_is_an_error_or_does_not_matter() {
    let place = Place::with_llama();
    let lines = [
        json!({"id": "a", "text": "the cat sat"}),
        json!({"input_ids": [3, 4, 5]}),
        json!({"messages": [{"role": "user", "content": "the dog"}]}),
    ];
    place.write("in.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let mut scaled = llama();
    scaled["rope_scaling"] = json!({
        "rope_type": "yarn", "factor": 2.0, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 6
    });
    place.write("model/config.json", scaled.to_string());
    let weights = fs_err::read(place.path("model/model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let names: serde_json::Map<_, _> = serde_json::from_slice(&weights[8..header]).unwrap();
    let map: serde_json::Map<_, _> = names
        .keys()
        .map(|name| (name.clone(), json!("model.safetensors")))
        .collect();
    place.write(
        "model/model.safetensors.index.json",
        json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string(),
    );
    let files: [&str; 6] = [
        "model/config.json",
        "model/model.safetensors",
        "model/model.safetensors.index.json",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "in.jsonl",
    ];
    let originals: Vec<(PathBuf, Vec<u8>)> = files
        .map(|name| (place.path(name), fs_err::read(place.path(name)).unwrap()))
        .into();
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--out",
        "out",
        "--memory",
        "200MiB",
        "--fresh",
        "--threads",
        "1",
        "--take",
        "scores",
        "--take",
        "hidden",
    ];
    let mut random = Random::new(setting("SLI_MUTATIONS_SEED", 1));
    let mut refused = 0;
    let tries = setting("SLI_MUTATIONS", 240);
    for _ in 0..tries {
        let (path, original) = &originals[random.below(originals.len())];
        let mut bytes = original.clone();
        if path.ends_with("model.safetensors") {
            // Most of the file is data, in which little can go wrong.
            let data = bytes.split_off(header);
            mutate(&mut random, &mut bytes);
            bytes.extend(data);
        } else {
            mutate(&mut random, &mut bytes);
        }
        fs_err::write(path, &bytes).unwrap();
        let outcome = place.sli(&run);
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]).into_owned();
        assert!(
            [0, 3].contains(&outcome.code),
            "{outcome:?}\n{}: {text}",
            path.display()
        );
        if outcome.code != 0 {
            refused += 1;
            assert!(outcome.stderr.contains("error: "), "{outcome:?}\n{text}");
            assert!(outcome.stderr.contains("\nhint: "), "{outcome:?}\n{text}");
            let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            assert!(!outcome.stderr.contains(commands), "{outcome:?}");
        }
        fs_err::write(path, original).unwrap();
    }
    assert!(refused > tries / 3, "{refused} of {tries} were refused");
    place.sli(&run).success();
}
