//! A model opened for running: its description bound to its checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::naming::{self, Naming};
use sli_checkpoint::source::{Arrival, NamedRange};
use sli_checkpoint::{
    Binding, BoundLeaf, Checkpoint, CheckpointError, Codes, Dtype, LeafProblem, ModelFolder,
    ModelPlace,
};
use sli_spec::{
    CLASSIFIER, Config, DecayTables, HEAD, Input, Instead, Leaf, Mixer, ModelSpec, PooledEnd,
    PositionTable, Step,
};

use crate::adapter;
use crate::coded::codes_of;
use crate::error::{AGAIN, EngineError};
use crate::gguf;
use crate::open_options::OpenOptions;
use crate::sentence_folder::{follow_scores, model_folder};
use crate::weight_clock::WeightClock;

/// A model whose every needed tensor is known to be in its checkpoint, with the right shape.
pub struct Model {
    /// The folder with `config.json` and the tokenizer, and what was read of it.
    pub folder: ModelFolder,
    /// The folder that the user named: [`Self::folder`], or that of the sentence-transformers model it is a part of.
    pub home: ModelFolder,
    /// The description.
    pub spec: ModelSpec,
    /// The checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// The description's weights found in the checkpoint.
    pub binding: Binding,
    /// Keys of `config.json` that were allowed to go unread.
    pub unread: Vec<String>,
    /// What sentence-transformers reads of the configuration, [`sli_spec::BESIDE`].
    pub beside: serde_json::Map<String, serde_json::Value>,
    /// How the names in the files became those of the model, where they are others.
    pub naming: Option<Naming>,
    /// The class that is run instead of the one that the configuration names, where that is another.
    pub instead: Option<Instead>,
    /// The first tensor of the head that gives logits, where the model has one and the checkpoint does
    /// not hold it.
    pub missing_head: Option<String>,
    /// The same of the head that gives classes.
    pub missing_classifier: Option<String>,
    pub(crate) clock: WeightClock,
}

/// The description of a model, and the one that Meta's own files have in its place.
pub(crate) const CONFIG: &str = "config.json";
const PARAMS: &str = "params.json";

/// Weights of a layer that lie as near as this are fetched together, bytes.
const NEAR: u64 = 1 << 20;

/// Largest `config.json` that is read, bytes.
const CONFIG_LIMIT: u64 = 64 << 20;

impl Model {
    /// Opens the model in a folder, or the one whose single weights file this is.
    pub fn open(place: impl Into<ModelPlace>, options: &OpenOptions) -> Result<Self, EngineError> {
        let place = place.into();
        if let Some(opened) = gguf::open(&place, options)? {
            let (folder, checkpoint) = (opened.folder, Arc::new(opened.checkpoint));
            return Self::bind_with(folder, opened.built, checkpoint, None, options);
        }
        let (home, folder) = model_folder(&place)?;
        let built = describe_folder(&folder, options)?;
        let codes = codes_of(&folder, CONFIG, &built)?;
        let weights = open_weights(&place, &folder)?;
        let (checkpoint, naming) = named(weights, &built, &codes, options)?;
        let mut model = Self::bind_with(folder, built, checkpoint, naming, options)?;
        follow_scores(&home, &mut model.spec)?;
        Ok(Self { home, ..model })
    }

    /// Binds a description to a checkpoint that is open already.
    pub fn bind(
        folder: impl Into<ModelFolder>,
        built: sli_spec::Built,
        checkpoint: Arc<Checkpoint>,
    ) -> Result<Self, EngineError> {
        Self::bind_with(folder, built, checkpoint, None, &OpenOptions::default())
    }

    fn bind_with(
        folder: impl Into<ModelFolder>,
        mut built: sli_spec::Built,
        checkpoint: Arc<Checkpoint>,
        naming: Option<Naming>,
        options: &OpenOptions,
    ) -> Result<Self, EngineError> {
        let folder = folder.into();
        let binding = Binding::new(&checkpoint, &mut built, &options.allow_unused)?;
        let mut spec = built.spec;
        read_turns(&mut spec, &checkpoint)?;
        let missing_head = missing_part(&spec, &binding, HEAD);
        let missing_classifier = missing_part(&spec, &binding, CLASSIFIER);
        drop_absent_parts(&mut spec, &binding);
        if let Some(name) = rounded_elsewhere(&spec, &binding) {
            return Err(EngineError::Unusable {
                path: folder.path().to_owned(),
                problem: format!(
                    "the inputs of the product with {name} would have to be rounded to 8 bits, which is done in attention and feed-forward networks alone"
                ),
                hint: "take the model with weights that are not packed so",
            });
        }
        Ok(Self {
            home: folder.clone(),
            folder,
            spec,
            checkpoint,
            binding,
            unread: built.unread,
            beside: built.beside,
            naming,
            instead: built.instead,
            missing_head,
            missing_classifier,
            clock: WeightClock::default(),
        })
    }

