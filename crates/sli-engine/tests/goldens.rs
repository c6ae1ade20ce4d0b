//! Every registered type against the reference: all hidden states and the logits of every golden,
//! with weights stored in f32 and bf16, with ample and with the least memory.
//!
//! `ONLY=llama,qwen` in the environment restricts the goldens to some prefixes.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

#[path = "support/pictures.rs"]
mod pictures;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{AsArray, FixedSizeListArray};
use arrow::datatypes::Float32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sli_engine::journal::{Opened, OutputFolder, RunKey};
use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::take::{LayerSelection, Pooling, Take};
use sli_engine::{
    Annotation, EngineError, Model, OpenOptions, Quiet, Settings, Spill, available_takes, plan, run,
};
use sli_spec::registry::MODEL_TYPES;
use sli_testing::{Expected, Golden, GoldenRecord, Stored, compare, golden_names, read_tensors};

use pictures::{pictures_of, positions_of};

const TOLERANCE: f64 = 1e-4;

/// Goldens that are checked at a time.
const SIDE_BY_SIDE: usize = 8;

/// Goldens of registered types.
fn selected() -> Vec<Golden> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let known: BTreeSet<&str> = MODEL_TYPES.iter().map(|row| row.model_type).collect();
    golden_names()
        .into_iter()
        .filter(|name| only.split(',').any(|prefix| name.starts_with(prefix)))
        .map(|name| Golden::open(&name))
        .filter(|golden| model_type(golden).is_some_and(|name| known.contains(name.as_str())))
        .collect()
}

fn model_type(golden: &Golden) -> Option<String> {
    if golden.folder.join("params.json").exists() {
        return Some(sli_spec::families::original::MODEL_TYPE.to_owned());
    }
    let text = fs_err::read_to_string(golden.folder.join("config.json")).ok()?;
    sli_spec::Config::parse(&text).ok()?.model_type().ok()
}

fn settings(memory: u64, spill: Spill) -> Settings {
    Settings {
        takes: vec![Take::Hidden(LayerSelection::all()), Take::Logits],
        memory,
        spill,
        spill_room: 1 << 30,
        ..Settings::default()
    }
}

fn spool(golden: &Golden, model: &Model, folder: &Path) -> RecordSpool {
    let writer = RecordSpoolWriter::create(folder).unwrap();
    let mut writer = writer.with_sequences(&model.spec).unwrap();
    let decoder = model.spec.decoder_input();
    for record in golden.records() {
        let pictures = pictures_of(&record, model);
        let features = model.spec.input_stack().input.features();
        let rows = features.map(|features| {
            let values = record.input_features.as_ref().map_or(0, Vec::len);
            vec![0; features.rows(values / features.channels)]
        });
        let beside = model.spec.has_pictures_beside();
        let mut own = pictures.clone().filter(|_| !beside).unwrap_or(Record {
            inputs: inputs_of(&record, model),
            id: record.id,
            tokens: rows.unwrap_or(record.input_ids),
            features: record.input_features,
            token_types: record.token_type_ids,
            ..Record::default()
        });
        if let Some(pictures) = pictures.as_ref().filter(|_| beside) {
            own.inputs = positions_of(&own, (record.pictures.as_ref(), pictures), model);
        }
        writer.push(&own).unwrap();
        if beside {
            let none = || Record {
                id: own.id.clone(),
                ..Record::default()
            };
            writer
                .push_pictures(&pictures.unwrap_or_else(none))
                .unwrap();
        }
        if let Some(decoder) = decoder {
            let shifted = || {
                decoder
                    .of_labels(own.tokens.iter().copied().map(Some))
                    .unwrap()
            };
            let tokens = record.decoder_input_ids.unwrap_or_else(shifted);
            let record = Record {
                tokens,
                token_types: None,
                inputs: None,
                ..own
            };
            writer
                .push_decoder(&record, &Annotation::default())
                .unwrap();
        }
    }
    writer.finish().unwrap()
}

/// What stands beside the tokens of a record, as the model reads it.
fn inputs_of(record: &GoldenRecord, model: &Model) -> Option<Vec<u32>> {
    let embedding = model.spec.input_stack().input.embedding()?;
    if record.beside.is_empty() {
        return None;
    }
    let mut numbers = Vec::new();
    for position in 0..record.input_ids.len() {
        for input in &embedding.inputs {
            match record.beside.get(input.name) {
                Some(beside) => {
                    let own = &beside.numbers[position * beside.columns..][..beside.columns];
                    if let (&[x0, y0, x1, y1], 8) = (own, input.columns) {
                        numbers.extend([x0, y0, x1, y0, x1, y1, x0, y1]);
                    } else {
                        numbers.extend(own);
                    }
                }
                None => {
                    let value = input.otherwise(position);
                    numbers.extend(std::iter::repeat_n(value, input.columns));
                }
            }
        }
    }
    Some(numbers)
}

/// Runs a golden and returns its results by `record.name`.
fn results(
    golden: &Golden,
    model: &Model,
    folder: &Path,
    memory: Option<u64>,
    spill: Spill,
) -> Result<BTreeMap<String, Expected>, EngineError> {
    let records = spool(golden, model, &folder.join("spool"));
    let mut settings = settings(memory.unwrap_or(0), spill);
    settings.takes = available_takes(model, &settings.takes)?.0;
    if memory.is_none() {
        match plan(model, &records, &settings) {
            Err(EngineError::Budget { needed, .. }) => settings.memory = needed,
            other => panic!("{}: a budget of nothing gave {other:?}", golden.name),
        }
    }
    let out = folder.join("out");
    let Opened::New(output) = OutputFolder::open(&out, RunKey::new(), false)? else {
        panic!("the output folder is new");
    };
    run(model, &records, &settings, output, &Quiet)?;
    let mut found = BTreeMap::new();
    for (file, name) in result_files(&out) {
        for (record, tensor) in read_tensors(&file) {
            found.insert(format!("{record}.{name}"), tensor);
        }
    }
    Ok(found)
}

