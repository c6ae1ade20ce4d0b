//! What the results of a run depend on: the key under which its folder is kept.
//!
//! Content counts, not paths and times: a copied model or dataset is the same one. What never changes
//! a result (memory, threads, spilling, sharing, checkpoints) is not part of it.

use std::io;
use std::path::Path;

use blake3::Hasher;
use sli_checkpoint::FileIdentity;
use sli_engine::journal::RunKey;
use sli_engine::take::Take;
use sli_engine::{Model, Settings};
use sli_kernels::{Compute, Isa};

use crate::error::Error;
use crate::tokenizer;

/// Files that say how sentence embeddings are made.
const POOLING_FILES: [&str; 2] = ["modules.json", "1_Pooling/config.json"];

/// The key of a run.
pub fn run_key(
    model: &Model,
    input: &Path,
    settings: &Settings,
    max_length: Option<usize>,
) -> Result<RunKey, Error> {
    let mut key = RunKey::new();
    key.set("program", env!("CARGO_PKG_VERSION"))
        .set("kernels", Isa::detect());
    for (file, identity) in &model.checkpoint.identity().files {
        let value = match identity {
            FileIdentity::Content { digest } => shorten(digest),
            FileIdentity::Weights { size, header } => {
                format!("{size} bytes, header {}", shorten(header))
            }
        };
        key.set(format!("model {file}"), value);
    }
    for file in tokenizer::FILES {
        if let Some(digest) = digest_if_there(&model.folder.join(file))? {
            key.set(format!("model {file}"), digest);
        }
    }
    if settings
        .takes
        .iter()
        .any(|take| matches!(take, Take::Embedding(_)))
    {
        for file in POOLING_FILES {
            if let Some(digest) = digest_if_there(&model.folder.join(file))? {
                key.set(format!("model {file}"), digest);
            }
        }
    }
    let format = input.extension().unwrap_or_default().to_ascii_lowercase();
    key.set("input", digest(input)?)
        .set("input format", format.display());
    let takes: Vec<String> = settings.takes.iter().map(ToString::to_string).collect();
    key.set("takes", takes.join(" "));
    key.set("compute", compute_name(settings.compute));
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
    if let Some(length) = max_length {
        key.set("max length", length);
    }
    Ok(key)
}

/// As on the command line.
pub fn compute_name(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}

fn digest_if_there(path: &Path) -> Result<Option<String>, Error> {
    if path.is_file() {
        digest(path).map(Some)
    } else {
        Ok(None)
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
