//! Products of what enters every matrix with itself: what transformers computes, and the same bytes by any means.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use safetensors::SafeTensors;
use sli_engine::journal::{Opened, OutputFolder, RunKey, SHARD};
use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::{
    Compute, EngineError, Event, Merged, Model, Observer, OpenOptions, Quiet, Settings, Shard,
    Spill, merge, run,
};
use sli_spec::{LengthLimit, ModelSpec};
use sli_testing::{Expected, Golden, Stored, compare, read_tensors};

use support::{Files, files, open};

/// What transformers computes, by `tools/hessian/hessian.py`: the first rows of each.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hessian");

fn settings() -> Settings {
    Settings {
        takes: vec!["hessian".parse().unwrap()],
        memory: 8 << 30,
        spill_room: 1 << 30,
        compute: Compute::F32,
        ..Settings::default()
    }
}

fn results(
    model: &Model,
    records: &RecordSpool,
    settings: &Settings,
) -> Result<Files, EngineError> {
    let out = tempfile::tempdir().unwrap();
    run(model, records, settings, open(out.path()), &Quiet)?;
    Ok(files(out.path()))
}

/// Of a matrix, by one of its names: inputs, products, rows, records.
struct Matrix {
    inputs: usize,
    products: Vec<f32>,
    tokens: i64,
    sequences: i64,
}

/// All matrices of a file, shared ones by all of their names.
fn matrices(bytes: &[u8]) -> BTreeMap<String, Matrix> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata.len(), 1);
    let shared: BTreeMap<String, String> = serde_json::from_str(&metadata["shared"]).unwrap();
    let names = file.names().into_iter();
    let own = names.filter_map(|name| name.strip_suffix(".xtx").map(str::to_owned));
    let own: Vec<String> = own.collect();
    assert_eq!(file.len(), 3 * own.len());
    let count = |name: String| {
        let tensor = file.tensor(&name).unwrap();
        assert_eq!(tensor.shape(), [1]);
        i64::from_le_bytes(tensor.data().try_into().unwrap())
    };
    let matrix = |name: &str| {
        let tensor = file.tensor(&format!("{name}.xtx")).unwrap();
        let values = tensor.data().as_chunks().0.iter();
        let products: Vec<f32> = values.map(|value| f32::from_le_bytes(*value)).collect();
        let inputs = tensor.shape()[0];
        assert_eq!(tensor.shape(), [inputs; 2]);
        for row in 0..inputs {
            for column in 0..row {
                let mirrored = products[column * inputs + row];
                assert_eq!(
                    products[row * inputs + column].to_bits(),
                    mirrored.to_bits()
                );
            }
        }
        Matrix {
            inputs,
            products,
            tokens: count(format!("{name}.tokens")),
            sequences: count(format!("{name}.sequences")),
        }
    };
    let alone = own.iter().map(|name| (name.clone(), matrix(name)));
    let others = shared.iter().map(|(name, own)| (name.clone(), matrix(own)));
    alone.chain(others).collect()
}

fn spool(folder: &Path, records: impl IntoIterator<Item = Vec<u32>>) -> RecordSpoolWriter {
    let mut writer = RecordSpoolWriter::create(folder).unwrap();
    for (row, tokens) in (0..).zip(records) {
        writer
            .push(&Record {
                id: row.to_string(),
                row,
                tokens,
                ..Record::default()
            })
            .unwrap();
    }
    writer
}

struct Subject {
    folder: tempfile::TempDir,
    model: Model,
}

impl Subject {
    fn of(golden: &Golden) -> Self {
        let folder = tempfile::tempdir().unwrap();
        golden.write(&folder.path().join("model"), Stored::F32);
        let place = folder.path().join("model");
        let model = Model::open(place.as_path(), &OpenOptions::default());
        Self {
            model: model.unwrap(),
            folder,
        }
    }
}

