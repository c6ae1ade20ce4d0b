//! What a mixture of experts reads: everything but the experts once, every expert that a token chose
//! once in a super-batch, and nothing of the others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{Float32Type, Float64Type, UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sli_checkpoint::source::CountingSource;
use sli_checkpoint::{Checkpoint, LocalSource, TensorInfo};
use sli_engine::journal::{Opened, OutputFolder, RunKey};
use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::take::Take;
use sli_engine::{EngineError, Model, OpenOptions, Quiet, Settings, describe_folder, plan, run};
use sli_testing::{Golden, Stored};

fn settings(memory: u64) -> Settings {
    Settings {
        takes: vec![Take::Profile, Take::Router],
        memory,
        ..Settings::default()
    }
}

fn spool(folder: &Path, tokens: &[u32]) -> RecordSpool {
    let mut writer = RecordSpoolWriter::create(folder).unwrap();
    // One record: one super-batch, whatever the budget.
    let record = Record {
        id: "0".to_owned(),
        tokens: tokens.to_vec(),
        ..Record::default()
    };
    writer.push(&record).unwrap();
    writer.finish().unwrap()
}

/// `(layer, expert)` of the experts that got a token, layers from 0.
fn hit_experts(out: &Path) -> BTreeSet<(usize, usize)> {
    let file = fs_err::File::open(out.join("experts.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.into_file()).unwrap();
    let mut hit = BTreeSet::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
        let numbers = |name: &str| {
            let column = column(name);
            column
                .as_any()
                .downcast_ref::<UInt32Array>()
                .unwrap()
                .clone()
        };
        let (layers, experts) = (numbers("layer"), numbers("expert"));
        let tokens = column("tokens");
        let tokens = tokens.as_any().downcast_ref::<UInt64Array>().unwrap();
        for row in 0..batch.num_rows() {
            if tokens.value(row) > 0 {
                let layer = layers.value(row) as usize - 1;
                hit.insert((layer, experts.value(row) as usize));
            }
        }
    }
    hit
}

/// A part of a tensor that is read as a whole or not at all.
struct Part {
    layer: usize,
    /// Of which expert; `None`: attention, router, shared ones, norms.
    expert: Option<usize>,
    /// Bytes within the tensor.
    bytes: Range<u64>,
}

/// The parts of a tensor of a layer; `stacked` experts lie in one tensor, one behind the other.
fn parts(tensor: &TensorInfo, stacked: Option<(&str, usize)>) -> Vec<Part> {
    // Biases are so small that halves of one are read one by one.
    let Some((layer, expert)) = place(&tensor.name).filter(|_| !tensor.name.ends_with("bias"))
    else {
        return Vec::new();
    };
    let whole = |expert| Part {
        layer,
        expert,
        bytes: 0..tensor.bytes,
    };
    match stacked {
        Some((name, experts)) if tensor.name.contains(name) => {
            let each = tensor.bytes / experts as u64;
            let part = |expert: usize| Part {
                bytes: each * expert as u64..each * (expert as u64 + 1),
                ..whole(Some(expert))
            };
            (0..experts).map(part).collect()
        }
        _ => vec![whole(expert)],
    }
}

/// How many of these bytes of a file were read, and how often the first.
fn read_of(ranges: &[Range<u64>], bytes: &Range<u64>) -> (u64, usize) {
    let overlap = |range: &Range<u64>| {
        range
            .end
            .min(bytes.end)
            .saturating_sub(range.start.max(bytes.start))
    };
    let first = |range: &&Range<u64>| range.contains(&bytes.start);
    let all = ranges.iter();
    (all.clone().map(overlap).sum(), all.filter(first).count())
}

/// The layer and, for an expert's weight, the expert of a tensor name.
fn place(name: &str) -> Option<(usize, Option<usize>)> {
    let rest = name
        .strip_prefix("model.layers.")
        .or(name.strip_prefix("transformer.blocks."))?;
    let (layer, rest) = rest.split_once('.')?;
    let expert = rest
        .split_once(".experts.")
        .and_then(|(_, rest)| rest.split_once('.'))
        .and_then(|(expert, _)| expert.parse().ok());
    Some((layer.parse().unwrap(), expert))
}

/// A run of one record, with what it read.
struct Ran {
    model: Model,
    counts: Arc<CountingSource<LocalSource>>,
    work: tempfile::TempDir,
    _folder: tempfile::TempDir,
}

impl Ran {
    /// Runs a golden with these tokens; `memory` `None`: as little as works.
    fn new(name: &str, tokens: &[u32], memory: Option<u64>) -> Self {
        let golden = Golden::open(name);
        let folder = tempfile::tempdir().unwrap();
        golden.write(folder.path(), Stored::F32);
        let counts = Arc::new(CountingSource::new(LocalSource::new(folder.path())));
        let source = Box::new(Arc::clone(&counts));
        let checkpoint = Arc::new(Checkpoint::open_with(source).unwrap());
        let built = describe_folder(&folder.path().into(), &OpenOptions::default()).unwrap();
        let model = Model::bind(folder.path(), built, checkpoint).unwrap();
        let work = tempfile::tempdir().unwrap();
        let records = spool(&work.path().join("spool"), tokens);
        let memory = memory.unwrap_or_else(|| match plan(&model, &records, &settings(0)) {
            Err(EngineError::Budget { needed, .. }) => needed,
            other => panic!("a budget of nothing gave {other:?}"),
        });
        let out = work.path().join("out");
        let Opened::New(output) = OutputFolder::open(&out, RunKey::new(), false).unwrap() else {
            panic!("the output folder is new");
        };
        counts.reset();
        run(&model, &records, &settings(memory), output, &Quiet).unwrap();
        Self {
            model,
            counts,
            work,
            _folder: folder,
        }
    }

    fn out(&self) -> PathBuf {
        self.work.path().join("out")
    }
}

fn check(name: &str, stacked: Option<(&str, usize)>, memory: Option<u64>) {
    // Of four experts a single token leaves some alone.
    let tokens: &[u32] = if stacked.is_some() {
        &[3]
    } else {
        &[3, 1, 4, 1, 5]
    };
    let ran = Ran::new(name, tokens, memory);
    let (model, counts) = (&ran.model, &ran.counts);
    let hit = hit_experts(&ran.out());
    let counts = counts.counts();
    let mut missed = 0;
    for tensor in model.checkpoint.tensors() {
        let ranges = &counts[model.checkpoint.file_name(tensor.file)].ranges;
        for part in parts(tensor, stacked) {
            let within = tensor.offset + part.bytes.start..tensor.offset + part.bytes.end;
            let chosen = part.expert.is_none_or(|of| hit.contains(&(part.layer, of)));
            let expected = if chosen {
                (within.end - within.start, 1)
            } else {
                missed += 1;
                (0, 0)
            };
            let found = read_of(ranges, &within);
            assert_eq!(found, expected, "{name}: {} {:?}", tensor.name, part.expert);
        }
    }
    assert!(missed > 0, "{name}: every expert was chosen");
    assert!(!hit.is_empty(), "{name}: no expert was chosen");
}

fn tables(file: &Path) -> Vec<RecordBatch> {
    let file = fs_err::File::open(file).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.into_file()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// Tokens and the sum of their weights, by layer and expert, as the choices of single tokens add up.
fn loads_of_choices(out: &Path, top_k: usize) -> BTreeMap<(u32, u32), (u64, f64)> {
    let mut loads = BTreeMap::new();
    for batch in tables(&out.join("router.parquet")) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let layers = column("layer").as_primitive::<UInt32Type>();
        let (ids, weights) = (column("expert_ids"), column("weights"));
        for row in 0..batch.num_rows() {
            let ids = ids.as_list::<i32>().value(row);
            let weights = weights.as_list::<i32>().value(row);
            let (ids, weights) = (ids.as_list::<i32>(), weights.as_list::<i32>());
            for token in 0..ids.len() {
                let (ids, weights) = (ids.value(token), weights.value(token));
                let ids = ids.as_primitive::<UInt32Type>().values();
                let weights = weights.as_primitive::<Float32Type>().values();
                assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), top_k);
                // Mixtral's weights of the chosen experts sum to one.
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                for (&id, &weight) in ids.iter().zip(weights) {
                    let load: &mut (u64, f64) = loads.entry((layers.value(row), id)).or_default();
                    load.0 += 1;
                    load.1 += f64::from(weight);
                }
            }
        }
    }
    loads
}

