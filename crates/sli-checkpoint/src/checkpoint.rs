//! The index of a checkpoint: which tensors there are and where, from headers alone.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CheckpointError;
use crate::formats::index::{self, Index, IndexError};
use crate::formats::safetensors::{self, Header};
use crate::identity::{FileIdentity, ModelIdentity};
use crate::source::{ByteSource, LocalSource, ReadMode, SourceError};
use crate::tensors::{FileIndex, TensorInfo, WeightFile};

const INDEX_FILE: &str = "model.safetensors.index.json";
const SINGLE_FILE: &str = "model.safetensors";
const CONSOLIDATED_FILE: &str = "consolidated.safetensors";
const CONFIG_FILE: &str = "config.json";

/// Largest `config.json` in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// An opened checkpoint. Nothing but headers has been read.
#[derive(Debug)]
pub struct Checkpoint {
    source: Box<dyn ByteSource>,
    files: Vec<WeightFile>,
    /// Sorted by name.
    tensors: Vec<TensorInfo>,
    identity: ModelIdentity,
    bytes_read: AtomicU64,
}

impl Checkpoint {
    /// Opens a folder or a single `.safetensors` file. In a folder the weights are the shards that
    /// `model.safetensors.index.json` names, else `model.safetensors`, else
    /// `consolidated.safetensors`, else `consolidated*.safetensors`; other files are not looked at.
    pub fn open(folder_or_file: &Path) -> Result<Self, CheckpointError> {
        Self::open_with_mode(folder_or_file, ReadMode::Buffered)
    }

    /// [`Self::open`], reading as `mode` says.
    pub fn open_with_mode(folder_or_file: &Path, mode: ReadMode) -> Result<Self, CheckpointError> {
        let name = folder_or_file.file_name().and_then(|name| name.to_str());
        if let (true, Some(name)) = (folder_or_file.is_file(), name) {
            let folder = match folder_or_file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            return Self::open_file(Box::new(LocalSource::with_mode(folder, mode)), name);
        }
        Self::open_source(Box::new(LocalSource::with_mode(folder_or_file, mode)))
    }

    /// [`Self::open`] on a folder from anywhere.
    pub fn open_source(source: Box<dyn ByteSource>) -> Result<Self, CheckpointError> {
        let mut opening = Opening::new(source)?;
        if let Some(bytes) = opening.read_index()? {
            let index = index::parse(&bytes).map_err(|problem| opening.index_error(problem))?;
            opening.add_shards(&index)?;
        } else if opening.source.exists(SINGLE_FILE)? {
            opening.add_file(SINGLE_FILE)?;
        } else if opening.source.exists(CONSOLIDATED_FILE)? {
            opening.add_file(CONSOLIDATED_FILE)?;
        } else {
            opening.add_consolidated()?;
        }
        opening.finish()
    }

    /// Opens one weight file of a source.
    pub fn open_file(source: Box<dyn ByteSource>, file: &str) -> Result<Self, CheckpointError> {
        let mut opening = Opening::new(source)?;
        opening.add_file(file)?;
        opening.finish()
    }

    /// Every tensor, in order of names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(self.position(name)?)
    }

    /// The weight files.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// Name of a weight file.
    pub fn file_name(&self, file: FileIndex) -> &str {
        self.files
            .get(file.0 as usize)
            .map_or("", |file| &file.name)
    }

    /// Bytes of all tensors.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// The text of the `config.json` beside the weights.
    pub fn read_config_text(&self) -> Result<String, CheckpointError> {
        self.read_text(CONFIG_FILE, MAX_CONFIG)
    }

    /// The text of a file beside the weights, of at most `limit` bytes.
    pub fn read_text(&self, file: &str, limit: u64) -> Result<String, CheckpointError> {
        let bytes = read_limited(&*self.source, file, limit)?;
        self.bytes_read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        String::from_utf8(bytes).map_err(|_| CheckpointError::NotUtf8 {
            place: self.place(),
            file: file.to_owned(),
        })
    }

    /// What makes this the same model as another.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// Bytes read so far, headers included.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Reads bytes of a weight file.
    pub fn read_at(
        &self,
        file: FileIndex,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        self.source.read_at(self.file_name(file), offset, out)?;
        self.bytes_read
            .fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// These bytes will not be read again soon.
    pub fn advise_done(&self, file: FileIndex, range: std::ops::Range<u64>) {
        self.source.advise_done(self.file_name(file), range);
    }

    /// For messages: the folder or address.
    pub fn place(&self) -> String {
        self.source.describe()
    }

    /// Place of a tensor in the order of names.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.tensors
            .binary_search_by(|tensor| (*tensor.name).cmp(name))
            .ok()
    }

    /// The tensor at a place in the order of names.
    pub(crate) fn tensor_at(&self, position: usize) -> Option<&TensorInfo> {
        self.tensors.get(position)
    }
}