    /// Path and bytes of the largest weight file, where the weights are in files of this machine.
    pub fn largest_file(&self) -> Option<(PathBuf, u64)> {
        let files = self.checkpoint.files().iter();
        let largest = files.max_by_key(|file| file.size)?;
        let own = self.folder.path();
        // A GGUF file stands for its folder.
        let folder = own.parent().filter(|_| own.is_file()).unwrap_or(own);
        let path = folder.join(&largest.name);
        path.is_file().then_some((path, largest.size))
    }

    /// The weight files in the order in which a pass needs them.
    pub fn files_in_order(&self) -> Vec<String> {
        let stacks = (0..self.spec.stacks.len()).map(|index| self.binding.stack(index));
        let leaves = stacks.flat_map(|stack| {
            let layers = stack.layers.iter().flatten();
            stack.input.iter().chain(layers).chain(&stack.head)
        });
        let bound = leaves.flatten();
        let places = bound.flat_map(|leaf| (0..leaf.slices()).map(|slice| leaf.position(slice)));
        let needed = places
            .flatten()
            .map(|(file, _)| self.checkpoint.file_name(file));
        let all = self
            .checkpoint
            .files()
            .iter()
            .map(|file| file.name.as_str());
        let mut names: Vec<String> = Vec::new();
        for name in needed.chain(all) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// Begins to fetch the weights of a model that is elsewhere, in the order in which a pass needs them. Of the tables in
    /// front of the first layer a pass reads rows, which it asks for itself.
    pub fn fetch_ahead(&self) -> Result<(), EngineError> {
        if self.checkpoint.arrival() == Arrival::Here {
            return Ok(());
        }
        let mut first: Vec<NamedRange> = Vec::new();
        for stack in (0..self.spec.stacks.len()).map(|index| self.binding.stack(index)) {
            for leaves in stack.layers.iter().chain([&stack.head]) {
                self.add_ranges(leaves, &mut first)?;
            }
        }
        Ok(self
            .checkpoint
            .fetch_ahead(&self.files_in_order(), &first)?)
    }

    /// Adds where the weights of a layer are, those together that lie near to each other.
    fn add_ranges(
        &self,
        leaves: &[Option<BoundLeaf>],
        first: &mut Vec<NamedRange>,
    ) -> Result<(), EngineError> {
        let mut ranges = Vec::new();
        for leaf in leaves.iter().flatten() {
            for slice in 0..leaf.slices() {
                ranges.extend(leaf.byte_ranges(slice, 0..leaf.rows())?);
            }
        }
        ranges.sort_unstable_by_key(|range| (range.file, range.bytes.start));
        let begun = first.len();
        for range in ranges {
            let file = self.checkpoint.file_name(range.file);
            match first[begun..].last_mut() {
                Some((last, bytes)) if last == file && range.bytes.start <= bytes.end + NEAR => {
                    bytes.end = bytes.end.max(range.bytes.end);
                }
                _ => first.push((file.to_owned(), range.bytes)),
            }
        }
        Ok(())
    }

    /// The type in which most bytes of the weights are stored. Coded ones say nothing: they take the type of the
    /// others, as the reference decodes them.
    pub fn stored_in(&self) -> StoredIn {
        let (mut bf16, mut f16, mut full) = (0_u64, 0_u64, 0_u64);
        for tensor in self.checkpoint.tensors() {
            match tensor.dtype {
                Dtype::Bf16 => bf16 += tensor.bytes,
                Dtype::F16 => f16 += tensor.bytes,
                Dtype::F32 | Dtype::F64 => full += tensor.bytes,
                _ => {}
            }
        }
        if full > bf16 + f16 {
            StoredIn::F32
        } else if f16 > bf16 {
            StoredIn::F16
        } else {
            StoredIn::Bf16
        }
    }
}

/// The type of most of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredIn {
    /// 8 bits of precision, the range of f32.
    Bf16,
    /// 11 bits of precision.
    F16,
    /// f32 or f64.
    F32,
}

/// Opens the weights of the model that the user named by its folder, or by its single weights file.
pub fn open_weights(
    place: &ModelPlace,
    folder: &ModelFolder,
) -> Result<Checkpoint, CheckpointError> {
    match place.file() {
        Some(_) => Checkpoint::at(place),
        None => Checkpoint::open_with(Box::new(folder.source())),
    }
}