/// Safetensors results with the names they have in a golden.
fn result_files(out: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut files = vec![(out.join("logits.safetensors"), "logits".to_owned())];
    for entry in fs_err::read_dir(out.join("hidden")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.push((path, format!("hidden.{stem}")));
    }
    files.retain(|(path, _)| path.exists());
    files
}

/// The reference had weights that bf16 does not hold: then weights stored as bf16 give what the same
/// numbers give when they are stored as f32.
fn check_bf16_storage(golden: &Golden) -> Result<(), String> {
    let found = [Stored::Bf16, Stored::F32OfBf16].map(|stored| {
        let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        golden.write(folder.path(), stored);
        let model = Model::open(folder.path(), &OpenOptions::default())
            .map_err(|error| format!("{error}"))?;
        results(golden, &model, work.path(), Some(8 << 30), Spill::Auto)
            .map_err(|error| format!("{stored:?}: {error}"))
    });
    let [half, full] = found;
    let (half, full) = (half?, full?);
    for (name, expected) in &full {
        let same = half
            .get(name)
            .is_some_and(|tensor| tensor.values == expected.values);
        if !same {
            return Err(format!("{name}: stored as bf16 it differs"));
        }
    }
    Ok(())
}

fn check(golden: &Golden) -> Result<(), String> {
    for stored in [Stored::F32, Stored::Bf16] {
        if stored == Stored::Bf16 && !golden.rounded {
            check_bf16_storage(golden)?;
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        golden.write(folder.path(), stored);
        let model = Model::open(folder.path(), &OpenOptions::default())
            .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
        let ways = [
            (Some(8 << 30), Spill::Never),
            (None, Spill::Auto),
            (None, Spill::Always),
        ];
        for (memory, spill) in ways {
            let work = tempfile::tempdir().unwrap();
            let found = results(golden, &model, work.path(), memory, spill)
                .map_err(|error| format!("{stored:?}, memory {memory:?}: {error}"))?;
            for record in golden.records() {
                for (name, expected) in golden.expectations(&record.id) {
                    if !name.starts_with("hidden.") && name != "logits" {
                        continue;
                    }
                    let at = || {
                        format!(
                            "{stored:?}, memory {memory:?}, record {}, {name}",
                            record.id
                        )
                    };
                    let key = format!("{}.{name}", record.id);
                    let tensor = found
                        .get(&key)
                        .ok_or_else(|| format!("{}: not there", at()))?;
                    compare(tensor, &expected, TOLERANCE)
                        .map_err(|problem| format!("{}: {problem}", at()))?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_golden_is_met() {
    let goldens = selected();
    // Most of the time goes to making small files durable, so many run side by side.
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(golden) = goldens.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(problem) = check(golden) {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{}: {problem}", golden.name));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    println!("{} goldens, {} failed", goldens.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!goldens.is_empty(), "no golden was selected");
}

/// The pooled last token of every record.
fn last_tokens(golden: &Golden) -> Vec<Vec<f32>> {
    let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    golden.write(folder.path(), Stored::F32);
    let model = Model::open(folder.path(), &OpenOptions::default()).unwrap();
    let records = spool(golden, &model, &work.path().join("spool"));
    let mut settings = settings(8 << 30, Spill::Auto);
    settings.takes = vec![Take::Embedding(Some(Pooling::Last))];
    let out = work.path().join("out");
    let Ok(Opened::New(output)) = OutputFolder::open(&out, RunKey::new(), false) else {
        panic!("the output folder is new");
    };
    run(&model, &records, &settings, output, &Quiet).unwrap();
    let file = fs_err::File::open(out.join("embeddings.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.into_file()).unwrap();
    let mut vectors = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let lists: &FixedSizeListArray = batch.column(2).as_fixed_size_list();
        let values = lists.values().as_primitive::<Float32Type>().values();
        let length = lists.value_length() as usize;
        vectors.extend(values.chunks_exact(length).map(<[f32]>::to_vec));
    }
    vectors
}

#[test]
fn a_pooled_token_is_that_of_the_projected_end() {
    let golden = Golden::open("opt-model-projected");
    let vectors = last_tokens(&golden);
    for (record, values) in golden.records().iter().zip(vectors) {
        let end = &golden.expectations(&record.id)["last_hidden_state"];
        let [rows, columns] = end.shape;
        let last = Expected {
            shape: [1, columns],
            values: end.values[(rows - 1) * columns..].to_vec(),
        };
        let found = Expected {
            shape: [1, values.len()],
            values,
        };
        compare(&found, &last, TOLERANCE).unwrap();
    }
}

#[test]
fn every_registered_type_has_a_golden() {
    let with: BTreeSet<String> = golden_names()
        .iter()
        .filter_map(|name| model_type(&Golden::open(name)))
        .collect();
    let without: Vec<_> = MODEL_TYPES
        .iter()
        .map(|row| row.model_type)
        .filter(|name| !with.contains(*name))
        .collect();
    assert!(without.is_empty(), "no golden for {without:?}");
}
