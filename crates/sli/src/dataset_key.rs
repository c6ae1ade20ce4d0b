//! What decides the records of a run: the dataset's part of the run's key.
//!
//! Content counts, not paths and times: a copied dataset is the same one.

use std::io;
use std::path::Path;

use blake3::Hasher;
use sli_engine::journal::{DATASETS, RunKey, SHARD};
use sli_engine::shorten;
use sli_engine::take::Take;

use crate::cli::ScoreArg;
use crate::error::Error;
use crate::job::Job;
use crate::memory::Allowance;
use crate::seeing;
use crate::tensors;
use crate::tokenizer::Choice;

/// The dataset, and what decides how a record becomes tokens and which of them are scored.
pub fn dataset_key(job: &Job) -> Result<RunKey, Error> {
    let mut key = RunKey::new();
    let digests: Result<Vec<_>, _> = job.input.files().iter().map(|file| digest(file)).collect();
    let content = match &digests?[..] {
        [one] => one.clone(),
        all => format!(
            "{} files, {}",
            all.len(),
            shorten(&blake3::hash(all.join(" ").as_bytes()).to_hex())
        ),
    };
    key.set("input", content)
        .set("input format", job.input.extensions());
    if job.session.settings().takes.contains(&Take::Imatrix) {
        let names = job.input.files().iter().filter_map(|file| file.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        key.set(DATASETS, names.join("\n"));
    }
    for (name, column) in job.input.renames.pairs() {
        key.set(format!("column of {name}"), column);
    }
    if let Some(content) = job.selection.content {
        key.set("use", content.key());
    }
    if job.selection.null_is_empty {
        key.set("null and empty records", "left out");
    }
    match &job.chat.template {
        Some(Choice::Name(name)) => {
            key.set("chat template", name);
        }
        Some(Choice::File(source)) => {
            let hash = blake3::hash(source.text.as_bytes());
            key.set("chat template", shorten(&hash.to_hex()));
        }
        None => {}
    }
    for (name, value) in &job.chat.arguments {
        key.set(format!("chat argument {name}"), value);
    }
    if let Some(length) = job.max_length {
        key.set("max length", length);
    }
    if let Some(length) = job.texts.limit {
        key.set("longest text", length);
    }
    if let Some(prompt) = &job.texts.prompt {
        key.set("prompt", &prompt.text);
    }
    let spec = &job.session.model().spec;
    if spec.input_stack().input.features().is_some() || spec.picture_stack().is_some() {
        let records = job.input.open(&Allowance::unlimited(), job.selection)?;
        let mut all = Hasher::new();
        for file in tensors::files(records)? {
            all.update(digest(&file)?.as_bytes());
        }
        key.set("tensors", shorten(&all.finalize().to_hex()));
        let records = job.input.open(&Allowance::unlimited(), job.selection)?;
        let files = seeing::files(records)?;
        if !files.is_empty() {
            let mut all = Hasher::new();
            for file in files {
                all.update(digest(&file)?.as_bytes());
            }
            key.set("pictures", shorten(&all.finalize().to_hex()));
        }
    }
    if let Some(shard) = job.shard {
        key.set(SHARD, format!("{} of {}", shard.index, shard.of));
    }
    for (name, value) in &job.reading.arguments {
        key.set(format!("tokenizer argument {name}"), value);
    }
    if job.reading.literal {
        key.set("tokenizer", "tokenizer.json as it is");
    }
    match job.score {
        ScoreArg::All => {}
        ScoreArg::Assistant => {
            key.set("score", "assistant");
        }
    }
    Ok(key)
}

/// A hash of a file's content.
fn digest(path: &Path) -> Result<String, Error> {
    let failed = |source: io::Error| Error::File {
        what: "cannot read",
        path: path.into(),
        source,
    };
    // A device may have no end, a pipe no other end.
    if !fs_err::metadata(path).map_err(failed)?.is_file() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(failed(io::Error::new(kind, "it is not a regular file")));
    }
    let mut hasher = Hasher::new();
    hasher
        .update_reader(fs_err::File::open(path).map_err(failed)?)
        .map_err(failed)?;
    Ok(shorten(&hasher.finalize().to_hex()))
}