#[test]
fn the_load_of_experts_is_what_the_tokens_chose() {
    let ran = Ran::new("mixtral-16-experts", &[3, 1, 4, 1, 5], None);
    let out = ran.out();
    let (layers, experts, top_k) = (4, 16, 2);
    let loads = loads_of_choices(&out, top_k);
    let of = |layer, expert| loads.get(&(layer, expert)).copied().unwrap_or_default();
    let mut rows = 0;
    for batch in tables(&out.join("experts.parquet")) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        for row in 0..batch.num_rows() {
            let number = |name: &str| column(name).as_primitive::<UInt32Type>().value(row);
            let (tokens, weight) = of(number("layer"), number("expert"));
            let found = column("tokens").as_primitive::<UInt64Type>().value(row);
            let sum = column("weight_sum").as_primitive::<Float64Type>();
            assert_eq!(found, tokens);
            assert!((sum.value(row) - weight).abs() < 1e-6);
            rows += 1;
        }
    }
    assert_eq!(
        rows,
        layers * experts,
        "also the experts that no token chose"
    );
    let mut statistics = BTreeMap::new();
    for batch in tables(&out.join("profile.parquet")) {
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>();
        let numbers = batch.column_by_name("layer").unwrap();
        let values = batch.column_by_name("value").unwrap();
        for row in (0..batch.num_rows()).filter(|&row| text("site").value(row) == "router") {
            let layer = numbers.as_primitive::<UInt32Type>().value(row);
            let value = values.as_primitive::<Float64Type>().value(row);
            statistics.insert((layer, text("statistic").value(row).to_owned()), value);
        }
    }
    for layer in 1..=layers as u32 {
        let counts: Vec<u64> = (0..experts as u32).map(|e| of(layer, e).0).collect();
        let total = counts.iter().sum::<u64>() as f64;
        assert_eq!(total, 10.0, "five tokens, two experts each");
        let shares = counts.iter().filter(|&&count| count > 0);
        let entropy: f64 = shares
            .map(|&count| count as f64 / total)
            .map(|share| -share * share.ln())
            .sum();
        let unused = counts.iter().filter(|&&count| count == 0).count() as f64;
        let found = |name: &str| statistics[&(layer, name.to_owned())];
        assert!((found("entropy") - entropy).abs() < 1e-12);
        assert!((found("balance") - entropy / 16_f64.ln()).abs() < 1e-12);
        assert_eq!(found("unused_experts"), unused);
        assert!(unused > 0.0);
    }
}

