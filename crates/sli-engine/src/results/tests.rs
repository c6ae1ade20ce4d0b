//! A run in miniature over all kinds of results: the values are a formula instead of a model, the journal and
//! the files are real.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, ListArray, RecordBatch,
};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type, UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::safetensors::{LIMITS, Limits};
use super::*;
use crate::annotation::{Annotation, Completion, TextSpans};
use crate::durable::Disk;
use crate::journal::{Opened, OutputFolder, RunKey, SuperBatchProgress};
use crate::portion::Portion;
use crate::records::{Record, RecordSpool, RecordSpoolWriter};
use crate::settings::HiddenDtype;
use crate::stats::{RowStats, SiteStats};

const COLS: usize = 6;
const VOCAB: usize = 10;
const LAYERS: usize = 3;
const TOP: usize = 2;

/// How a run goes about it; must not show in the results.
#[derive(Clone, Debug)]
struct Manner {
    super_batch: usize,
    /// Checkpoint after every so many boundaries.
    interval: usize,
    chunk: usize,
    backwards: bool,
    /// Give up a super-batch that was interrupted.
    forget: bool,
}

const PLAIN: Manner = Manner {
    super_batch: 1000,
    interval: 1000,
    chunk: 1000,
    backwards: false,
    forget: false,
};

fn records() -> Vec<Record> {
    let ids = [
        "a",
        "b/../c",
        "quote\" \\ \n\u{1}",
        "",
        "\u{1F600}",
        "5",
        "6",
        "last one",
    ];
    let lengths = [3, 0, 5, 1, 0, 7, 2, 4];
    let record = |(index, (id, length)): (usize, (&&str, u32))| Record {
        id: (*id).to_owned(),
        row: 2 * index as u64,
        tokens: (0..length)
            .map(|position| (position * 7 + index as u32) % VOCAB as u32)
            .collect(),
        ..Record::default()
    };
    ids.iter().zip(lengths).enumerate().map(record).collect()
}

/// The hidden state of the dataset's token `row` at a boundary.
fn hidden(boundary: usize, row: u64, col: usize) -> f32 {
    (boundary as f32 * 100.0 + row as f32 + col as f32 * 0.125).sin() * 3.0
}

fn logit(row: u64, col: usize) -> f32 {
    (row as f32 * 1.5 + col as f32).cos()
}

fn name(record: &Record) -> RecordName<'_> {
    RecordName {
        row: record.row,
        id: &record.id,
    }
}

/// Every third record has neither a text nor a completion.
fn annotation(record: &Record) -> Annotation {
    let tokens = record.tokens.len();
    if record.row.is_multiple_of(6) {
        return Annotation::default();
    }
    let offsets = (0..tokens as u32).map(|token| [2 * token, 2 * token + 2]);
    Annotation {
        text: Some(TextSpans {
            bytes: 2 * tokens as u32,
            offsets: offsets.collect(),
        }),
        completion: Some(Completion {
            tokens: (0..tokens).map(|token| token == 0 || token > 2).collect(),
            bytes: Some(7),
        }),
    }
}

struct Sinks {
    hidden: Vec<TensorFile>,
    streams: TensorFile,
    logits: TensorFile,
    scores: ScoresSink,
    top_k: TopKSink,
    embedding: EmbeddingSink,
    router: RouterSink,
}

impl Sinks {
    fn open(folder: &OutputFolder, spool: &RecordSpool) -> Result<Self, ResultsError> {
        let shape = |rows_per_token, cols, dtype| TensorShape {
            rows_per_token,
            cols,
            dtype,
        };
        let dtypes = [
            HiddenDtype::F32,
            HiddenDtype::Bf16,
            HiddenDtype::F16,
            HiddenDtype::F32,
        ];
        let hidden = dtypes.iter().enumerate().map(|(boundary, &dtype)| {
            let name = format!("hidden/decoder.{boundary:03}");
            // Boundary 0 is in several parts.
            let limits = match boundary {
                0 => Limits {
                    records: 3,
                    bytes: 500,
                    header: 1000,
                },
                _ => LIMITS,
            };
            TensorFile::open_limited(folder, spool, &name, shape(1, COLS, dtype), limits)
        });
        Ok(Self {
            hidden: hidden.collect::<Result<_, _>>()?,
            streams: TensorFile::open(
                folder,
                spool,
                "hidden/streams.001",
                shape(2, COLS, HiddenDtype::F32),
            )?,
            logits: TensorFile::open(folder, spool, "logits", shape(1, VOCAB, HiddenDtype::F32))?,
            scores: ScoresSink::open(folder)?,
            top_k: TopKSink::open(folder, TOP)?,
            embedding: EmbeddingSink::open(folder, COLS)?,
            router: RouterSink::open(folder, &[2, 3])?,
        })
    }

