//! What the results of a run depend on: the key under which its folder is kept.
//!
//! Content counts, not paths and times: a copied model or dataset is the same one. What never changes
//! a result (memory, threads, spilling, sharing, checkpoints) is not part of it.

use std::io;
use std::path::Path;

use blake3::Hasher;
use sli_checkpoint::FileIdentity;
use sli_engine::EngineError;
use sli_engine::journal::RunKey;
use sli_engine::take::Take;
use sli_kernels::{Compute, Isa};

use crate::cli::ScoreArg;
use crate::error::Error;
use crate::job::Job;
use crate::tokenizer::Choice;

/// The part of a key that names the precision of the products.
const COMPUTE: &str = "compute";

/// The key of a run. Of the model's folder it has what was read so far, and what `earlier`, the key of
/// a run that may be the same, had read: only reading again tells what else counts.
pub fn run_key(job: &Job, earlier: Option<&RunKey>) -> Result<RunKey, Error> {
    let Job {
        model, settings, ..
    } = job;
    let mut key = RunKey::new();
    key.set("program", env!("CARGO_PKG_VERSION"))
        .set("kernels", Isa::detect());
    let sample = model.checkpoint.sample().map_err(EngineError::from)?;
    for (file, identity) in &model.checkpoint.identity().files {
        let value = match identity {
            FileIdentity::Content { digest } => shorten(digest),
            FileIdentity::Weights { size, header } => {
                let content = sample.files.get(file).map_or("", String::as_str);
                let what = if sample.is_whole {
                    "content"
                } else {
                    "samples"
                };
                format!("{size} bytes, header {}, {what} {content}", shorten(header))
            }
        };
        key.set(format!("weights {file}"), value);
    }
    // Two sets of tensors may fit, of which a flag chose one.
    if let Some(naming) = &model.naming {
        key.set("tensor names", naming);
    }
    for file in earlier.into_iter().flat_map(RunKey::files) {
        model.home.look(file).map_err(EngineError::from)?;
    }
    key.add_files(&model.home.record());
    let format = job
        .input
        .extension()
        .unwrap_or_default()
        .to_ascii_lowercase();
    key.set("input", digest(&job.input)?)
        .set("input format", format.display());
    let takes: Vec<String> = settings.takes.iter().map(ToString::to_string).collect();
    key.set("takes", takes.join(" "));
    key.set(COMPUTE, compute_name(settings.compute));
    if settings
        .takes
        .iter()
        .any(|take| matches!(take, Take::Hidden(_)))
    {
        key.set(
            "hidden dtype",
            format!("{:?}", settings.hidden_dtype).to_lowercase(),
        );
    }
    add_texts(&mut key, job);
    Ok(key)
}

/// What decides how a record becomes tokens, and which of them are scored.
fn add_texts(key: &mut RunKey, job: &Job) {
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
    if job.tokenizer_file {
        key.set("tokenizer", "tokenizer.json as it is");
    }
    match job.score {
        ScoreArg::All => {}
        ScoreArg::Assistant => {
            key.set("score", "assistant");
        }
    }
}

/// The precision of the run that has this key.
pub fn precision_of(key: &RunKey) -> Option<Compute> {
    let name = key.get(COMPUTE);
    let all = [Compute::F32, Compute::Bf16];
    all.into_iter()
        .find(|&compute| name == Some(compute_name(compute)))
}

/// As on the command line.
pub fn compute_name(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}

/// A hash of a file's content.
fn digest(path: &Path) -> Result<String, Error> {
    let failed = |source: io::Error| Error::File {
        what: "cannot read",
        path: path.into(),
        source,
    };
    let mut hasher = Hasher::new();
    hasher
        .update_reader(fs_err::File::open(path).map_err(failed)?)
        .map_err(failed)?;
    Ok(shorten(&hasher.finalize().to_hex()))
}

/// 128 bits of a hash are enough to tell contents apart.
fn shorten(digest: &str) -> String {
    digest.get(..32).unwrap_or(digest).to_owned()
}
