//! A model opened for running: its description bound to its checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::{Binding, Checkpoint, Dtype};
use sli_spec::{Config, ModelSpec, SpecError};

use crate::error::EngineError;
use crate::stages::WeightClock;
use crate::tied::{HeadOrigin, settle_head};

/// A model whose every needed tensor is known to be in its checkpoint, with the right shape.
pub struct Model {
    /// The folder with `config.json` and the tokenizer.
    pub folder: PathBuf,
    /// The description.
    pub spec: ModelSpec,
    /// The checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// The description's weights found in the checkpoint.
    pub binding: Binding,
    /// Keys of `config.json` that were allowed to go unread.
    pub unread: Vec<String>,
    /// Whose head it has.
    pub head: HeadOrigin,
    pub(crate) clock: WeightClock,
}

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Configuration keys that may go unread.
    pub allow_unread: Vec<String>,
}

/// Largest `config.json` that is read, bytes.
const CONFIG_LIMIT: u64 = 64 << 20;

impl Model {
    /// Opens the model in a folder, or the one whose single weights file this is.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, EngineError> {
        let folder = folder_of(path);
        let built = describe_folder(&folder, options)?;
        refuse_packed(&folder, options)?;
        let checkpoint = Arc::new(Checkpoint::open(path)?);
        Self::bind(folder, built, checkpoint)
    }

    /// Binds a description to a checkpoint that is open already.
    pub fn bind(
        folder: PathBuf,
        mut built: sli_spec::Built,
        checkpoint: Arc<Checkpoint>,
    ) -> Result<Self, EngineError> {
        let head = settle_head(&mut built, &checkpoint)?;
        let binding = Binding::new(Arc::clone(&checkpoint), &built.spec)?;
        let mut spec = built.spec;
        drop_absent_parts(&mut spec, &binding);
        Ok(Self {
            folder,
            spec,
            checkpoint,
            binding,
            unread: built.unread,
            head,
            clock: WeightClock::default(),
        })
    }

    /// Path and bytes of the largest weight file, where the weights are in files of this machine.
    pub fn largest_file(&self) -> Option<(PathBuf, u64)> {
        let files = self.checkpoint.files().iter();
        let largest = files.max_by_key(|file| file.size)?;
        let path = self.folder.join(&largest.name);
        path.is_file().then_some((path, largest.size))
    }

    /// Whether most of the matrices are stored in 16 bits or less.
    pub fn is_half_precision(&self) -> bool {
        let (mut half, mut full) = (0_u64, 0_u64);
        for tensor in self.checkpoint.tensors() {
            match tensor.dtype {
                Dtype::F16 | Dtype::Bf16 => half += tensor.bytes,
                Dtype::F32 | Dtype::F64 => full += tensor.bytes,
                _ => {}
            }
        }
        half >= full
    }
}

/// The folder of a model that is named by its folder or by its single weights file.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if path.is_file() => {
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_path_buf()
            }
        }
        _ => path.to_path_buf(),
    }
}

/// Describes the model whose `config.json` is in this folder.
pub fn describe_folder(
    folder: &Path,
    options: &OpenOptions,
) -> Result<sli_spec::Built, EngineError> {
    let path = folder.join("config.json");
    let params = folder.join("params.json");
    if !path.exists() && params.exists() {
        return describe_params(folder, &params, options);
    }
    let text = read_description(&path)?;
    let wrong = |source| EngineError::Config {
        path: path.clone(),
        source,
    };
    let config = Config::parse(&text).map_err(wrong)?;
    let options = sli_spec::Options {
        allow_unread: options.allow_unread.clone(),
    };
    sli_spec::describe(&config, &options).map_err(wrong)
}

/// A description may say how packed weights unpack; plain ones would be run as if they had been.
fn refuse_packed(folder: &Path, options: &OpenOptions) -> Result<(), EngineError> {
    let path = folder.join("config.json");
    if !path.exists() {
        return Ok(());
    }
    let refused = |source: SpecError| match &source {
        SpecError::Unsupported { key, .. } if options.allow_unread.contains(key) => Ok(()),
        _ => Err(EngineError::Config {
            path: path.clone(),
            source,
        }),
    };
    let config = Config::parse(&read_description(&path)?);
    config
        .and_then(|config| config.plainly_stored())
        .or_else(refused)
}

/// Describes the model whose `params.json` this is; its weights tell the rest.
fn describe_params(
    folder: &Path,
    path: &Path,
    options: &OpenOptions,
) -> Result<sli_spec::Built, EngineError> {
    const TABLE: &str = "tok_embeddings.weight";
    let text = read_description(path)?;
    let checkpoint = Checkpoint::open(folder)?;
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
        path: path.to_path_buf(),
        source,
    };
    let config = Config::of_params(&text, stored).map_err(wrong)?;
    let options = sli_spec::Options {
        allow_unread: options.allow_unread.clone(),
    };
    sli_spec::describe(&config, &options).map_err(wrong)
}

/// The text of a `config.json` or `params.json`.
fn read_description(path: &Path) -> Result<String, EngineError> {
    let unusable = |path: &Path, problem: &str, hint: &'static str| EngineError::Unusable {
        path: path.to_path_buf(),
        problem: problem.to_owned(),
        hint,
    };
    let failed = |source| EngineError::File {
        path: path.to_path_buf(),
        source,
    };
    let again = "download it again";
    let metadata = match fs_err::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_absence(&error) => {
            let folder = path.parent().unwrap_or(Path::new("."));
            return Err(if folder.is_dir() {
                unusable(
                    folder,
                    "there is no config.json",
                    "give the folder with config.json and its .safetensors files",
                )
            } else {
                unusable(
                    folder,
                    "there is no such model",
                    "check the path; models are not downloaded",
                )
            });
        }
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(unusable(path, "it is not a regular file", again));
    }
    if metadata.len() > CONFIG_LIMIT {
        let problem = format!("{} bytes are too many for a configuration", metadata.len());
        return Err(unusable(path, &problem, again));
    }
    let bytes = fs_err::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let problem = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
        unusable(path, &problem, again)
    })
}

/// Whether the error says that there is nothing at the path.
fn is_absence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
    )
}

/// Removes heads whose weights the checkpoint lacks as a whole.
fn drop_absent_parts(spec: &mut ModelSpec, binding: &Binding) {
    let absent = &binding.report().absent_optional;
    for stack in &mut spec.stacks {
        let head = &mut stack.head;
        let lacks = |index: sli_spec::WeightIndex| {
            head.leaves[index.0 as usize]
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
            .and_then(|logits| logits.transform.as_ref())
            .is_some_and(|transform| lacks(transform.dense.weight))
        {
            head.logits = None;
        }
        if head
            .pooler
            .as_ref()
            .is_some_and(|pooler| lacks(pooler.dense.weight))
        {
            head.pooler = None;
        }
    }
}