    fn boundary(
        &self,
        boundary: usize,
        spool: &RecordSpool,
        range: Range<usize>,
        manner: &Manner,
    ) -> Result<(), ResultsError> {
        let rows = spool.token_start(range.start)..spool.token_start(range.end);
        let mut chunks: Vec<u64> = rows.clone().step_by(manner.chunk).collect();
        if manner.backwards {
            chunks.reverse();
        }
        for first in chunks {
            let end = rows.end.min(first + manner.chunk as u64);
            let values: Vec<f32> = (first..end)
                .flat_map(|row| (0..COLS).map(move |col| hidden(boundary, row, col)))
                .collect();
            let offset = (first - rows.start) as usize;
            self.hidden[boundary].write_rows(range.start, offset, &values)?;
        }
        for record in spool.read(range.clone())?.iter().zip(range) {
            let (record, index) = record;
            let tokens = record.tokens.len();
            let experts: Vec<u32> = (0..tokens * 2)
                .map(|i| (boundary * 10 + index + i) as u32 % 8)
                .collect();
            let weights: Vec<f32> = experts.iter().map(|&expert| expert as f32 / 8.0).collect();
            if boundary >= 2 {
                self.router
                    .push(boundary as u32, name(record), 2, &experts, &weights)?;
            }
            if boundary == 1 {
                for stream in 0..2 {
                    let first = spool.token_start(index);
                    let values: Vec<f32> = (first..first + tokens as u64)
                        .flat_map(|row| (0..COLS).map(move |col| hidden(stream + 50, row, col)))
                        .collect();
                    self.streams.write_rows(index, stream * tokens, &values)?;
                }
            }
        }
        Ok(())
    }

    fn head(&self, spool: &RecordSpool, range: Range<usize>) -> Result<(), ResultsError> {
        for (record, index) in spool.read(range.clone())?.iter().zip(range) {
            let tokens = record.tokens.len();
            let start = spool.token_start(index);
            for columns in [4..VOCAB, 0..4] {
                let tile: Vec<f32> = (start..start + tokens as u64)
                    .flat_map(|row| columns.clone().map(move |col| logit(row, col)))
                    .collect();
                self.logits.write_columns(index, 0, columns, &tile)?;
            }
            let logprobs: Vec<f32> = (1..tokens).map(|i| -(i as f32) / 4.0).collect();
            self.scores
                .push(name(record), &record.tokens, &logprobs, &annotation(record))?;
            let top: Vec<(f32, u32)> = (0..tokens * TOP).map(|i| (-(i as f32), i as u32)).collect();
            let best = top
                .chunks(TOP)
                .enumerate()
                .map(|(token, entries)| BestTokens {
                    entries,
                    log_sum_exp: token as f64 - 1.0,
                });
            self.top_k.push(name(record), &best.collect::<Vec<_>>())?;
            let vector: Vec<f32> = (0..COLS).map(|col| hidden(0, start, col)).collect();
            self.embedding
                .push(name(record), (tokens > 0).then_some(&vector[..]))?;
        }
        Ok(())
    }

    fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        self.hidden
            .into_iter()
            .try_for_each(|file| file.finish(folder))?;
        self.streams.finish(folder)?;
        self.logits.finish(folder)?;
        self.scores.finish(folder)?;
        self.top_k.finish(folder)?;
        self.embedding.finish(folder)?;
        self.router.finish(folder)
    }
}