/// The weights of a described model, their tensors named as the description names them.
pub fn named(
    mut checkpoint: Checkpoint,
    built: &sli_spec::Built,
    codes: &Codes,
    options: &OpenOptions,
) -> Result<(Arc<Checkpoint>, Option<Naming>), CheckpointError> {
    let (spec, untied) = (&built.spec, built.untied.as_deref());
    checkpoint.declare(&codes.of_leaves(spec.leaves(), spec.base_prefix))?;
    let naming = naming::settle(&mut checkpoint, spec, untied, &options.allow_unused)?;
    Ok((Arc::new(checkpoint), naming))
}

/// Describes the model whose `config.json` is in this folder.
pub fn describe_folder(
    folder: &ModelFolder,
    options: &OpenOptions,
) -> Result<sli_spec::Built, EngineError> {
    let Some(text) = read_description(folder, CONFIG)? else {
        if let Some(text) = read_description(folder, PARAMS)? {
            return describe_params(folder, &text, options);
        }
        let adapter = adapter::instead_of_model(folder)?;
        return Err(adapter.unwrap_or_else(|| no_description(folder.path())));
    };
    adapter::refuse_beside_model(folder, options)?;
    let wrong = |source| EngineError::Config {
        path: folder.join(CONFIG),
        source,
    };
    let config = Config::parse(&text).map_err(wrong)?;
    let options = sli_spec::Options {
        allow_unread: options.allow_unread.clone(),
    };
    sli_spec::describe(&config, &options).map_err(wrong)
}

/// Describes the model whose `params.json` says `text`; its weights tell the rest.
fn describe_params(
    folder: &ModelFolder,
    text: &str,
    options: &OpenOptions,
) -> Result<sli_spec::Built, EngineError> {
    const TABLE: &str = "tok_embeddings.weight";
    let checkpoint = Checkpoint::open_with(Box::new(folder.source()))?;
    let name_of = |shard: usize| format!("{TABLE}#{shard}");
    let mut shards = 0;
    while checkpoint.tensor(&name_of(shards)).is_some() {
        shards += 1;
    }
    let table = checkpoint
        .tensor(TABLE)
        .or_else(|| checkpoint.tensor(&name_of(0)));
    let embedding = match table.map(|tensor| tensor.shape.as_ref()) {
        Some(&[rows, columns]) => [rows, columns],
        _ => [0, 0],
    };
    let stored = sli_spec::families::original::Stored {
        shards: shards.max(1),
        embedding,
    };
    let wrong = |source| EngineError::Config {
        path: folder.join(PARAMS),
        source,
    };
    let config = Config::of_params(text, stored).map_err(wrong)?;
    let options = sli_spec::Options {
        allow_unread: options.allow_unread.clone(),
    };
    sli_spec::describe(&config, &options).map_err(wrong)
}

/// The text of a `config.json` or `params.json`, `None` if there is none.
fn read_description(folder: &ModelFolder, name: &str) -> Result<Option<String>, EngineError> {
    let Some(bytes) = folder.read(name, CONFIG_LIMIT)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| EngineError::Unusable {
        path: folder.join(name),
        problem: format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()),
        hint: AGAIN,
    })?;
    Ok(Some(text))
}

/// There is no description of a model here.
fn no_description(folder: &Path) -> EngineError {
    let (problem, hint) = if folder.is_dir() {
        (
            "there is no config.json",
            "give the folder with config.json and its .safetensors files",
        )
    } else {
        (
            "there is no such model",
            "check the path; an id of the hub is ORG/NAME",
        )
    };
    EngineError::Unusable {
        path: folder.to_path_buf(),
        problem: problem.into(),
        hint,
    }
}

/// A weight whose code rounds the inputs of its product, where the product is not one that does so.
fn rounded_elsewhere(spec: &ModelSpec, binding: &Binding) -> Option<String> {
    for (index, stack) in spec.stacks.iter().enumerate() {
        let bound = binding.stack(index);
        let mut ends = bound.input.iter().chain(&bound.head).flatten();
        if let Some(leaf) = ends.find(|leaf| leaf.rounds_inputs()) {
            return Some(leaf.name());
        }
        for (layer, leaves) in stack.layers.iter().zip(&bound.layers) {
            let plain = layer.steps.iter().filter(|step| {
                step.branches.iter().all(|branch| {
                    matches!(branch.mixer, Mixer::Attention(_) | Mixer::FeedForward(_))
                })
            });
            let plain: Vec<_> = plain.flat_map(Step::weights).collect();
            for (at, leaf) in leaves.iter().enumerate() {
                let is_plain = plain.iter().any(|index| index.0 as usize == at);
                let rounding = leaf.as_ref().filter(|leaf| leaf.rounds_inputs());
                if let Some(leaf) = rounding.filter(|leaf| !is_plain || leaf.slices() > 1) {
                    return Some(leaf.name());
                }
            }
        }
    }
    None
}