/// A checkpoint that is being opened.
struct Opening {
    source: Box<dyn ByteSource>,
    files: Vec<WeightFile>,
    tensors: Vec<TensorInfo>,
    identity: ModelIdentity,
    bytes_read: u64,
}

impl Opening {
    fn new(source: Box<dyn ByteSource>) -> Result<Self, CheckpointError> {
        let mut opening = Self {
            source,
            files: Vec::new(),
            tensors: Vec::new(),
            identity: ModelIdentity::default(),
            bytes_read: 0,
        };
        if opening.source.exists(CONFIG_FILE)? {
            let config = read_limited(&*opening.source, CONFIG_FILE, MAX_CONFIG)?;
            opening.known_by_content(CONFIG_FILE, &config);
        }
        Ok(opening)
    }

    fn known_by_content(&mut self, file: &str, content: &[u8]) {
        self.bytes_read += content.len() as u64;
        let digest = blake3::hash(content).to_hex().to_string();
        self.identity
            .files
            .insert(file.to_owned(), FileIdentity::Content { digest });
    }

    fn index_error(&self, problem: IndexError) -> CheckpointError {
        CheckpointError::Index {
            place: self.source.describe(),
            file: INDEX_FILE.to_owned(),
            problem,
        }
    }

    /// The bytes of the index, where there is one.
    fn read_index(&mut self) -> Result<Option<Vec<u8>>, CheckpointError> {
        if !self.source.exists(INDEX_FILE)? {
            return Ok(None);
        }
        let bytes = match read_limited(&*self.source, INDEX_FILE, index::MAX_INDEX) {
            Err(CheckpointError::TextTooLarge { size, .. }) => {
                return Err(self.index_error(IndexError::TooLarge { size }));
            }
            other => other?,
        };
        self.known_by_content(INDEX_FILE, &bytes);
        Ok(Some(bytes))
    }

    fn read_header(&mut self, file: &str) -> Result<Header, CheckpointError> {
        let header = safetensors::read_header(&*self.source, file)
            .map_err(|error| CheckpointError::header(self.source.describe(), file, error))?;
        let start = header
            .entries
            .first()
            .map_or(header.file_size, |entry| entry.offset);
        self.bytes_read += start;
        let identity = FileIdentity::Weights {
            size: header.file_size,
            header: header.digest.clone(),
        };
        self.identity.files.insert(file.to_owned(), identity);
        self.files.push(WeightFile {
            name: file.to_owned(),
            size: header.file_size,
            header_digest: header.digest.clone(),
        });
        Ok(header)
    }

    /// Adds the tensors of a file that `keep` wants.
    fn add(&mut self, header: Header, keep: impl Fn(&str) -> bool) {
        let file = FileIndex(self.files.len().saturating_sub(1) as u32);
        let kept = header.entries.into_iter().filter(|entry| keep(&entry.name));
        self.tensors.extend(kept.map(|entry| TensorInfo {
            name: entry.name,
            file,
            dtype: entry.dtype,
            shape: entry.shape,
            offset: entry.offset,
            bytes: entry.bytes,
        }));
    }

    fn add_file(&mut self, file: &str) -> Result<(), CheckpointError> {
        let header = self.read_header(file)?;
        self.add(header, |_| true);
        Ok(())
    }

