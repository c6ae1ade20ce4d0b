//! What the results of a run depend on: the key under which its folder is kept.
//!
//! Content counts, not paths and times: a copied model is the same one. What never changes a result (memory, threads,
//! spilling, sharing, checkpoints) is not part of it. What a dataset is, its owner adds.

use sli_checkpoint::FileIdentity;
use sli_kernels::{Compute, Isa};

use crate::error::EngineError;
use crate::journal::RunKey;
use crate::model::Model;
use crate::precision::compute_name;
use crate::settings::Settings;
use crate::take::Take;

/// What the names of the parts of a key begin with that are the reference's.
pub(super) const REFERENCE: &str = "reference ";

/// The part of a key that names the precision of the products.
const COMPUTE: &str = "compute";

/// Adds what a model and what is asked of it decide. Of the model's folder it has what was read so far, and what `earlier`,
/// the key of a run that may be the same, had read: only reading again tells what else counts.
pub(super) fn add(
    key: &mut RunKey,
    model: &Model,
    settings: &Settings,
    earlier: Option<&RunKey>,
) -> Result<(), EngineError> {
    key.set("program", env!("CARGO_PKG_VERSION"))
        .set("kernels", Isa::detect());
    let sample = model.checkpoint.sample()?;
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
        model.home.look(file)?;
    }
    key.add_files(&model.home.record());
    let takes: Vec<String> = settings.takes.iter().map(ToString::to_string).collect();
    key.set("takes", takes.join(" "));
    key.set(COMPUTE, compute_name(settings.compute));
    let mut takes = settings.takes.iter();
    if takes.any(|take| matches!(take, Take::Hidden(_))) {
        let dtype = format!("{:?}", settings.hidden_dtype);
        key.set("hidden dtype", dtype.to_lowercase());
    }
    Ok(())
}

/// The precision of the run that has this key.
pub(super) fn precision_of(key: &RunKey) -> Option<Compute> {
    let name = key.get(COMPUTE);
    let all = [Compute::F32, Compute::Bf16];
    all.into_iter()
        .find(|&compute| name == Some(compute_name(compute)))
}

/// 128 bits of a hash are enough to tell contents apart.
pub fn shorten(digest: &str) -> String {
    digest.get(..32).unwrap_or(digest).to_owned()
}