/// A disk without faults that does not wait for the device.
fn quick() -> Disk {
    Disk::limited(u64::MAX)
}

/// Runs, or goes on with a run. Returns the boundaries that were computed.
fn run(disk: &Disk, folder: &Path, manner: &Manner) -> Result<usize, ResultsError> {
    let mut key = RunKey::new();
    key.set("data", "miniature");
    let mut folder = match OutputFolder::open_on(disk, folder, key, false)? {
        Opened::New(folder) | Opened::Resumed(folder) => folder,
        Opened::Finished(_) => return Ok(0),
    };
    if manner.forget {
        folder.forget_current()?;
    }
    let spool_folder = folder.work_dir().join("records");
    let spool = if let Some(spool) = RecordSpool::open(&spool_folder)? {
        spool
    } else {
        let mut writer = RecordSpoolWriter::create_on(disk, &spool_folder)?;
        records()
            .iter()
            .try_for_each(|record| writer.push(record))?;
        writer.finish()?
    };
    let sinks = Sinks::open(&folder, &spool)?;
    let mut stats = match folder.load_blob("profile")? {
        Some(bytes) => SiteStats::from_bytes(&bytes).expect("saved statistics"),
        None => SiteStats::default(),
    };
    let mut boundaries = 0;
    while (folder.progress().records_done as usize) < spool.len() {
        let done = folder.progress().records_done as usize;
        let (range, first) = match folder.progress().current.clone() {
            Some(current) => {
                let mut values = vec![0.0; 3];
                folder.load_buffer(&current.buffers[0], &mut values)?;
                assert_eq!(values[0], current.boundary as f32);
                (current.records(), current.boundary)
            }
            None => (done..(done + manner.super_batch).min(spool.len()), 0),
        };
        for boundary in first..=LAYERS {
            sinks.boundary(boundary, &spool, range.clone(), manner)?;
            boundaries += 1;
            if boundary == 1 {
                for row in spool.token_start(range.start)..spool.token_start(range.end) {
                    let values: Vec<f32> = (0..COLS).map(|col| hidden(1, row, col)).collect();
                    let record = spool.record_of(row) as u64;
                    stats.fold(record, &RowStats::of(&values));
                    stats.fold_histogram(&values);
                }
            }
            if boundaries % manner.interval == 0 && boundary < LAYERS {
                let next = boundary + 1;
                let buffer = folder.save_buffer("slot-0", 3, 1, &[next as f32; 3])?;
                folder.save_blob("profile", &stats.to_bytes())?;
                folder.progress_mut().current = Some(SuperBatchProgress {
                    portions: vec![Portion::whole(range.clone())],
                    shared: false,
                    stack: 0,
                    boundary: next,
                    buffers: vec![buffer],
                    kept: Vec::new(),
                    ends: Vec::new(),
                });
                folder.checkpoint()?;
            }
        }
        sinks.head(&spool, range.clone())?;
        folder.progress_mut().records_done = range.end as u64;
        folder.progress_mut().current = None;
        folder.save_blob("profile", &stats.to_bytes())?;
        folder.checkpoint()?;
    }
    sinks.finish(&mut folder)?;
    let rows = stats.finish();
    let row = |&(statistic, value): &(&'static str, f64)| ProfileRow {
        stack: "decoder",
        layer: 1,
        site: "hidden",
        statistic,
        value,
    };
    write_profile(&mut folder, rows.iter().map(row))?;
    let expert = |expert| ExpertRow {
        stack: "decoder",
        layer: 2,
        expert,
        tokens: u64::from(expert) << 33,
        weight_sum: 0.5,
    };
    write_experts(&mut folder, (0..3).map(expert))?;
    folder.finish(serde_json::Value::Null)?;
    Ok(boundaries)
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let inner = contents(&path);
            all.extend(
                inner
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            all.insert(name, fs_err::read(&path).unwrap());
        }
    }
    all
}

/// The results of a run that nothing happened to.
fn undisturbed() -> &'static BTreeMap<String, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        run(&Disk::real(), folder.path(), &PLAIN).unwrap();
        contents(folder.path())
    })
}