#[test]
fn an_expert_is_read_once_if_a_token_chose_it() {
    for (name, stacked) in [
        ("mixtral-16-experts", None),
        ("qwen2_moe-window", None),
        ("deepseek_v3", None),
        ("dbrx", Some((".experts.mlp.", 4))),
        ("gpt_oss", Some((".experts.", 4))),
        ("granitemoe", Some(("_linear.", 4))),
        ("llama4_text", Some((".experts.", 4))),
    ] {
        check(name, stacked, Some(8 << 30));
        check(name, stacked, None);
    }
}

#[test]
fn a_failing_read_of_an_expert_ends_the_run() {
    let golden = Golden::open("mixtral-16-experts");
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    let built = describe_folder(&folder.path().into(), &OpenOptions::default()).unwrap();
    let local = LocalSource::new(folder.path());
    // The header and the first layer's attention can be read.
    let failing = sli_checkpoint::source::FailingSource::new(local, 40, io::ErrorKind::BrokenPipe);
    let checkpoint = Arc::new(Checkpoint::open_with(Box::new(failing)).unwrap());
    let model = Model::bind(folder.path(), built, checkpoint).unwrap();
    let work = tempfile::tempdir().unwrap();
    let records = spool(&work.path().join("spool"), &[3, 1, 4, 1, 5]);
    let Opened::New(output) =
        OutputFolder::open(&work.path().join("out"), RunKey::new(), false).unwrap()
    else {
        panic!("the output folder is new");
    };
    run(&model, &records, &settings(8 << 30), output, &Quiet).unwrap_err();
}
