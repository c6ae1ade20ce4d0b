//! The same bits whatever the budget, threads, spilling, sharing and interruptions, and for a record alone or
//! among others: every take, a family of every kind.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use sli_testing::{Golden, Stored, read_tensors};

use crate::budgets::smallest;
use crate::end_to_end::{results, start};
use crate::place::Place;
use crate::random::Random;

/// A tiny model a mechanism, and the takes that it gives.
const MODELS: [(&str, &[&str]); 7] = [
    (
        "llama-head-dim",
        &["logits", "scores", "topk:3", "embedding:last"],
    ),
    ("bert-flags", &["logits", "topk:3", "embedding:cls"]),
    (
        "gpt2-published-names",
        &["logits", "scores", "topk:7", "embedding:mean"],
    ),
    (
        "mixtral-16-experts",
        &["logits", "scores", "topk:3", "router"],
    ),
    ("deepseek_v3-flags", &["logits", "scores", "router"]),
    ("deepseek_v32-flags", &["scores", "embedding:last"]),
    ("gemma4_text-moe", &["logits", "scores", "router"]),
];

/// Records that share beginnings, and some that share nothing; ids below 90.
fn records(random: &mut Random) -> Vec<String> {
    let common: Vec<usize> = (0..9).map(|_| random.below(90)).collect();
    let mut records = vec![vec![], vec![3]];
    for _ in 0..22 {
        let mut ids = match random.below(3) {
            0 => Vec::new(),
            1 => common[..4].to_vec(),
            _ => common.clone(),
        };
        ids.extend((0..random.below(7)).map(|_| random.below(90)));
        records.push(ids);
    }
    let line =
        |(id, ids): (usize, Vec<usize>)| json!({"id": id, "input_ids": ids}).to_string() + "\n";
    records.into_iter().enumerate().map(line).collect()
}

#[test]
fn any_means_give_the_same_bits() {
    let mut random = Random::new(23);
    for (name, takes) in MODELS {
        let place = Place::new();
        let stored = random.of(&[Stored::F32, Stored::Bf16]);
        Golden::open(name).write(&place.path("model"), stored);
        place.write("in.jsonl", records(&mut random).concat());
        let compute = random.of(&["f32", "bf16"]);
        let mut base = vec!["run", "model", "--input", "in.jsonl", "--compute", compute];
        for take in takes.iter().chain(&["hidden", "profile"]) {
            base.extend(["--take", take]);
        }
        place
            .sli(&[&base[..], &["--out", "first"]].concat())
            .success();
        let expected = results(&place.path("first"));
        for attempt in 0..3 {
            let mut means = vec!["--threads", random.of(&["1", "2", "3"])];
            means.extend(["--spill", random.of(&["auto", "always", "never"])]);
            means.extend(["--checkpoint-interval", random.of(&["0", "60"])]);
            if random.below(2) == 0 {
                means.push("--no-share");
            }
            let (_, least) = smallest(&place, &[&base[..], &means].concat());
            let budget = least + random.next() % (1 << random.of(&[20, 23, 28]));
            let (budget, out) = (budget.to_string(), format!("out-{attempt}"));
            let run = [&base[..], &means, &["--memory", &budget, "--out", &out]].concat();
            if attempt == 0 {
                // Somewhere between its start and its end.
                let mut child = start(&place, &run);
                let state = place.path(&out).join(".sli/state.json");
                while !state.exists() && child.try_wait().unwrap().is_none() {
                    std::thread::yield_now();
                }
                (0..random.below(3_000_000)).for_each(|_| std::hint::spin_loop());
                child.kill().unwrap();
                child.wait().unwrap();
            }
            place.sli(&run).success();
            let found = results(&place.path(&out));
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>()
            );
            for (file, content) in &found {
                assert!(*content == expected[file], "{name}, {file}: {run:?}");
            }
        }
    }
}

#[test]
fn a_record_alone_has_the_bits_that_it_has_among_others() {
    let mut random = Random::new(31);
    for (name, takes) in MODELS {
        let place = Place::new();
        Golden::open(name).write(&place.path("model"), Stored::Bf16);
        let records = records(&mut random);
        let number = 2 + random.below(22);
        place.write("all.jsonl", records.concat());
        place.write("alone.jsonl", &records[number]);
        for input in ["all", "alone"] {
            let file = format!("{input}.jsonl");
            let mut run = vec!["run", "model", "--input", &file, "--out", input];
            for take in takes.iter().chain(&["hidden"]) {
                run.extend(["--take", take]);
            }
            place.sli(&run).success();
        }
        let id = number.to_string();
        for file in results(&place.path("alone")).into_keys() {
            let [all, alone] = ["all", "alone"].map(|out| place.path(out).join(&file));
            if file.ends_with(".safetensors") {
                let (all, alone) = (read_tensors(&all), read_tensors(&alone));
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(
                    bits(&all[&id].values) == bits(&alone[&id].values),
                    "{name}, {file}, {}",
                    records[number]
                );
            } else {
                assert!(
                    rows_of(&all, &id) == rows_of(&alone, &id),
                    "{name}, {file}, {}",
                    records[number]
                );
            }
        }
    }
}

/// The rows of a record in a Parquet file, by column; which row of the input it is depends on the others.
fn rows_of(path: &Path, id: &str) -> BTreeMap<String, Vec<ArrayRef>> {
    let table = read_parquet(path);
    let ids = table.column_by_name("id").unwrap().as_string::<i32>();
    let rows: Vec<usize> = (0..table.num_rows())
        .filter(|&row| ids.value(row) == id)
        .collect();
    assert!(!rows.is_empty(), "{} has no row of {id}", path.display());
    let schema = table.schema();
    let columns = schema.fields().iter().zip(table.columns());
    let cells = |column: &ArrayRef| rows.iter().map(|&row| column.slice(row, 1)).collect();
    columns
        .filter(|(field, _)| field.name() != "row")
        .map(|(field, column)| (field.name().clone(), cells(column)))
        .collect()
}

/// All rows of a Parquet file.
pub fn read_parquet(path: &Path) -> RecordBatch {
    let file = fs_err::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.into_file()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}