#[test]
fn a_stop_at_any_operation_changes_no_byte() {
    let expected = undisturbed();
    let busy = Manner {
        super_batch: 3,
        interval: 1,
        chunk: 2,
        backwards: true,
        forget: false,
    };
    // A loss of power takes all that a kill takes, and more.
    for (stop, step) in [
        (Disk::losing_power_after as fn(u64) -> Disk, 1),
        (Disk::crashing_after, 7),
    ] {
        let mut operations = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let outcome = run(&stop(operations), folder.path(), &busy);
            let after = Manner {
                super_batch: 2,
                interval: 2,
                forget: operations % 2 == 0,
                ..PLAIN
            };
            run(&quick(), folder.path(), &after).unwrap();
            let found = contents(folder.path());
            assert!(found == *expected, "stopped after {operations} operations");
            if outcome.is_ok() {
                break;
            }
            operations += step;
        }
        assert!(operations > 200, "{operations} operations");
    }
}

#[test]
fn a_stop_after_going_back_changes_no_byte() {
    let expected = undisturbed();
    let manner = Manner {
        super_batch: 3,
        interval: 1,
        ..PLAIN
    };
    let back = Manner {
        forget: true,
        ..manner
    };
    for first in [120, 200, 300] {
        for second in (0..160).step_by(2) {
            let folder = tempfile::tempdir().unwrap();
            // In the middle of a super-batch, then in one with a smaller budget that has to begin it again, ...
            assert!(run(&Disk::crashing_after(first), folder.path(), &manner).is_err());
            let _ = run(&Disk::crashing_after(second), folder.path(), &back);
            // ... then in one with the budget of before, which could go on in the middle.
            run(&quick(), folder.path(), &manner).unwrap();
            let found = contents(folder.path());
            assert!(
                found == *expected,
                "stopped after {first} and {second} operations"
            );
        }
    }
}

#[test]
fn bytes_that_change_while_a_run_is_interrupted_are_noticed() {
    let manner = Manner {
        super_batch: 3,
        interval: 1,
        ..PLAIN
    };
    let stopped = || {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&Disk::crashing_after(300), folder.path(), &manner).is_err());
        folder
    };
    let first = stopped();
    let names = contents(&first.path().join(".sli"));
    let mut tried = 0;
    for (name, bytes) in &names {
        let places = if name.ends_with(".partial") {
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            vec![5, 30, 8 + header, 8 + header + COLS]
        } else if Path::new(name).extension().is_some_and(|end| end == "rows") && !bytes.is_empty()
        {
            vec![0, 9, bytes.len() / 4]
        } else {
            continue;
        };
        for place in places {
            tried += 1;
            let folder = stopped();
            let path = folder.path().join(".sli").join(name);
            let mut bytes = fs_err::read(&path).unwrap();
            bytes[place] ^= 4;
            fs_err::write(&path, &bytes).unwrap();
            let error = run(&quick(), folder.path(), &manner).unwrap_err();
            assert_eq!(error.exit_code(), 5, "{name}, byte {place}: {error}");
            assert!(error.to_string().contains("what was written"), "{error}");
            // And so it stays.
            run(&quick(), folder.path(), &manner).unwrap_err();
        }
    }
    assert!(tried > 30, "{tried} places in {:?}", names.keys());
}

