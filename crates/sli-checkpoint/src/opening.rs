//! Collecting the weight files of a checkpoint: index, shards, consolidated files.

use crate::checkpoint::read_limited;
use crate::error::CheckpointError;
use crate::formats::index::{self, Index, IndexError};
use crate::formats::safetensors::{self, Header};
use crate::identity::{FileIdentity, ModelIdentity};
use crate::source::{ByteSource, SourceError};
use crate::tensors::{FileIndex, TensorInfo, WeightFile};

pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const CONSOLIDATED_FILE: &str = "consolidated.safetensors";

/// A checkpoint that is being opened.
pub(crate) struct Opening {
    pub source: Box<dyn ByteSource>,
    pub files: Vec<WeightFile>,
    pub tensors: Vec<TensorInfo>,
    pub identity: ModelIdentity,
    pub bytes_read: u64,
}

impl Opening {
    pub fn new(source: Box<dyn ByteSource>) -> Self {
        Self {
            source,
            files: Vec::new(),
            tensors: Vec::new(),
            identity: ModelIdentity::default(),
            bytes_read: 0,
        }
    }

    fn known_by_content(&mut self, file: &str, content: &[u8]) {
        self.bytes_read += content.len() as u64;
        let digest = blake3::hash(content).to_hex().to_string();
        self.identity
            .files
            .insert(file.to_owned(), FileIdentity::Content { digest });
    }

    pub fn index_error(&self, problem: IndexError) -> CheckpointError {
        CheckpointError::Index {
            place: self.source.describe(),
            file: INDEX_FILE.to_owned(),
            problem,
        }
    }

    /// The bytes of the index, where there is one.
    pub fn read_index(&mut self) -> Result<Option<Vec<u8>>, CheckpointError> {
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

    pub fn add_file(&mut self, file: &str) -> Result<(), CheckpointError> {
        let header = self.read_header(file)?;
        self.add(header, |_| true);
        Ok(())
    }

    /// Adds the shards of an index, and checks that each holds what the index says. A tensor that
    /// several shards hold is the one the index names.
    pub fn add_shards(&mut self, index: &Index) -> Result<(), CheckpointError> {
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
    pub fn add_consolidated(&mut self) -> Result<(), CheckpointError> {
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

    pub fn finish(mut self) -> Result<Self, CheckpointError> {
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
        Ok(self)
    }
}
