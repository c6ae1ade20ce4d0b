//! `--take imatrix`: what enters every matrix, as llama.cpp's quantiser reads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use sli_testing::{Expected, Golden, Stored, compare as compare_values, read_tensors};

use crate::budgets::within_every_budget;
use crate::end_to_end::results;
use crate::kills::kill_a_dozen_times;
use crate::place::{Place, llama, with};
use crate::random::Random;
use crate::shards::compare;

/// What transformers computes, by `tools/imatrix/imatrix.py`.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/imatrix");

/// A file of llama.cpp's form.
#[derive(Debug, Default)]
struct Imatrix {
    texts: BTreeMap<String, String>,
    numbers: BTreeMap<String, u32>,
    /// In their order: shape as it is stored, values.
    tensors: Vec<(String, Vec<u64>, Vec<f32>)>,
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().unwrap();
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let length = self.u64() as usize;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
}

impl Imatrix {
    fn read(path: &Path) -> Self {
        let file = fs_err::read(path).unwrap();
        let mut bytes = Bytes(&file);
        assert_eq!(&bytes.take::<4>(), b"GGUF");
        assert_eq!(bytes.u32(), 3);
        let (tensors, members) = (bytes.u64(), bytes.u64());
        let mut found = Self::default();
        for _ in 0..members {
            let name = bytes.text();
            match bytes.u32() {
                4 => drop(found.numbers.insert(name, bytes.u32())),
                8 => drop(found.texts.insert(name, bytes.text())),
                9 => {
                    assert_eq!(bytes.u32(), 8);
                    let all: Vec<String> = (0..bytes.u64()).map(|_| bytes.text()).collect();
                    found.texts.insert(name, all.join(" "));
                }
                other => panic!("{name} has type {other}"),
            }
        }
        let mut places = Vec::new();
        for _ in 0..tensors {
            let name = bytes.text();
            let shape: Vec<u64> = (0..bytes.u32()).map(|_| bytes.u64()).collect();
            assert_eq!(bytes.u32(), 0, "{name} is f32");
            places.push((name, shape, bytes.u64() as usize));
        }
        let data = (file.len() - bytes.0.len()).next_multiple_of(32);
        let mut end = 0;
        for (name, shape, offset) in places {
            // As ggml wants them: one behind the other.
            assert_eq!(offset, end, "{name}");
            let length = 4 * shape.iter().product::<u64>() as usize;
            let values = file[data + offset..][..length].as_chunks().0.iter();
            let values = values.map(|value| f32::from_le_bytes(*value)).collect();
            end = (offset + length).next_multiple_of(32);
            found.tensors.push((name, shape, values));
        }
        assert_eq!(data + end, file.len());
        found
    }
}