#[test]
fn a_disk_that_is_full_anywhere_changes_no_byte() {
    let expected = undisturbed();
    let busy = Manner {
        super_batch: 3,
        interval: 1,
        chunk: 2,
        backwards: false,
        forget: false,
    };
    let mut failures = 0;
    for room in (0..60_000).step_by(997) {
        let folder = tempfile::tempdir().unwrap();
        if let Err(error) = run(&Disk::limited(room), folder.path(), &busy) {
            assert_eq!(error.exit_code(), 5, "{error}");
            assert!(error.to_string().contains("no space left"), "{error}");
            failures += 1;
        }
        run(&quick(), folder.path(), &busy).unwrap();
        assert!(contents(folder.path()) == *expected, "{room} bytes of room");
    }
    assert!(failures > 5, "{failures} failures");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn neither_manner_nor_many_stops_change_a_byte(
        stops in proptest::collection::vec(
            (1..400_u64, 1..9_usize, 1..5_usize, 1..9_usize, any::<(bool, bool)>()),
            0..5,
        ),
    ) {
        let expected = undisturbed();
        let folder = tempfile::tempdir().unwrap();
        for (operations, super_batch, interval, chunk, (backwards, forget)) in stops {
            let manner = Manner { super_batch, interval, chunk, backwards, forget };
            let _ = run(&Disk::crashing_after(operations), folder.path(), &manner);
        }
        run(&quick(), folder.path(), &PLAIN).unwrap();
        prop_assert!(contents(folder.path()) == *expected);
    }
}

#[test]
fn no_work_is_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let manner = Manner {
        super_batch: 3,
        interval: 1,
        chunk: 9,
        backwards: false,
        forget: false,
    };
    let all = run(&Disk::real(), folder.path(), &manner).unwrap();
    assert_eq!(all, 3 * (LAYERS + 1));
    assert_eq!(run(&Disk::real(), folder.path(), &manner).unwrap(), 0);
    for operations in (50..600).step_by(29) {
        let folder = tempfile::tempdir().unwrap();
        if run(&Disk::crashing_after(operations), folder.path(), &manner).is_err() {
            let again = run(&Disk::real(), folder.path(), &manner).unwrap();
            assert!(again <= all);
            if operations > 500 {
                assert!(again < all / 2, "{again} of {all} boundaries again");
            }
        }
    }
}

/// The tensors of a file by name: type, shape, bytes. Checks the rules of the format on the way.
fn tensors(bytes: &[u8]) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let mut end = 0;
    let mut all = BTreeMap::new();
    for (name, entry) in header {
        if name == "__metadata__" {
            assert_eq!(entry, serde_json::json!({ "format": "pt" }));
            continue;
        }
        let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
        let shape: Vec<usize> = entry["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(number)
            .collect();
        let offsets: Vec<usize> = entry["data_offsets"]
            .as_array()
            .unwrap()
            .iter()
            .map(number)
            .collect();
        assert_eq!(offsets[0], end, "no holes");
        end = offsets[1];
        let dtype = entry["dtype"].as_str().unwrap().to_owned();
        let element = if dtype == "F32" { 4 } else { 2 };
        assert_eq!(
            offsets[1] - offsets[0],
            shape.iter().product::<usize>() * element
        );
        all.insert(name, (dtype, shape, data[offsets[0]..offsets[1]].to_vec()));
    }
    assert_eq!(end, data.len(), "nothing behind the last tensor");
    all
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&value| f32::from_le_bytes(value))
        .collect()
}

#[test]
fn a_value_beyond_the_type_is_an_error_that_names_it() {
    let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = records();
    let mut writer = RecordSpoolWriter::create(work.path()).unwrap();
    for record in &records {
        writer.push(record).unwrap();
    }
    let spool = writer.finish().unwrap();
    let Opened::New(folder) = OutputFolder::open(folder.path(), RunKey::new(), false).unwrap()
    else {
        panic!("the folder is new");
    };
    let open = |name: &str, dtype, rows_per_token| {
        let shape = TensorShape {
            rows_per_token,
            cols: 2,
            dtype,
        };
        TensorFile::open(&folder, &spool, name, shape).unwrap()
    };
    let half = open("hidden/decoder.004", HiddenDtype::F16, 1);
    let short = open("hidden/decoder.000", HiddenDtype::Bf16, 1);
    let streams = open("hidden/decoder.001", HiddenDtype::F16, 2);
    let full = open("hidden/decoder.norm", HiddenDtype::F32, 1);
    let error = |file: &TensorFile, record, row, values: &[f32]| {
        let error = file.write_rows(record, row, values).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        error.to_string()
    };
    // Records of 3, 0 and 5 tokens: row 4 of the first is the second token of the third.
    let values = [0.0, 1.0, 2.0, -65_520.0];
    let text = error(&half, 0, 3, &values);
    for part in [
        "record `quote",
        "token 1",
        "-65520",
        "position 1",
        "layer 4",
        "f16",
        "65504",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error(&short, 0, 0, &[1.0, 3.4e38]).contains("first layer"));
    // The second stream of the third record begins behind its five rows.
    assert!(error(&streams, 2, 7, &[1e6, 0.0]).contains("token 2"));
    let error = half
        .write_columns(2, 4, 1..2, &[1e5])
        .unwrap_err()
        .to_string();
    assert!(error.contains("token 4: 100000 at position 1"), "{error}");
    for fine in [65_519.996, -65_504.0, f32::INFINITY, f32::NAN] {
        half.write_rows(0, 0, &[fine, 0.0]).unwrap();
    }
    short
        .write_rows(0, 0, &[3.395e38, f32::from_bits(0x7f7f_7fff)])
        .unwrap();
    full.write_rows(0, 0, &[f32::MAX, 0.0]).unwrap();
}