/// The first tensor of a part of the head that the checkpoint lacks, where it lacks the part.
fn missing_part(spec: &ModelSpec, binding: &Binding, part: &'static str) -> Option<String> {
    if !binding.report().absent_optional.contains(part) {
        return None;
    }
    let mut stacks = spec.stacks.iter().enumerate();
    let (stack, leaves) = stacks.find_map(|(index, stack)| {
        let leaves = &stack.head.leaves;
        let has_part = leaves.iter().any(|leaf| leaf.optional == Some(part));
        has_part.then_some((index, leaves))
    })?;
    let mut bound = leaves.iter().zip(&binding.stack(stack).head);
    let lacking = bound.find(|(leaf, bound)| leaf.optional == Some(part) && bound.is_none());
    let names = lacking.map(|(leaf, _)| leaf.source.names())?;
    Some((*names.first()?).to_owned())
}

/// Takes what the checkpoint has of rotations, where it has it.
fn read_turns(spec: &mut ModelSpec, checkpoint: &Arc<Checkpoint>) -> Result<(), EngineError> {
    let base_prefix = spec.base_prefix;
    for stack in &mut spec.stacks {
        let Some(turns) = &mut stack.turns else {
            continue;
        };
        match BoundLeaf::bind(checkpoint, base_prefix, &turns.leaf) {
            Ok(leaf) => turns.values = leaf.read_f32(0, 0..leaf.rows())?,
            Err(CheckpointError::Leaf {
                problem: LeafProblem::Missing { .. },
                ..
            }) => stack.turns = None,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes heads whose weights the checkpoint lacks as a whole, and computes tables of positions and decays that it lacks.
fn drop_absent_parts(spec: &mut ModelSpec, binding: &Binding) {
    let absent = &binding.report().absent_optional;
    for stack in &mut spec.stacks {
        if absent.contains(DecayTables::PART) {
            let steps = stack.layers.iter_mut().flat_map(|layer| &mut layer.steps);
            for branch in steps.flat_map(|step| &mut step.branches) {
                if let Mixer::LightningAttention(attention) = &mut branch.mixer {
                    attention.tables = None;
                }
            }
        }
        if let Input::Tokens(embedding) = &mut stack.input
            && let Some(PositionTable::Learned {
                weight, otherwise, ..
            }) = &embedding.positions
            && let part = embedding.leaves[weight.0 as usize].optional
            && part.is_some_and(|part| absent.contains(part))
        {
            embedding.positions = otherwise.map(PositionTable::Sinusoidal);
        }
        let head = &mut stack.head;
        let leaves = &head.leaves;
        let lacks = |index: sli_spec::WeightIndex| {
            leaves[index.0 as usize]
                .optional
                .is_some_and(|part| absent.contains(part))
        };
        if head
            .logits
            .as_ref()
            .is_some_and(|logits| lacks(logits.projection.weight))
        {
            head.logits = None;
        }
        if head
            .logits
            .as_ref()
            .and_then(|logits| logits.transforms.first())
            .is_some_and(|transform| lacks(transform.dense.weight))
        {
            head.logits = None;
        }
        if let Some(logits) = &mut head.logits {
            logits.projection.bias.take_if(|index| lacks(*index));
        }
        let front = head.classes.as_ref().map(|classes| {
            let transform = classes.transform.as_ref();
            let front = transform.map(|transform| transform.dense.weight);
            [Some(classes.projection.weight), front]
        });
        if front.is_some_and(|leaves| leaves.into_iter().flatten().any(lacks)) {
            head.classes = None;
        }
        if head
            .pooler
            .as_ref()
            .is_some_and(|pooler| lacks(pooler.dense.weight))
        {
            head.pooler = None;
        }
    }
    let pooled = spec.stacks.last().map(|stack| stack.input.leaves());
    let lacks = |leaf: &Leaf| leaf.optional.is_some_and(|part| absent.contains(part));
    if spec.pooled_end != PooledEnd::No && pooled.is_some_and(|own| own.iter().any(lacks)) {
        spec.pooled_end = PooledEnd::No;
        spec.stacks.pop();
    }
}
