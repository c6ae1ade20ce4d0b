//! Weights of a record's own tokens, from a layer that lies beside the model (`sparse_linear.pt` of BGE-M3): the largest weight
//! of each token that occurs, without the special ones.
//!
//! After FlagEmbedding: `relu(W h + b)` of every token; beginning, end, padding and unknown tokens have none.

use std::collections::BTreeMap;
use std::io::BufReader;

use serde::Deserialize;
use serde_json::Value;
use sli_checkpoint::ModelFolder;
use sli_kernels::{Compute, Mat, PackedWeights, Store};

use crate::error::EngineError;
use crate::exec::BoundLayer;
use crate::exec::batch::Batch;
use crate::expansion;
use crate::journal::OutputFolder;
use crate::model::Model;
use crate::pooling::{ModuleWeights, Stored, columns};
use crate::results::{ResultsError, SparseSink};
use crate::sentence_folder::{read_object, unusable};

/// The weights of the layer.
const FILE: &str = "sparse_linear.pt";
/// The settings that name special tokens, and the file that has their ids.
const SETTINGS: &str = "tokenizer_config.json";
const TOKENIZER: &str = "tokenizer.json";
/// Largest tokenizer that is read, bytes.
const TOKENIZER_LIMIT: u64 = 256 << 20;
/// Tokens that have no weight.
const UNUSED: [&str; 4] = ["cls_token", "eos_token", "pad_token", "unk_token"];
/// Rows that go through the layer together.
const BLOCK: usize = 64;
/// What helps where the tokens are not known.
const HINT: &str = "load and save the tokenizer with transformers";

/// Where the weights of the layer are, and the tokens without weight.
pub(crate) struct LexicalLayer {
    weight: Stored,
    bias: Stored,
    unused: Vec<u32>,
}

/// The layer and what it has said.
pub(crate) struct Lexical {
    weight: PackedWeights,
    bias: Vec<f32>,
    unused: Vec<u32>,
    sink: SparseSink,
    /// Of a record whose pieces come one by one.
    open: BTreeMap<u32, f32>,
}

/// The file of such a layer in the folder of the model, where there is one.
pub fn lexical_weights(model: &Model) -> Result<Option<&'static str>, EngineError> {
    Ok(is_there(model)?.then_some(FILE))
}

/// Whether such a layer lies beside the model.
pub(crate) fn is_there(model: &Model) -> Result<bool, EngineError> {
    Ok(model.folder.has(FILE)?)
}

impl LexicalLayer {
    /// Looks at the files.
    pub fn of(model: &Model) -> Result<Self, EngineError> {
        let mut weights = ModuleWeights::of_file(&model.folder, FILE)?;
        let weight = weights.take("weight", &[1, columns(model, None)?])?;
        let bias = weights.take("bias", &[1])?;
        weights.finish()?;
        let unused = unused(&model.folder)?;
        Ok(Self {
            weight,
            bias,
            unused,
        })
    }
}

/// What is read of a tokenizer: the tokens that are no part of its model.
#[derive(Deserialize)]
struct Added {
    added_tokens: Vec<AddedToken>,
}

/// One of them.
#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// The ids of the tokens without weight, of those that the tokenizer has.
fn unused(folder: &ModelFolder) -> Result<Vec<u32>, EngineError> {
    let settings = read_object(folder, SETTINGS)?.unwrap_or_default();
    let named = |key: &str| match settings.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Object(token) => Some(token.get("content")?.as_str()?.to_owned()),
        _ => None,
    };
    let named: Vec<String> = UNUSED.into_iter().filter_map(named).collect();
    let wrong = |problem: String| unusable(folder.join(TOKENIZER), problem, HINT);
    let Some(file) = folder.open(TOKENIZER, TOKENIZER_LIMIT)? else {
        return Err(wrong(
            "it is missing, and special tokens have no weight".into(),
        ));
    };
    let added: Added =
        serde_json::from_reader(BufReader::new(file)).map_err(|error| wrong(error.to_string()))?;
    let id = |name: &String| {
        let mut tokens = added.added_tokens.iter();
        let found = tokens.find(|token| token.content == *name);
        found.map(|token| token.id).ok_or_else(|| {
            wrong(format!(
                "`{name}`, which {SETTINGS} names, is none of its `added_tokens`"
            ))
        })
    };
    named.iter().map(id).collect()
}

impl Lexical {
    /// Reads the layer and starts the table, or goes on with it.
    pub fn open(
        model: &Model,
        compute: Compute,
        folder: &OutputFolder,
    ) -> Result<Self, EngineError> {
        let layer = LexicalLayer::of(model)?;
        Ok(Self {
            weight: layer.weight.matrix(compute)?,
            bias: layer.bias.vector()?,
            unused: layer.unused,
            sink: SparseSink::open(folder)?,
            open: BTreeMap::new(),
        })
    }

    /// Weighs the tokens of a batch; `x` is the end of the stack.
    pub fn weigh(
        &mut self,
        layer: &BoundLayer<'_>,
        batch: &Batch,
        x: &Mat,
    ) -> Result<(), EngineError> {
        let mut copy = Mat::default();
        let mut out = Mat::default();
        for record in &batch.records {
            let runs = batch.path(record);
            let tokens = expansion::values(&batch.tokens, 1, &runs);
            let rows = expansion::rows(x, &runs, &mut copy);
            for (block, tokens) in tokens.chunks(BLOCK).enumerate() {
                let start = block * BLOCK;
                let rows = rows.rows_range(start..start + tokens.len());
                out.reset(tokens.len(), 1);
                let bias = Some(&self.bias[..]);
                layer
                    .kernels
                    .gemm(rows, &self.weight, bias, Store::Set, out.view_mut());
                for (&token, &weight) in tokens.iter().zip(out.as_slice()) {
                    if weight > 0.0 && !self.unused.contains(&token) {
                        let most = self.open.entry(token).or_default();
                        *most = most.max(weight);
                    }
                }
            }
            if record.ends() {
                let weights: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
                self.sink.push(record.name(), &weights)?;
            }
        }
        Ok(())
    }

    /// Publishes the table.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        self.sink.finish(folder)
    }
}