    /// Adds the shards of an index, and checks that each holds what the index says. A tensor that
    /// several shards hold is the one the index names.
    fn add_shards(&mut self, index: &Index) -> Result<(), CheckpointError> {
        let mut found = vec![false; index.tensors.len()];
        for (number, shard) in (0..).zip(&index.shards) {
            let header = match self.read_header(shard) {
                Err(CheckpointError::Source(SourceError::NotFound { .. })) => {
                    return Err(self.missing_shard(index, number, shard));
                }
                other => other?,
            };
            for entry in &header.entries {
                let place = index
                    .tensors
                    .binary_search_by(|(name, _)| name.cmp(&entry.name));
                if let Ok(place) = place
                    && index
                        .tensors
                        .get(place)
                        .is_some_and(|(_, shard)| *shard == number)
                    && let Some(found) = found.get_mut(place)
                {
                    *found = true;
                }
            }
            self.add(header, |name| {
                index.shard_of(name).is_none_or(|shard| shard == number)
            });
        }
        if let Some(((tensor, shard), _)) = index.tensors.iter().zip(&found).find(|pair| !pair.1) {
            let shard = index
                .shards
                .get(*shard as usize)
                .cloned()
                .unwrap_or_default();
            return Err(self.index_error(IndexError::NotInShard {
                tensor: tensor.to_string(),
                shard,
            }));
        }
        Ok(())
    }

    fn missing_shard(&self, index: &Index, number: u32, shard: &str) -> CheckpointError {
        let tensor = index.tensors.iter().find(|(_, of)| *of == number);
        let tensor = tensor.map(|(name, _)| name.to_string()).unwrap_or_default();
        self.index_error(IndexError::MissingShard {
            tensor,
            shard: shard.to_owned(),
        })
    }

    /// Adds `consolidated*.safetensors`, sorted. A name that several of them hold (Meta's tensor
    /// parallel files) becomes `name#0`, `name#1`, ..., by file.
    fn add_consolidated(&mut self) -> Result<(), CheckpointError> {
        let no_weights = |source: &dyn ByteSource| CheckpointError::NoWeights {
            place: source.describe(),
            looked_for: vec![INDEX_FILE, SINGLE_FILE, "consolidated*.safetensors"],
        };
        let mut names = match self.source.list() {
            Err(SourceError::NotFound { .. }) => return Err(no_weights(&*self.source)),
            other => other?,
        };
        names.retain(|name| name.starts_with("consolidated") && name.ends_with(".safetensors"));
        names.sort();
        if names.is_empty() {
            return Err(no_weights(&*self.source));
        }
        for name in &names {
            self.add_file(name)?;
        }
        self.tensors
            .sort_by(|a, b| (&a.name, a.file).cmp(&(&b.name, b.file)));
        let mut start = 0;
        while start < self.tensors.len() {
            let rest = &mut self.tensors[start..];
            let same = rest
                .iter()
                .take_while(|tensor| tensor.name == rest[0].name)
                .count();
            if same > 1 {
                for tensor in &mut rest[..same] {
                    tensor.name = format!("{}#{}", tensor.name, tensor.file.0).into();
                }
            }
            start += same;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Checkpoint, CheckpointError> {
        self.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        self.tensors.shrink_to_fit();
        if let Some(pair) = self
            .tensors
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name)
        {
            let file = |tensor: &TensorInfo| {
                self.files
                    .get(tensor.file.0 as usize)
                    .map_or_else(String::new, |f| f.name.clone())
            };
            return Err(CheckpointError::DuplicateTensor {
                place: self.source.describe(),
                tensor: pair[0].name.to_string(),
                first: file(&pair[0]),
                second: file(&pair[1]),
            });
        }
        Ok(Checkpoint {
            source: self.source,
            files: self.files,
            tensors: self.tensors,
            identity: self.identity,
            bytes_read: self.bytes_read.into(),
        })
    }
}

/// The content of a file of at most `limit` bytes.
fn read_limited(
    source: &dyn ByteSource,
    file: &str,
    limit: u64,
) -> Result<Vec<u8>, CheckpointError> {
    let size = source.len(file)?;
    if size > limit {
        return Err(CheckpointError::TextTooLarge {
            place: source.describe(),
            file: file.to_owned(),
            size,
            limit,
        });
    }
    let mut content = vec![0; size as usize];
    source.read_at(file, 0, &mut content)?;
    Ok(content)
}
