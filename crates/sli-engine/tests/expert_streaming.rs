//! What a mixture of experts reads: everything but the experts once, every expert that a token chose
//! once in a super-batch, and nothing of the others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, UInt32Array, UInt64Array};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sli_checkpoint::source::CountingSource;
use sli_checkpoint::{Checkpoint, LocalSource};
use sli_engine::journal::{Opened, OutputFolder, RunKey};
use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::take::Take;
use sli_engine::{
    Compute, EngineError, HiddenDtype, Model, OpenOptions, Quiet, Settings, Spill, describe_folder,
    plan, run,
};
use sli_testing::{Golden, Stored};

fn settings(memory: u64) -> Settings {
    Settings {
        takes: vec![Take::Profile],
        memory,
        threads: 1,
        compute: Compute::F32,
        hidden_dtype: HiddenDtype::F32,
        spill: Spill::Auto,
        spill_room: u64::MAX,
        share_prefixes: true,
        checkpoint_interval: Duration::from_mins(1),
        chunk_tokens: None,
    }
}

fn spool(folder: &Path) -> RecordSpool {
    let mut writer = RecordSpoolWriter::create(folder).unwrap();
    // One record: one super-batch, whatever the budget.
    let record = Record {
        id: "0".to_owned(),
        tokens: vec![3, 1, 4, 1, 5],
        token_types: None,
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

/// Bytes read of every tensor, and how often its first byte was.
fn read_of(model: &Model, counts: &CountingSource<LocalSource>) -> BTreeMap<String, (u64, u64)> {
    let counts = counts.counts();
    let tensors = model.checkpoint.tensors().map(|tensor| {
        let ranges = &counts[model.checkpoint.file_name(tensor.file)].ranges;
        let (start, end) = (tensor.offset, tensor.offset + tensor.bytes);
        let overlap =
            |range: &Range<u64>| range.end.min(end).saturating_sub(range.start.max(start));
        let bytes = ranges.iter().map(overlap).sum();
        let firsts = ranges.iter().filter(|range| range.contains(&start)).count();
        (tensor.name.to_string(), (bytes, firsts as u64))
    });
    tensors.collect()
}

/// The layer and, for an expert's weight, the expert of a tensor name.
fn place(name: &str) -> Option<(usize, Option<usize>)> {
    let rest = name.strip_prefix("model.layers.")?;
    let (layer, rest) = rest.split_once('.')?;
    let expert = rest
        .split_once(".experts.")
        .and_then(|(_, rest)| rest.split_once('.'))
        .map(|(expert, _)| expert.parse().unwrap());
    Some((layer.parse().unwrap(), expert))
}

fn check(name: &str, memory: Option<u64>) {
    let golden = Golden::open(name);
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    let counts = Arc::new(CountingSource::new(LocalSource::new(folder.path())));
    let source = Box::new(Arc::clone(&counts));
    let checkpoint = Arc::new(Checkpoint::open_with(source).unwrap());
    let built = describe_folder(folder.path(), &OpenOptions::default()).unwrap();
    let model = Model::bind(folder.path().into(), built, checkpoint).unwrap();
    let work = tempfile::tempdir().unwrap();
    let records = spool(&work.path().join("spool"));
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

    let hit = hit_experts(&out);
    let read = read_of(&model, &counts);
    let mut missed = 0;
    for tensor in model.checkpoint.tensors() {
        let (bytes, firsts) = read[&*tensor.name];
        let expected = match place(&tensor.name) {
            // The token table by rows; the head is not asked for.
            None => continue,
            Some((layer, Some(expert))) if !hit.contains(&(layer, expert)) => {
                missed += 1;
                (0, 0)
            }
            Some(_) => (tensor.bytes, 1),
        };
        assert_eq!((bytes, firsts), expected, "{name}: {}", tensor.name);
    }
    assert!(missed > 0, "{name}: every expert was chosen");
    assert!(!hit.is_empty(), "{name}: no expert was chosen");
}

#[test]
fn an_expert_is_read_once_if_a_token_chose_it() {
    for name in ["mixtral-16-experts", "qwen2_moe-window", "deepseek_v3"] {
        check(name, Some(8 << 30));
        check(name, None);
    }
}

#[test]
fn a_failing_read_of_an_expert_ends_the_run() {
    let golden = Golden::open("mixtral-16-experts");
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    let built = describe_folder(folder.path(), &OpenOptions::default()).unwrap();
    let local = LocalSource::new(folder.path());
    // The header and the first layer's attention can be read.
    let failing = sli_checkpoint::source::FailingSource::new(local, 40, io::ErrorKind::BrokenPipe);
    let checkpoint = Arc::new(Checkpoint::open_with(Box::new(failing)).unwrap());
    let model = Model::bind(folder.path().into(), built, checkpoint).unwrap();
    let work = tempfile::tempdir().unwrap();
    let records = spool(&work.path().join("spool"));
    let Opened::New(output) =
        OutputFolder::open(&work.path().join("out"), RunKey::new(), false).unwrap()
    else {
        panic!("the output folder is new");
    };
    run(&model, &records, &settings(8 << 30), output, &Quiet).unwrap_err();
}
