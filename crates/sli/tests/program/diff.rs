//! `sli diff`: how far a checkpoint drifts from another one.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type, UInt32Type, UInt64Type};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sli_testing::{Golden, Stored, goldens_folder};

use crate::budgets::within_every_budget;
use crate::contract::{documented, with_nulls};
use crate::end_to_end::{results, start};
use crate::exactness::read_parquet;
use crate::place::{Place, bert, has, llama, with};
use crate::random::Random;
use crate::report::page;

/// What transformers computes, by `tools/diff/diff.py`.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diff");

/// Relative error and mean cosine by stack, site, layer and kind of error.
type Drift = BTreeMap<(String, String, u32, String), (Option<f64>, Option<f64>)>;

fn drift(out: &Path) -> Drift {
    let table = read_parquet(&out.join("drift.parquet"));
    let text = |name: &str, row: usize| table[name].as_string::<i32>().value(row).to_owned();
    let number = |name: &str, row: usize| {
        let column = table[name].as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let layers = table["layer"].as_primitive::<UInt32Type>();
    let rows = (0..table.num_rows()).map(|row| {
        let place = (
            text("stack", row),
            text("site", row),
            layers.value(row),
            text("error", row),
        );
        (
            place,
            (number("relative_error", row), number("cosine", row)),
        )
    });
    rows.collect()
}

/// The values of a list.
fn floats(table: &RecordBatch, column: &str, row: usize) -> Vec<f32> {
    let list = table[column].as_list::<i32>().value(row);
    list.as_primitive::<Float32Type>().values().to_vec()
}

fn ids(table: &RecordBatch, column: &str, row: usize) -> Vec<u32> {
    let list = table[column].as_list::<i32>().value(row);
    list.as_primitive::<UInt32Type>().values().to_vec()
}

fn manifest(out: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(out.join("run.json")).unwrap()).unwrap()
}

/// Compares two models of a place over a dataset; the folder of the results.
fn diff(place: &Place, models: [&str; 2], more: &[&str]) -> std::path::PathBuf {
    let [a, b] = models;
    let out = format!("out-{a}-{b}").replace('/', "-");
    let run = ["diff", a, b, "--input", "in.jsonl", "--out", &out];
    place.sli(&[&run[..], more].concat()).success();
    place.path(&out)
}

