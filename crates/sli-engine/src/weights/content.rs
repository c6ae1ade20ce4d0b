//! The weights by content, over the processes of a run: what the journal and `run.json` keep of them.
//!
//! The ledger of the checkpoint compares what is read with what was read before. Here it is saved with every
//! checkpoint of the run and restored when the run goes on. Files that were touched in between are a reason to
//! look closer: then an interrupted super-batch starts again, so that no result is made of two models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sli_checkpoint::{BoundLeaf, CheckpointError, Sample, Stamp};

use super::load::{STAGING_BYTES, step_rows};
use super::{LeafKey, Section, leaves};
use crate::error::EngineError;
use crate::journal::{self, Difference, JournalError, OutputFolder};
use crate::model::Model;
use crate::settings::Observer;

/// Weights of at most so many bytes are read again where there is doubt.
const CHEAP: u64 = 4 << 30;

/// What a blob of the journal begins with, before the ledger.
#[derive(Serialize, Deserialize)]
struct Head {
    stamps: BTreeMap<String, Stamp>,
    /// Hashes of the tensors' samples, in order of names; empty where none were taken.
    sample: Vec<u64>,
}

/// The weights of a finished run, as `run.json` has them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WeightsRead {
    /// The files.
    pub files: Vec<String>,
    /// Weights that the folder has in another way too, which were not taken.
    pub left: Vec<String>,
    /// When the files were changed.
    pub stamps: BTreeMap<String, Stamp>,
    /// A hash of the weights that were read as a whole.
    pub content: String,
    /// The weights that it leaves out: token tables, of which single rows were read, and experts that no token
    /// chose.
    pub in_part: Vec<String>,
}

/// Begins to compare what is read, with what earlier processes of the run read.
pub(crate) fn resume(
    model: &Model,
    folder: &mut OutputFolder,
    observer: &dyn Observer,
) -> Result<(), EngineError> {
    let ledger = model.checkpoint.keep_ledger();
    let Some(saved) = folder.load_blob(journal::WEIGHTS)? else {
        return Ok(());
    };
    let known = parse(&saved).filter(|(_, rest)| ledger.restore(rest));
    let is_same = known.is_some_and(|(head, _)| head.stamps == *model.checkpoint.opened());
    if !is_same && folder.progress().current.is_some() {
        observer.warning(
            "the weight files were copied, touched or changed: the interrupted super-batch starts again",
        );
        folder.forget_current()?;
    }
    Ok(())
}

/// Enters what was read so far into the next checkpoint.
pub(crate) fn save(model: &Model, folder: &mut OutputFolder) -> Result<(), JournalError> {
    let Some(ledger) = model.checkpoint.keep_ledger().save() else {
        return Ok(());
    };
    let sample = model.checkpoint.known_sample();
    let head = Head {
        stamps: model.checkpoint.opened().clone(),
        sample: sample.map_or_else(Vec::new, |sample| sample.tensors.clone()),
    };
    let head = serde_json::to_vec(&head).map_err(std::io::Error::from)?;
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend(head);
    bytes.extend(ledger);
    folder.save_blob(journal::WEIGHTS, &bytes)
}

/// The head and the ledger of a blob; `None` if it is none.
fn parse(saved: &[u8]) -> Option<(Head, &[u8])> {
    let (length, rest) = saved.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (head, ledger) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(head).ok()?, ledger))
}

/// Refuses to finish a run whose weight files changed while it was at work, as far as that can be seen.
pub(crate) fn settle(model: &Model) -> Result<(), EngineError> {
    let checkpoint = &model.checkpoint;
    checkpoint.settle()?;
    let Some(known) = checkpoint.known_sample() else {
        return Ok(());
    };
    if checkpoint.stamps() == *checkpoint.opened() {
        return Ok(());
    }
    if let Some(changed) =
        changed_tensors(model, &known.tensors, &checkpoint.sample_again()?).first()
    {
        return Err(CheckpointError::Changed {
            place: checkpoint.place(),
            file: changed.1.clone(),
            tensor: changed.0.clone(),
        }
        .into());
    }
    if !known.is_whole && checkpoint.stored_bytes() <= CHEAP {
        for key in all_keys(model) {
            read_again(key.bound(model))?;
        }
    }
    Ok(())
}

/// Names and files of the tensors whose samples differ.
fn changed_tensors(model: &Model, before: &[u64], now: &Sample) -> Vec<(String, String)> {
    let checkpoint = &model.checkpoint;
    let pairs = checkpoint.tensors().zip(before.iter().zip(&now.tensors));
    let changed = pairs.filter(|(_, (before, now))| before != now);
    let name = |tensor: &sli_checkpoint::TensorInfo| {
        let file = checkpoint.file_name(tensor.file).to_owned();
        (tensor.name.to_string(), file)
    };
    changed.map(|(tensor, _)| name(tensor)).collect()
}