#[track_caller]
fn assert_as_expected(name: &str) {
    let place = Place::new();
    let golden = Golden::open(name);
    golden.write(&place.path("model"), Stored::F32);
    let records = golden.records();
    let lines = records
        .iter()
        .map(|record| json!({"input_ids": record.input_ids}).to_string() + "\n");
    place.write("calibration.jsonl", lines.collect::<String>());
    let run = [
        "run",
        "model",
        "--input",
        "calibration.jsonl",
        "--out",
        "out",
    ];
    place
        .sli(&[&run[..], &["--take", "imatrix", "--compute", "f32"]].concat())
        .success();
    let found = Imatrix::read(&place.path("out/imatrix.gguf"));
    assert_eq!(found.texts["general.type"], "imatrix");
    assert_eq!(found.texts["imatrix.datasets"], "calibration.jsonl");
    assert_eq!(found.numbers["imatrix.chunk_count"], records.len() as u32);
    let longest = records.iter().map(|record| record.input_ids.len()).max();
    assert_eq!(Some(found.numbers["imatrix.chunk_size"] as usize), longest);

    let expected = read_tensors(Path::new(&format!("{EXPECTED}/{name}.safetensors")));
    let key = |name: &str| {
        let (matrix, ending) = name.rsplit_once('.').unwrap();
        (matrix.to_owned(), ending == "counts")
    };
    let names = found.tensors.iter().map(|tensor| &*tensor.0);
    let mut names: Vec<&str> = names.collect();
    assert!(names.is_sorted_by_key(|name| key(name)));
    names.sort_unstable();
    assert!(names.iter().eq(expected.keys()), "{names:?}");
    for (name, shape, values) in found.tensors {
        let columns = if name.ends_with(".counts") {
            1
        } else {
            shape[0] as usize
        };
        let rows = values.len() / columns;
        // As ggml writes shapes: without ones at their end.
        assert_eq!(shape.len(), if rows == 1 { 1 } else { 2 }, "{name}");
        assert_eq!(shape[0], columns as u64, "{name}");
        let wanted = &expected[&name];
        if columns == 1 {
            assert_eq!(values, wanted.values, "{name}");
            continue;
        }
        let shape = [rows, columns];
        let own = Expected { shape, values };
        compare_values(&own, wanted, 1e-4).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[test]
fn a_llama() {
    assert_as_expected("llama");
}

#[test]
fn experts_and_their_router() {
    assert_as_expected("qwen3_moe");
    assert_as_expected("mixtral");
}

#[test]
fn matrices_stored_the_other_way_and_three_in_one() {
    assert_as_expected("gpt2");
    assert_as_expected("gpt_neox");
}

#[test]
fn halves_of_one_matrix() {
    assert_as_expected("phi3");
}

/// A model with experts, and records of mixed lengths that begin alike.
fn prepare(place: &Place) -> [&'static str; 8] {
    let experts = json!({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4,
                         "num_experts_per_tok": 2, "max_position_embeddings": 200, "num_hidden_layers": 3});
    place.write_model("model", &with(llama(), &experts));
    let mut random = Random::new(3);
    let lines = (0..60).map(|_| {
        let length = random.below(40);
        let token = |at: usize| if at < 5 { at } else { random.below(20) };
        let ids: Vec<usize> = (0..length).map(token).collect();
        json!({"input_ids": ids}).to_string() + "\n"
    });
    place.write("in.jsonl", lines.collect::<String>());
    [
        "run", "model", "--input", "in.jsonl", "--take", "imatrix", "--take", "scores",
    ]
}

#[test]
fn means_change_no_bit() {
    let place = Place::new();
    let run = prepare(&place);
    let of = |out: &str, more: &[&str]| {
        place
            .sli(&[&run[..], &["--out", out], more].concat())
            .success();
        results(&place.path(out))
    };
    let expected = of("plain", &[]);
    assert!(expected.contains_key("imatrix.gguf") && expected.len() == 2);
    for (out, more) in [
        ("one", &["--threads", "1"][..]),
        ("small", &["--memory", "42MiB"]),
        ("spill", &["--spill", "always", "--threads", "2"]),
        ("alone", &["--no-share"]),
        ("often", &["--checkpoint-interval", "0"]),
    ] {
        assert!(of(out, more) == expected, "{more:?}");
    }
    within_every_budget(&place, &run);
}

#[test]
fn parts_are_the_whole() {
    let place = Place::new();
    let run = prepare(&place);
    compare(&place, &run, &[1, 3]);
    // Parts without a record.
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n{\"input_ids\": []}\n");
    compare(&place, &run, &[4]);
    let merge = [
        "merge",
        "part-1-of-4",
        "part-2-of-4",
        "part-3-of-4",
        "part-4-of-4",
        "--out",
        "again",
    ];
    let path = place.path("part-1-of-4/imatrix.accumulators");
    let mut wrong = fs_err::read(&path).unwrap();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    fs_err::write(&path, wrong).unwrap();
    place
        .sli(&merge)
        .failure(5, &["imatrix.accumulators", "hint: run this part again"]);
}

#[test]
fn kills_change_no_byte() {
    let place = Place::new();
    let run = prepare(&place);
    let means = ["--memory", "42MiB", "--checkpoint-interval", "0"];
    kill_a_dozen_times(&place, &[&run[..], &means].concat(), 23);
}

#[test]
fn types_without_names_are_refused() {
    let place = Place::new();
    Golden::open("xglm").write(&place.path("model"), Stored::F32);
    place.write("in.jsonl", "{\"input_ids\": [5, 6]}\n");
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "imatrix",
    ];
    place.sli(&run).failure(
        2,
        &["no `imatrix`: llama.cpp's names of the matrices of `xglm` are not known"],
    );
    Golden::open("t5").write(&place.path("model"), Stored::F32);
    place
        .sli(&run)
        .failure(2, &["none of its tensors is called `blk.*`"]);
    // What enters these tensors there is something else.
    Golden::open("deepseek_v3").write(&place.path("model"), Stored::F32);
    let said = place.sli(&run).success().stderr;
    assert!(
        said.contains("imatrix.gguf will not have `blk.0.attn_k_b.weight` and its like"),
        "{said}"
    );
}