/// Clears all but three bits of the mantissa of every number in a file of f32.
fn keep_few_bits(path: &Path) {
    let mut file = fs_err::read(path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    for entry in header.as_object().unwrap().values() {
        if entry["dtype"] == "F32" {
            let place = |end: usize| entry["data_offsets"][end].as_u64().unwrap() as usize;
            let values = &mut file[8 + length..][place(0)..place(1)];
            for [low, middle, high, _] in values.as_chunks_mut().0 {
                (*low, *middle, *high) = (0, 0, *high & 0xf0);
            }
        }
    }
    fs_err::write(path, file).unwrap();
}

/// A golden as its formula says in `a`, with few bits in `b`, and its records.
fn golden(name: &str) -> Place {
    let place = Place::new();
    let golden = Golden::open(name);
    golden.write(&place.path("a"), Stored::F32);
    golden.write(&place.path("b"), Stored::F32);
    keep_few_bits(&place.path("b/model.safetensors"));
    place.write("in.jsonl", records(&place, &golden));
    place
}

/// The records of a golden as lines, what they see in a file beside them.
fn records(place: &Place, golden: &Golden) -> String {
    let path = goldens_folder().join(&golden.name);
    let stored = fs_err::read(path.join("expected.safetensors")).unwrap();
    let all = SafeTensors::deserialize(&stored).unwrap();
    let is_pictures = |name: &str| {
        ["pixel_", "image_", "aspect_ratio_", "cross_attention_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let mut lines = String::new();
    for line in golden.jsonl().lines() {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let id = record["id"].as_str().unwrap().to_owned();
        let tensors = all.iter().filter_map(|(name, tensor)| {
            let name = name.strip_prefix(&format!("{id}."))?;
            is_pictures(name).then_some((name, tensor))
        });
        let tensors: Vec<_> = tensors.collect();
        if !tensors.is_empty() {
            let file = format!("{id}.safetensors");
            place.write(&file, safetensors::serialize(tensors, None).unwrap());
            record["tensors"] = file.into();
        }
        lines += &(record.to_string() + "\n");
    }
    lines
}

#[track_caller]
fn assert_near(found: f64, expected: f64, what: &str) {
    let tolerance = 0.01 * expected.abs() + 1e-6;
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found}, expected {expected}"
    );
}

#[track_caller]
fn assert_as_expected(name: &str) {
    let text = fs_err::read_to_string(format!("{EXPECTED}/{name}.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let place = golden(name);
    let out = diff(&place, ["a", "b"], &[]);
    let found = drift(&out);
    let mut compared = 0;
    for kind in ["own", "accumulated"] {
        for (stack, layers) in expected[kind].as_object().unwrap() {
            for (layer, numbers) in (1..).zip(layers.as_array().unwrap()) {
                let place = (stack.clone(), "hidden".to_owned(), layer, kind.to_owned());
                let (error, cosine) = found[&place];
                let what = format!("{name}: {place:?}");
                assert_near(error.unwrap(), numbers[0].as_f64().unwrap(), &what);
                // A cosine is one less half of the square of an angle.
                let turned = [cosine.unwrap(), numbers[1].as_f64().unwrap()].map(|cos| 1.0 - cos);
                assert_near(turned[0], turned[1], &what);
                compared += 1;
            }
        }
    }
    assert!(compared >= 4, "{name}");
    let kl = expected["kl"].as_object().unwrap();
    assert!(!kl.is_empty(), "{name}");
    let table = read_parquet(&out.join("divergence.parquet"));
    let names = table["id"].as_string::<i32>();
    let mut agreed = 0;
    for row in 0..table.num_rows() {
        let expected = kl[names.value(row)].as_array().unwrap();
        let found = floats(&table, "kl", row);
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(expected) {
            let what = format!("{name}, record {row}");
            assert_near(f64::from(*found), expected.as_f64().unwrap(), &what);
        }
        let both = ["top_ids", "reference_top_ids"].map(|column| ids(&table, column, row));
        let pairs = both[0].iter().zip(&both[1]);
        agreed += pairs.filter(|(own, reference)| own == reference).count();
    }
    assert_eq!(agreed as u64, expected["top1"].as_u64().unwrap(), "{name}");
    let totals = &manifest(&out)["drift"]["divergence"];
    let positions = totals["positions"].as_u64().unwrap();
    let share = totals["top1_agreement"].as_f64().unwrap();
    assert_eq!(share, agreed as f64 / positions as f64);
}

#[test]
fn errors_and_divergences_are_those_of_the_reference() {
    let names = [
        "llama",
        "mixtral",
        "t5",
        "falcon_h1",
        "bert",
        "llava",
        "qwen2_5_vl",
    ];
    for name in names {
        assert_as_expected(name);
    }
}

#[test]
fn a_model_does_not_drift_from_itself() {
    // Several streams, shared keys, chosen keys, experts, recurrences, stacks of other rows, two stacks, pictures.
    let names = [
        "gemma3n_text",
        "deepseek_v32",
        "qwen3_moe",
        "falcon_h1",
        "mamba2",
        "canine",
        "funnel",
        "bart",
        "t5",
        "led-global",
        "rwkv",
        "llava",
        "qwen3_vl",
        "mistral3",
        "gemma3",
        "mllama",
        "idefics2",
    ];
    for name in names {
        let place = golden(name);
        let out = diff(&place, ["a", "a"], &[]);
        let found = drift(&out);
        assert!(found.len() >= 4, "{name}");
        for (boundary, (error, cosine)) in found {
            assert!(
                error.is_none_or(|error| error == 0.0),
                "{name} {boundary:?}: {error:?}"
            );
            assert!(
                cosine.is_none_or(|cosine| cosine == 1.0),
                "{name} {boundary:?}: {cosine:?}"
            );
        }
        let manifest = manifest(&out);
        let divergence = &manifest["drift"]["divergence"];
        if !divergence.is_null() {
            assert!(
                divergence["kl"]["max"].as_f64().unwrap() < 1e-6,
                "{name}: {divergence}"
            );
            assert_eq!(divergence["top1_agreement"], 1.0, "{name}");
            assert_eq!(divergence["top1_agreement_of_head"], 1.0, "{name}");
            assert_eq!(divergence["perplexity"], divergence["reference_perplexity"]);
        }
        // And it does from another one, in every stack.
        let other = drift(&diff(&place, ["a", "b"], &[]));
        let last = other
            .iter()
            .filter(|((_, site, _, error), _)| site == "hidden" && error == "own");
        let off = last.filter(|(_, (error, _))| error.is_some_and(|error| error > 1e-5));
        assert!(off.count() >= 2, "{name}");
    }
}

#[test]
fn tables_are_what_the_documentation_says_and_agree_with_scores() {
    let place = golden("llama");
    let out = diff(&place, ["a", "b"], &[]);
    let documented = documented();
    for table in ["drift", "divergence"] {
        let path = out.join(format!("{table}.parquet"));
        assert_eq!(
            with_nulls(&path),
            documented[table],
            "docs/results.md: {table}"
        );
    }
    let table = read_parquet(&out.join("divergence.parquet"));
    for (model, column) in [("a", "reference_logprobs"), ("b", "logprobs")] {
        let name = format!("scores-{model}");
        let run = [
            "run", model, "--input", "in.jsonl", "--take", "scores", "--out", &name,
        ];
        place
            .sli(&[&run[..], &["--compute", "f32"]].concat())
            .success();
        let scores = read_parquet(&place.path(&name).join("scores.parquet"));
        assert_eq!(table["row"].as_ref(), scores["row"].as_ref());
        assert_eq!(table["id"].as_ref(), scores["id"].as_ref());
        assert_eq!(
            table[column].as_ref(),
            scores["logprobs"].as_ref(),
            "{model}"
        );
    }
    // Every record once, whatever runs twice; nothing of the trace is left.
    let manifest = manifest(&out);
    let golden = Golden::open("llama");
    let records = golden.records();
    let tokens: usize = records.iter().map(|record| record.input_ids.len()).sum();
    assert_eq!(manifest["records"], records.len());
    assert_eq!(manifest["tokens"], tokens);
    let files: Vec<String> = results(&out).into_keys().collect();
    assert_eq!(files, ["divergence.parquet", "drift.parquet"]);
    let table = read_parquet(&out.join("drift.parquet"));
    let counts = table["tokens"].as_primitive::<UInt64Type>();
    assert!(counts.values().iter().all(|&count| count == tokens as u64));
    let rows = table["least_row"].as_primitive::<Int64Type>();
    assert!(rows.values().iter().all(|&row| row < records.len() as i64));
    // Again: nothing is done.
    let again = ["diff", "a", "b", "--input", "in.jsonl", "--out", "out-a-b"];
    let outcome = place.sli(&again).success();
    assert!(outcome.stderr.contains("finished already"), "{outcome:?}");
    // Another reference is another comparison.
    let other = ["diff", "b", "a", "--input", "in.jsonl", "--out", "out-a-b"];
    place.sli(&other).failure(3, &["reference ", "--fresh"]);
}

#[test]
fn a_page_shows_where_a_model_drifts() {
    for (name, parts) in [
        ("llama", &["Drift by layer"][..]),
        (
            "t5",
            &[
                "Drift of the decoder by layer",
                "Drift of the encoder by layer",
            ],
        ),
        ("bert", &["Divergence by position"]),
    ] {
        let place = golden(name);
        let out = diff(&place, ["a", "b"], &["--report"]);
        let html = page(&place, "out-a-b/report.html");
        let always = [
            "Relative error",
            "Every boundary",
            "mean divergence",
            "same most probable token",
            "Records that diverge most",
        ];
        for part in always.iter().chain(parts) {
            assert!(html.contains(part), "{name}: {part}");
        }
        // The totals of run.json, and every row of the table.
        let kl = manifest(&out)["drift"]["divergence"]["kl"]["mean"].clone();
        let start = format!("{kl:.6}").trim_start_matches("0.").to_owned();
        assert!(!start.is_empty() && html.contains(&start[..3]), "{kl}");
        let rows = read_parquet(&out.join("drift.parquet")).num_rows();
        let every: usize = html
            .split("<summary>Every boundary</summary>")
            .skip(1)
            .map(|part| part.split("</details>").next().unwrap())
            .map(|part| part.matches("<tr>").count() - 1)
            .sum();
        assert_eq!(every, rows, "{name}");
    }
    // Of a finished comparison as well; what is damaged is refused or shown, whatever byte it is.
    let place = golden("llama");
    let out = diff(&place, ["a", "b"], &[]);
    assert!(!has(&out, "report.html"));
    diff(&place, ["a", "b"], &["--report"]);
    page(&place, "out-a-b/report.html");
    for name in ["drift.parquet", "divergence.parquet"] {
        let whole = fs_err::read(out.join(name)).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 40) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs_err::write(out.join(name), bytes).unwrap();
            let outcome = Place::outcome(&mut place.command(&["report", "out-a-b"]));
            assert!([0, 3].contains(&outcome.code), "{name}, {at}: {outcome:?}");
        }
        fs_err::write(out.join(name), whole).unwrap();
    }
}

/// Models that are larger than small budgets, and records for them.
fn larger(place: &Place) {
    let sizes = json!({"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "max_position_embeddings": 256});
    place.write_model("a", &with(llama(), &sizes));
    place.write_fp8_model("b", &with(llama(), &sizes));
    let mut random = Random::new(5);
    let lines: String = (0..40)
        .map(|_| {
            let ids: Vec<usize> = (0..random.below(200)).map(|_| random.below(20)).collect();
            json!({"input_ids": ids}).to_string() + "\n"
        })
        .collect();
    place.write("in.jsonl", lines);
}

#[test]
fn every_budget_gives_the_same_bytes() {
    let place = Place::new();
    larger(&place);
    let run = ["diff", "a", "b", "--input", "in.jsonl"];
    within_every_budget(&place, &run);
    let expected = results(&diff(&place, ["a", "b"], &[]));
    for (number, more) in [
        &["--threads", "1"][..],
        &["--spill", "always", "--memory", "48MiB"],
        &["--no-share", "--checkpoint-interval", "0"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("other-{number}");
        let run = [&run[..], &["--out", &out], more].concat();
        place.sli(&run).success();
        assert!(results(&place.path(&out)) == expected, "{more:?}");
    }
}

#[test]
fn a_kill_at_any_moment_changes_no_byte() {
    let place = Place::new();
    larger(&place);
    let expected = results(&diff(&place, ["a", "b"], &[]));
    let memory = ["--memory", "48MiB", "--checkpoint-interval", "0"];
    let run = ["diff", "a", "b", "--input", "in.jsonl", "--out", "killed"];
    let run = [&run[..], &memory].concat();
    let out = place.path("killed");
    let passes = |folder: &str| {
        fs_err::metadata(out.join(folder).join("passes")).map_or(0, |metadata| metadata.len())
    };
    // Passes through layers so far: first those of the reference.
    let progress = || {
        if out.join(".sli/reference/run.json").exists() {
            1000 + passes(".sli")
        } else {
            passes(".sli/reference/.sli")
        }
    };
    let mut killed = 0;
    while killed < 12 {
        let wanted = progress() + 2;
        let mut child = start(&place, &run);
        while progress() < wanted && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    assert!(killed > 3, "{killed}");
    place.sli(&run).success();
    assert!(results(&out) == expected);
}

#[test]
fn models_of_another_shape_are_refused() {
    let place = Place::with_llama();
    let other = |name: &str, more: Value| place.write_model(name, &with(llama(), &more));
    other("layers", json!({"num_hidden_layers": 3}));
    other("width", json!({"hidden_size": 32}));
    other("vocabulary", json!({"vocab_size": 24}));
    place.write_model("bert", &bert());
    place.write("in.jsonl", "{\"input_ids\": [1, 2]}\n");
    for (name, says) in [
        ("layers", "decoder layers: 2 and 3"),
        ("width", "decoder width: 16 and 32"),
        ("vocabulary", "vocabulary: 20 and 24"),
        ("bert", "stacks: decoder and encoder"),
    ] {
        let run = ["diff", "model", name, "--input", "in.jsonl", "--out", "out"];
        place
            .sli(&run)
            .failure(3, &["not models of the same shape", says]);
        assert!(!place.path("out").exists(), "{name}");
    }
    place
        .sli(&[
            "diff", "model", "missing", "--input", "in.jsonl", "--out", "out",
        ])
        .failure(3, &["missing"]);
    place
        .sli(&[
            "diff",
            "model",
            "model",
            "--input",
            "none.jsonl",
            "--out",
            "out",
        ])
        .failure(3, &["none.jsonl"]);
    assert!(!place.path("out").exists());
}

#[test]
fn other_tokens_of_the_same_text_are_refused_unless_told() {
    let place = Place::with_llama();
    place.write_model("other", &llama());
    place.write(
        "in.jsonl",
        "{\"text\": \"the cat sat\"}\n{\"text\": \"the dog ran\"}\n",
    );
    let run = [
        "diff", "model", "other", "--input", "in.jsonl", "--out", "out",
    ];
    // No tokenizer: those of the reference.
    let outcome = place.sli(&run).success();
    assert!(outcome.stderr.contains("has no tokenizer"), "{outcome:?}");
    let expected = results(&place.path("out"));
    // Two words are exchanged.
    let tokenizer = fs_err::read_to_string(place.path("model/tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    let vocabulary = &mut tokenizer["model"]["vocab"];
    let dog = vocabulary["dog"].clone();
    vocabulary["dog"] = vocabulary["ran"].clone();
    vocabulary["ran"] = dog;
    place.write("other/tokenizer.json", tokenizer.to_string());
    let fresh = [&run[..], &["--fresh"]].concat();
    place.sli(&fresh).failure(
        3,
        &[
            "other tokens of the same data",
            "record 1, token 2: 11 and 12",
            "--reference-tokens",
        ],
    );
    let told = [&fresh[..], &["--reference-tokens"]].concat();
    place.sli(&told).success();
    assert!(results(&place.path("out")) == expected);
}