#[track_caller]
fn assert_as_expected(name: &str) {
    let golden = Golden::open(name);
    let subject = Subject::of(&golden);
    let records = golden.records().into_iter().map(|record| record.input_ids);
    let spool = spool(&subject.folder.path().join("spool"), records);
    let found = results(&subject.model, &spool.finish().unwrap(), &settings()).unwrap();
    assert_eq!(found.len(), subject.model.spec.stacks[0].layers.len());
    let expected = read_tensors(Path::new(&format!("{EXPECTED}/{name}.safetensors")));
    let mut lacking: BTreeSet<&String> = expected.keys().collect();
    for (name, matrix) in found.values().flat_map(|file| matrices(file)) {
        let mut of = |kind: &str| {
            let name = format!("{name}.{kind}");
            lacking.remove(&name);
            expected.get(&name)
        };
        let (tokens, sequences, wanted) = (of("tokens"), of("sequences"), of("xtx"));
        let Some(wanted) = wanted else {
            assert_eq!(matrix.tokens, 0, "{name}");
            continue;
        };
        assert_eq!(tokens.unwrap().values, [matrix.tokens as f32], "{name}");
        assert_eq!(
            sequences.unwrap().values,
            [matrix.sequences as f32],
            "{name}"
        );
        let [rows, columns] = wanted.shape;
        assert_eq!(columns, matrix.inputs, "{name}");
        let own = Expected {
            shape: wanted.shape,
            values: matrix.products[..rows * columns].to_vec(),
        };
        compare(&own, wanted, 1e-4).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
    assert!(lacking.is_empty(), "{lacking:?}");
}

#[test]
fn a_llama() {
    assert_as_expected("llama");
}

#[test]
fn experts_have_their_own() {
    assert_as_expected("mixtral");
}

#[test]
fn matrices_stored_the_other_way_and_several_in_one() {
    assert_as_expected("gpt2");
    assert_as_expected("phi3");
}

/// Records of mixed lengths that begin alike, some of no tokens; the longest have several units.
fn mixed(longest: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let length = |record: usize| match record {
        3 | 9 => longest,
        record => record * 7 % 23,
    };
    let token = |record: usize, at: usize| {
        if at < 4 {
            at
        } else {
            (at * (record + 3) + at / 7) % vocabulary
        }
    };
    let record = |record: usize| (0..length(record)).map(move |at| token(record, at) as u32);
    (0..12).map(|number| record(number).collect()).collect()
}

/// Means that must not show.
fn means() -> Vec<Settings> {
    let plain = settings();
    vec![
        Settings {
            threads: 1,
            chunk_tokens: Some(24),
            ..plain.clone()
        },
        Settings {
            threads: 3,
            spill: Spill::Always,
            chunk_tokens: Some(700),
            checkpoint_interval: Duration::ZERO,
            ..plain
        },
    ]
}

#[test]
fn means_change_no_bit() {
    for name in ["llama", "mixtral"] {
        let subject = Subject::of(&Golden::open(name));
        let mixed = mixed(1100, 60);
        let records = spool(&subject.folder.path().join("spool"), mixed)
            .finish()
            .unwrap();
        let expected = results(&subject.model, &records, &settings()).unwrap();
        for means in means() {
            assert!(
                results(&subject.model, &records, &means).unwrap() == expected,
                "{means:?}"
            );
        }
    }
}

/// Ends the run after so many boundaries.
struct Interrupter {
    after: usize,
    seen: AtomicUsize,
}

impl Observer for Interrupter {
    fn event(&self, _event: &Event<'_>) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn warning(&self, _text: &str) {}

    fn interrupted(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.after
    }
}

#[test]
fn interruptions_change_no_bit() {
    let subject = Subject::of(&Golden::open("mixtral"));
    let folder = subject.folder.path();
    let records = spool(&folder.join("spool"), mixed(600, 60))
        .finish()
        .unwrap();
    let expected = results(&subject.model, &records, &settings()).unwrap();
    let out = tempfile::tempdir().unwrap();
    for process in 0..100 {
        let observer = Interrupter {
            after: 1 + process % 3,
            seen: AtomicUsize::new(0),
        };
        let settings = Settings {
            checkpoint_interval: Duration::ZERO,
            spill: Spill::Always,
            ..settings()
        };
        match run(
            &subject.model,
            &records,
            &settings,
            open(out.path()),
            &observer,
        ) {
            Ok(_) => break,
            Err(EngineError::Interrupted) => assert!(process < 99, "no progress"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(files(out.path()) == expected);
}

#[test]
fn parts_are_the_whole() {
    let subject = Subject::of(&Golden::open("mixtral"));
    let folder = subject.folder.path();
    let mixed = mixed(600, 60);
    let all = spool(&folder.join("spool"), mixed.clone())
        .finish()
        .unwrap();
    let expected = results(&subject.model, &all, &settings()).unwrap();
    let cuts = [0, 1, 5, 9, mixed.len()];
    let mut folders = Vec::new();
    for (index, cut) in (1..).zip(cuts.windows(2)) {
        let place = folder.join(format!("spool-{index}"));
        let mut writer = RecordSpoolWriter::create(&place).unwrap();
        for (row, tokens) in (cut[0]..).zip(&mixed[cut[0]..cut[1]]) {
            writer
                .push(&Record {
                    id: row.to_string(),
                    row: row as u64,
                    tokens: tokens.clone(),
                    ..Record::default()
                })
                .unwrap();
        }
        writer.set_shard(Shard {
            index,
            of: 4,
            rows: [cut[0] as u64, cut[1] as u64],
            rows_in_all: mixed.len() as u64,
        });
        let out = folder.join(format!("part-{index}"));
        let mut key = RunKey::new();
        key.set(SHARD, format!("{index}/4"));
        let Opened::New(output) = OutputFolder::open(&out, key, false).unwrap() else {
            panic!("it is new")
        };
        run(
            &subject.model,
            &writer.finish().unwrap(),
            &settings(),
            output,
            &Quiet,
        )
        .unwrap();
        folders.push(out);
    }
    folders.reverse();
    let out = folder.join("merged");
    let merged = merge(&folders, &out, false).unwrap();
    assert!(matches!(merged, Merged::Done(_)));
    assert!(files(&out) == expected);
}

/// One type of each kind: dense, shared, latent, gated and recurrent mixers, experts of several forms, encoders.
const TYPES: [&str; 13] = [
    "albert",
    "bart-decoder",
    "bloom",
    "deberta-v2",
    "deepseek_v3",
    "falcon_h1",
    "gpt_oss",
    "longformer",
    "nemotron_h",
    "mamba2",
    "qwen3_next",
    "rwkv",
    "t5-encoder",
];

fn longest(spec: &ModelSpec) -> usize {
    match spec.output_stack().limit {
        LengthLimit::Table(limit) => limit.min(60),
        LengthLimit::Trained(_) | LengthLimit::None => 60,
    }
}

/// Means change no bit of the results of a type.
fn check(name: &str) {
    let subject = Subject::of(&Golden::open(name));
    let spec = &subject.model.spec;
    let records = mixed(longest(spec), spec.vocab_size.min(90));
    let spool = spool(&subject.folder.path().join("spool"), records);
    let records = spool.finish().unwrap();
    let fail = |error: EngineError| panic!("{name}: {error}");
    let expected = results(&subject.model, &records, &settings()).unwrap_or_else(fail);
    assert!(!expected.is_empty(), "{name}");
    for means in means() {
        let found = results(&subject.model, &records, &means).unwrap_or_else(fail);
        let differ = |file: &&PathBuf| found.get(*file) != expected.get(*file);
        let names: Vec<&PathBuf> = expected.keys().filter(differ).collect();
        assert!(names.is_empty(), "{name}: {names:?} differ");
        assert_eq!(found.len(), expected.len(), "{name}");
    }
}

#[test]
fn types_of_every_kind_give_the_same_bytes() {
    TYPES.into_iter().for_each(check);
}
