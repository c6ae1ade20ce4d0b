//! A model in a GGUF file: configuration, tokenizer and weights come from it alone.

use std::sync::Arc;

use serde_json::Value;
use sli_checkpoint::{
    Checkpoint, CheckpointError, Codes, Dtype, Float, GgufFiles, ModelFolder, ModelPlace,
};
use sli_spec::Built;
use sli_spec::gguf::{self, FACTORS, Stored};

use crate::error::EngineError;
use crate::open_options::OpenOptions;

/// Most numbers of a tensor that is a part of the configuration.
const MOST_FACTORS: u64 = 4096;

/// What a GGUF file holds.
pub(crate) struct Opened {
    /// The files that it stands for.
    pub folder: ModelFolder,
    /// Its description, over the names of its tensors.
    pub built: Built,
    /// Its weights.
    pub checkpoint: Checkpoint,
}

/// Opens the GGUF file that a place names, or that is the weights of the folder that it names; `None`: there is none.
pub(crate) fn open(
    place: &ModelPlace,
    options: &OpenOptions,
) -> Result<Option<Opened>, EngineError> {
    let Some(name) = Checkpoint::gguf_file(place) else {
        return Ok(None);
    };
    let file = place.folder().join(&name);
    let mut checkpoint = Checkpoint::at(place)?;
    let stored = stored(&checkpoint)?;
    let options = sli_spec::Options {
        allow_unread: options.allow_unread.clone(),
    };
    let wrong = |source| EngineError::Config {
        path: file.clone(),
        source,
    };
    let (text, architecture) = gguf::configuration(&stored).map_err(wrong)?;
    let built = gguf::describe(&text, architecture, &stored, &options).map_err(wrong)?;
    checkpoint.declare(&Codes::default())?;
    let metadata = checkpoint.metadata().cloned().unwrap_or_default();
    let files = GgufFiles::new(Arc::clone(place.source()), &name, metadata, text);
    let folder = ModelFolder::at(Arc::new(files), &file);
    // The key of a run has it, whoever reads it.
    folder.look("config.json")?;
    Ok(Some(Opened {
        folder,
        built,
        checkpoint,
    }))
}

/// What the description depends on.
fn stored(checkpoint: &Checkpoint) -> Result<Stored, CheckpointError> {
    let mut stored = Stored::default();
    if let Some(metadata) = checkpoint.metadata() {
        let texts = metadata.values.iter();
        // The tokenizer is no part of it.
        let texts = texts.filter(|(key, _)| !key.starts_with("tokenizer."));
        let values = texts.map(|(key, value)| (key.clone(), value.clone()));
        stored.values = values.collect();
        let lists = metadata.lists.iter();
        let lists = lists.map(|(key, list)| (key.clone(), Value::from(list.count)));
        stored.lists = lists.collect();
        stored.padding = metadata.number("tokenizer.ggml.padding_token_id");
    }
    for tensor in checkpoint.tensors() {
        let shape = tensor.shape.to_vec();
        stored.tensors.insert(tensor.name.to_string(), shape);
    }
    for name in FACTORS {
        let Some(tensor) = checkpoint.tensor(name) else {
            continue;
        };
        if tensor.dtype != Dtype::F32 || tensor.elements() > MOST_FACTORS {
            continue;
        }
        let mut bytes = vec![0; tensor.bytes as usize];
        checkpoint.read_at(tensor.file, tensor.offset, &mut bytes)?;
        let numbers = Float::F32.to_f32(&bytes).into_iter().map(f64::from);
        stored.factors.insert(name.to_owned(), numbers.collect());
    }
    Ok(stored)
}