#[test]
fn tensors_read_back() {
    let files = undisturbed();
    let parts: Vec<&String> = files
        .keys()
        .filter(|name| name.starts_with("hidden/decoder.000"))
        .collect();
    assert!(parts.len() > 2, "{parts:?}");
    assert_eq!(parts[0], "hidden/decoder.000.part-0.safetensors");
    let records = records();
    let mut found = BTreeMap::new();
    for part in &parts {
        let tensors = tensors(&files[*part]);
        assert!(tensors.len() <= 3);
        found.extend(tensors);
    }
    let check = |found: &BTreeMap<String, (String, Vec<usize>, Vec<u8>)>,
                 dtype: &str,
                 value: &dyn Fn(&[u8], u64, usize)| {
        assert_eq!(found.len(), records.len());
        let mut row = 0;
        for record in &records {
            let (stored, shape, bytes) = &found[&record.id];
            assert_eq!(stored, dtype);
            assert_eq!(shape[0], record.tokens.len());
            let row_bytes = bytes.len() / shape[0].max(1);
            for row_values in bytes.chunks(row_bytes.max(1)) {
                let element = row_values.len() / shape[1];
                for (col, value_bytes) in row_values.chunks(element).enumerate() {
                    value(value_bytes, row, col);
                }
                row += 1;
            }
        }
    };
    check(&found, "F32", &|bytes, row, col| {
        assert_eq!(f32s(bytes), [hidden(0, row, col)]);
    });
    check(
        &tensors(&files["hidden/decoder.001.safetensors"]),
        "BF16",
        &|bytes, row, col| {
            assert_eq!(
                bytes,
                half::bf16::from_f32(hidden(1, row, col)).to_le_bytes()
            );
        },
    );
    check(
        &tensors(&files["hidden/decoder.002.safetensors"]),
        "F16",
        &|bytes, row, col| {
            assert_eq!(
                bytes,
                half::f16::from_f32(hidden(2, row, col)).to_le_bytes()
            );
        },
    );
    check(
        &tensors(&files["logits.safetensors"]),
        "F32",
        &|bytes, row, col| {
            assert_eq!(f32s(bytes), [logit(row, col)]);
        },
    );
    let streams = tensors(&files["hidden/streams.001.safetensors"]);
    let mut row = 0;
    for record in &records {
        let (_, shape, bytes) = &streams[&record.id];
        let tokens = record.tokens.len();
        assert_eq!(shape, &[2 * tokens, COLS]);
        let values = f32s(bytes);
        for (index, value) in values.iter().enumerate() {
            let (stream, token) = (index / COLS / tokens, index / COLS % tokens);
            assert_eq!(
                *value,
                hidden(stream + 50, row + token as u64, index % COLS)
            );
        }
        row += tokens as u64;
    }
}

