//! Files that llama.cpp's converter made of the reference's models, against what the reference computes.
//!
//! `GGUF_FOLDER` in the environment is another folder of such files (`tools/formats/gguf_files.py`), `ONLY=llama,qwen`
//! restricts to some prefixes.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use sli_engine::journal::{Opened, OutputFolder, RunKey};
use sli_engine::records::{Record, RecordSpoolWriter};
use sli_engine::take::{LayerSelection, Take};
use sli_engine::{
    Annotation, EngineError, Model, OpenOptions, Quiet, Settings, available_takes, run,
};
use sli_testing::read_tensors;

const TOLERANCE: f64 = 1e-4;

fn folder() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gguf");
    std::env::var_os("GGUF_FOLDER").map_or_else(|| own.into(), PathBuf::from)
}

/// The greatest difference, as a part of the greatest number.
fn difference(file: &Path, expected: &Value) -> Result<f64, String> {
    let home = tempfile::tempdir().unwrap();
    let said = |error: EngineError| format!("{error}: {:?}", std::error::Error::source(&error));
    let model = Model::open(file, &OpenOptions::default()).map_err(said)?;
    let mut spool = RecordSpoolWriter::create(&home.path().join("spool")).unwrap();
    let tokens = |key: &str| serde_json::from_value::<Vec<u32>>(expected[key].clone());
    let record = Record {
        id: "0".into(),
        tokens: tokens("ids").unwrap(),
        ..Record::default()
    };
    let decoder = tokens("decoder_ids").ok();
    if decoder.is_some() {
        spool = spool.with_decoder().unwrap();
    }
    spool.push(&record).unwrap();
    if let Some(tokens) = decoder {
        let record = Record { tokens, ..record };
        spool.push_decoder(&record, &Annotation::default()).unwrap();
    }
    let spool = spool.finish().unwrap();
    let mut settings = Settings {
        memory: 1 << 30,
        ..Settings::default()
    };
    let hidden = [Take::Hidden(LayerSelection::all())];
    // The table of tokens of an encoder could be a head.
    let takes = if expected["hidden"] == true {
        available_takes(&model, &hidden)
    } else {
        let logits = available_takes(&model, &[Take::Logits]);
        logits.or_else(|_| available_takes(&model, &hidden))
    };
    settings.takes = takes.map_err(said)?.0;
    let out = home.path().join("out");
    let Ok(Opened::New(output)) = OutputFolder::open(&out, RunKey::new(), false) else {
        panic!("the output folder is new");
    };
    run(&model, &spool, &settings, output, &Quiet).map_err(said)?;
    let rows: Vec<Vec<f64>> = serde_json::from_value(expected["rows"].clone()).unwrap();
    let rows: Vec<f64> = rows.concat();
    let logits = out.join("logits.safetensors");
    let found = if logits.exists() {
        logits
    } else {
        let mut files: Vec<PathBuf> = fs_err::read_dir(out.join("hidden"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files.pop().unwrap()
    };
    let tensors = read_tensors(&found);
    let (_, tensor) = tensors.into_iter().next().unwrap();
    assert_eq!(tensor.values.len(), rows.len());
    let pairs = tensor.values.iter().zip(&rows);
    let worst = pairs
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, f64::max);
    let most = rows
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    Ok(worst / most)
}

#[test]
fn every_file_is_the_model_that_it_was_made_of() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut files: Vec<PathBuf> = fs_err::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "gguf"))
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            only.split(',').any(|prefix| name.starts_with(prefix))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs_err::read_to_string(file.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        match difference(&file, &expected) {
            Ok(difference) if difference <= TOLERANCE => {}
            Ok(difference) => wrong.push(format!("{name}: differs by {difference:.1e}")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