/// What to say of an interrupted run of other weights: which tensors differ, as far as it is known.
pub fn name_changed_tensors(
    error: JournalError,
    folder: &std::path::Path,
    model: &Model,
) -> JournalError {
    let JournalError::Different {
        path,
        mut differences,
    } = error
    else {
        return error;
    };
    if let Some(now) = model.checkpoint.known_sample()
        && let Some(saved) = journal::blob_of(folder, journal::WEIGHTS)
        && let Some((head, _)) = parse(&saved)
        && head.sample.len() == now.tensors.len()
    {
        let changed = changed_tensors(model, &head.sample, now);
        if let Some((tensor, file)) = changed.first() {
            let more = match changed.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            differences.push(Difference {
                name: format!("tensor `{tensor}`{more} in `{file}`"),
                was: Some("of the earlier weights".into()),
                is: Some("another".into()),
            });
        }
    }
    JournalError::Different { path, differences }
}

impl WeightsRead {
    pub(crate) fn new(model: &Model) -> Self {
        let checkpoint = &model.checkpoint;
        let mut content = blake3::Hasher::new();
        let mut in_part = Vec::new();
        for key in all_keys(model) {
            let mut with = content.clone();
            match key.bound(model).fold_read(&mut with) {
                Some(()) => content = with,
                None => in_part.push(key.describe(model)),
            }
        }
        Self {
            files: (checkpoint.files().iter())
                .map(|file| file.name.clone())
                .collect(),
            left: checkpoint
                .choice()
                .map_or_else(Vec::new, |choice| choice.left.clone()),
            stamps: checkpoint.opened().clone(),
            content: content.finalize().to_hex()[..32].to_owned(),
            in_part,
        }
    }
}

/// Looks closer at the weights of a finished run where their files are not as they were: what was read as a whole
/// is read again, if that is a matter of seconds. Otherwise the samples, which the key has, must do.
pub fn recheck(
    model: &Model,
    manifest: &journal::Manifest,
    folder: &std::path::Path,
) -> Result<(), EngineError> {
    let checkpoint = &model.checkpoint;
    let whole = checkpoint
        .known_sample()
        .is_some_and(|sample| sample.is_whole);
    let Ok(read) = serde_json::from_value::<WeightsRead>(manifest.json()["weights"].clone()) else {
        return Ok(());
    };
    if whole || read.stamps == *checkpoint.opened() || checkpoint.stored_bytes() > CHEAP {
        return Ok(());
    }
    checkpoint.keep_ledger();
    let mut content = blake3::Hasher::new();
    for key in all_keys(model) {
        if !read.in_part.contains(&key.describe(model)) {
            let leaf = key.bound(model);
            read_again(leaf)?;
            let _ = leaf.fold_read(&mut content);
        }
    }
    let now = content.finalize().to_hex()[..32].to_owned();
    if now == read.content {
        return Ok(());
    }
    Err(JournalError::Different {
        path: folder.to_path_buf(),
        differences: vec![Difference {
            name: "content of the weights".into(),
            was: Some(read.content),
            is: Some(now),
        }],
    }
    .into())
}

/// Reads all of a leaf; the ledger compares it.
fn read_again(leaf: &BoundLeaf) -> Result<(), EngineError> {
    let (step, row_bytes) = (step_rows(leaf, 1), leaf.row_bytes());
    let mut buffer = vec![0; STAGING_BYTES.max(row_bytes)];
    for slice in 0..leaf.slices() {
        let mut start = 0;
        while start < leaf.rows() {
            let end = (start + step).min(leaf.rows());
            leaf.read_rows(slice, start..end, &mut buffer[..(end - start) * row_bytes])?;
            start = end;
        }
    }
    Ok(())
}

/// Every leaf of the model that is there, in order of execution.
fn all_keys(model: &Model) -> Vec<LeafKey> {
    let mut keys = Vec::new();
    for (stack, description) in model.spec.stacks.iter().enumerate() {
        let layers = (0..description.layers.len()).map(Section::Layer);
        for part in [Section::Embedding]
            .into_iter()
            .chain(layers)
            .chain([Section::Head])
        {
            let count = leaves(model, stack, part).len();
            keys.extend((0..count).map(|leaf| LeafKey {
                stack,
                part,
                leaf: sli_spec::WeightIndex(leaf as u32),
            }));
        }
    }
    keys.retain(|key| model.binding.has(key.leaf(model)));
    keys
}