fn table(files: &BTreeMap<String, Vec<u8>>, name: &str) -> RecordBatch {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    fs_err::write(&path, &files[name]).unwrap();
    let file = fs_err::File::open(path).unwrap().into_parts().0;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(builder.metadata().file_metadata().created_by(), Some("sli"));
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn types(table: &RecordBatch) -> String {
    let field =
        |field: &arrow::datatypes::FieldRef| format!("{} {}", field.name(), field.data_type());
    table
        .schema()
        .fields()
        .iter()
        .map(field)
        .collect::<Vec<_>>()
        .join(", ")
}

fn texts(array: &ArrayRef) -> Vec<String> {
    array
        .as_string::<i32>()
        .iter()
        .map(|text| text.unwrap().to_owned())
        .collect()
}

fn matrix<T: arrow::datatypes::ArrowPrimitiveType>(
    list: &ListArray,
    row: usize,
) -> Vec<Vec<T::Native>> {
    let inner = list.value(row);
    let inner: &ListArray = inner.as_list();
    inner
        .iter()
        .map(|row| row.unwrap().as_primitive::<T>().values().to_vec())
        .collect()
}

#[test]
fn tables_read_back() {
    let files = undisturbed();
    let records = records();
    let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();

    let scores = table(files, "scores.parquet");
    assert_eq!(
        types(&scores),
        "row Int64, id Utf8, tokens UInt32, sum_logprob Float64, perplexity Float64, bits_per_byte Float64, \
         completion_tokens UInt32, completion_sum_logprob Float64, completion_perplexity Float64, \
         completion_bits_per_byte Float64, token_ids List(UInt32), logprobs List(Float32), \
         offsets List(List(UInt32)), completion_spans List(List(UInt32))"
    );
    assert_eq!(texts(scores.column(1)), ids);
    let rows = scores.column(0).as_primitive::<Int64Type>().values();
    let expected: Vec<i64> = (0..records.len() as i64).map(|row| 2 * row).collect();
    assert_eq!(rows, &expected[..]);
    let sums = scores.column(3).as_primitive::<Float64Type>();
    let perplexities = scores.column(4).as_primitive::<Float64Type>();
    let tokens: &ListArray = scores.column(10).as_list();
    let logprobs: &ListArray = scores.column(11).as_list();
    let float = |column: usize, row: usize| {
        let column = scores.column(column).as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let offsets: &ListArray = scores.column(12).as_list();
    let counts = scores.column(6).as_primitive::<UInt32Type>();
    for (index, record) in records.iter().enumerate() {
        let length = record.tokens.len();
        assert_eq!(
            scores.column(2).as_primitive::<UInt32Type>().value(index),
            length as u32
        );
        assert_eq!(
            tokens.value(index).as_primitive::<UInt32Type>().values(),
            &record.tokens[..]
        );
        let row: Float32Array = logprobs.value(index).as_primitive::<Float32Type>().clone();
        let expected: Vec<Option<f32>> = (0..length)
            .map(|i| (i > 0).then_some(-(i as f32) / 4.0))
            .collect();
        assert_eq!(row.iter().collect::<Vec<_>>(), expected);
        let sum: f64 = expected
            .iter()
            .flatten()
            .map(|&value| f64::from(value))
            .sum();
        assert_eq!(sums.value(index), sum);
        assert_eq!(perplexities.is_valid(index), length > 1);
        if length > 1 {
            assert_eq!(
                perplexities.value(index),
                (-sum / (length - 1) as f64).exp()
            );
        }
    }

    for (index, record) in records.iter().enumerate() {
        let annotation = annotation(record);
        let sum = sums.value(index);
        let length = record.tokens.len();
        let bits = |sum: f64, bytes: usize| -sum / std::f64::consts::LN_2 / bytes as f64;
        let Some(text) = &annotation.text else {
            assert!(offsets.is_null(index) && counts.is_null(index));
            assert_eq!([5, 7, 8, 9].map(|column| float(column, index)), [None; 4]);
            continue;
        };
        let found: Vec<Vec<u32>> = matrix::<UInt32Type>(offsets, index);
        assert_eq!(
            found,
            text.offsets
                .iter()
                .map(|pair| pair.to_vec())
                .collect::<Vec<_>>()
        );
        assert_eq!(float(5, index), (length > 1).then(|| bits(sum, 2 * length)));
        // The tokens from the third on; the first has no probability.
        let own: f64 = (3..length)
            .map(|token| f64::from(-(token as f32) / 4.0))
            .sum();
        let count = length.saturating_sub(3);
        assert_eq!(counts.value(index), count as u32);
        assert_eq!(float(7, index), Some(own));
        let perplexity = (count > 0).then(|| (-own / count as f64).exp());
        assert_eq!(float(8, index), perplexity);
        assert_eq!(float(9, index), (count > 0).then(|| bits(own, 7)));
    }

    let top = table(files, "topk.parquet");
    assert_eq!(
        types(&top),
        "row Int64, id Utf8, top_ids List(List(UInt32)), top_logprobs List(List(Float32)), \
         logsumexp List(Float32), tail_mass List(Float32)"
    );
    for (index, record) in records.iter().enumerate() {
        let ids = matrix::<UInt32Type>(top.column(2).as_list(), index);
        assert_eq!(ids.len(), record.tokens.len());
        let expected: Vec<u32> = (0..(record.tokens.len() * TOP) as u32).collect();
        assert_eq!(ids.concat(), expected);
        let logprobs = matrix::<Float32Type>(top.column(3).as_list(), index);
        let list = |column: usize| {
            let list = top.column(column).as_list::<i32>().value(index);
            list.as_primitive::<Float32Type>().values().to_vec()
        };
        let (lengths, tails) = (list(4), list(5));
        assert_eq!(lengths.len(), ids.len());
        for (token, (logprobs, tail)) in logprobs.iter().zip(tails).enumerate() {
            let own = |place: usize| 1.0 - (token * TOP + place) as f64 - token as f64;
            let expected: Vec<f32> = (0..TOP).map(|place| own(place) as f32).collect();
            assert_eq!(*logprobs, expected);
            let mass: f64 = (0..TOP).map(|place| own(place).exp()).sum();
            assert_eq!(tail, (1.0 - mass).max(0.0) as f32);
        }
    }

    let embeddings = table(files, "embeddings.parquet");
    assert_eq!(
        types(&embeddings),
        "row Int64, id Utf8, embedding FixedSizeList(6 x Float32)"
    );
    let vectors: &FixedSizeListArray = embeddings.column(2).as_fixed_size_list();
    for (index, record) in records.iter().enumerate() {
        assert_eq!(vectors.is_valid(index), !record.tokens.is_empty());
    }
    let first: Vec<f32> = (0..COLS).map(|col| hidden(0, 0, col)).collect();
    assert_eq!(
        vectors.value(0).as_primitive::<Float32Type>().values(),
        &first[..]
    );

    let router = table(files, "router.parquet");
    assert_eq!(
        types(&router),
        "row Int64, id Utf8, layer UInt32, expert_ids List(List(UInt32)), weights List(List(Float32))"
    );
    assert_eq!(router.num_rows(), 2 * records.len());
    let layers = router
        .column(2)
        .as_primitive::<UInt32Type>()
        .values()
        .to_vec();
    assert_eq!(layers, [2, 3].repeat(records.len()));
    let doubled: Vec<String> = ids.iter().flat_map(|id| [id.clone(), id.clone()]).collect();
    assert_eq!(texts(router.column(1)), doubled);
    // Layer 3 of record 2.
    let experts = matrix::<UInt32Type>(router.column(3).as_list(), 5);
    assert_eq!(experts, [[0, 1], [2, 3], [4, 5], [6, 7], [0, 1]]);

    let profile = table(files, "profile.parquet");
    assert_eq!(
        types(&profile),
        "stack Utf8, layer UInt32, site Utf8, statistic Utf8, value Float64"
    );
    assert!(texts(profile.column(3)).contains(&"q0.5".to_owned()));

    let experts = table(files, "experts.parquet");
    assert_eq!(
        types(&experts),
        "stack Utf8, layer UInt32, expert UInt32, tokens UInt64, weight_sum Float64"
    );
    let tokens = experts
        .column(3)
        .as_primitive::<UInt64Type>()
        .values()
        .to_vec();
    assert_eq!(tokens, [0, 1 << 33, 2 << 33]);
}
