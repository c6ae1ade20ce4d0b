//! An index that is being made of one file or several.

use crate::error::CheckpointError;
use crate::formats::gguf::Metadata;
use crate::formats::shards::{self, IndexError, ShardIndex};
use crate::identity::FileIdentity;
use crate::source::{ByteSource, SourceError};
use crate::tensors::{FileIndex, Index, TensorInfo, WeightFile};

/// What the header of a file says.
#[derive(Debug)]
pub(crate) struct Contents {
    pub size: u64,
    /// BLAKE3 of what says where the tensors are.
    pub digest: String,
    /// Bytes that were read for it.
    pub read: u64,
    /// The tensors; their file is set by [`Opening::add`].
    pub tensors: Vec<TensorInfo>,
    /// What it says of the model; that of the first file counts.
    pub metadata: Option<Metadata>,
}

/// Reads the header of a file.
pub(crate) type ReadContents = fn(&dyn ByteSource, &str) -> Result<Contents, CheckpointError>;

/// An index that is being made.
pub(crate) struct Opening<'s> {
    source: &'s dyn ByteSource,
    read: ReadContents,
    index: Index,
}

impl<'s> Opening<'s> {
    pub fn new(source: &'s dyn ByteSource, read: ReadContents) -> Self {
        let index = Index::default();
        Self {
            source,
            read,
            index,
        }
    }

    fn index_error(&self, file: &str, problem: IndexError) -> CheckpointError {
        CheckpointError::Index {
            place: self.source.describe(),
            file: file.to_owned(),
            problem,
        }
    }

    /// Adds the tensors of a file.
    pub fn add_file(&mut self, file: &str) -> Result<(), CheckpointError> {
        let contents = (self.read)(self.source, file)?;
        self.add(file, contents);
        Ok(())
    }

    fn add(&mut self, name: &str, contents: Contents) {
        let Contents {
            size,
            digest,
            read,
            tensors,
            metadata,
        } = contents;
        self.index.metadata = self.index.metadata.take().or(metadata);
        self.index.bytes_read += read;
        let header = digest.clone();
        let identity = FileIdentity::Weights { size, header };
        self.index.identity.files.insert(name.to_owned(), identity);
        let file = FileIndex(self.index.files.len() as u32);
        self.index.files.push(WeightFile {
            name: name.to_owned(),
            size,
            header_digest: digest,
        });
        let tensors = tensors.into_iter();
        self.index
            .tensors
            .extend(tensors.map(|tensor| TensorInfo { file, ..tensor }));
    }

    /// Adds all tensors of the shards that the index of this name names. As in the reference, it says which files
    /// these are, not where a tensor is; of one that several shards hold the last counts. A tensor that the
    /// index names and no shard holds is an error.
    pub fn add_shards(&mut self, file: &str) -> Result<(), CheckpointError> {
        let (index, bytes) = read_index(self.source, file)?;
        self.index.bytes_read += bytes.len() as u64;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let identity = FileIdentity::Content { digest };
        self.index.identity.files.insert(file.to_owned(), identity);
        for (number, shard) in (0..).zip(&index.shards) {
            let contents = match (self.read)(self.source, shard) {
                Err(CheckpointError::Source(SourceError::NotFound { .. })) => {
                    return Err(self.missing_shard(file, &index, number, shard));
                }
                other => other?,
            };
            self.add(shard, contents);
        }
        self.index
            .tensors
            .sort_by(|a, b| (&a.name, b.file).cmp(&(&b.name, a.file)));
        self.index
            .tensors
            .dedup_by(|later, first| later.name == first.name);
        let holds = |name: &str| {
            let place = |tensor: &TensorInfo| (*tensor.name).cmp(name);
            self.index.tensors.binary_search_by(place).is_ok()
        };
        if let Some((tensor, shard)) = index.tensors.iter().find(|(name, _)| !holds(name)) {
            let shard = index.shards.get(*shard as usize).cloned();
            let problem = IndexError::NotInShard {
                tensor: tensor.to_string(),
                shard: shard.unwrap_or_default(),
            };
            return Err(self.index_error(file, problem));
        }
        Ok(())
    }

    fn missing_shard(
        &self,
        file: &str,
        index: &ShardIndex,
        number: u32,
        shard: &str,
    ) -> CheckpointError {
        let tensor = index.tensors.iter().find(|(_, of)| *of == number);
        let tensor = tensor.map(|(name, _)| name.to_string()).unwrap_or_default();
        let shard = shard.to_owned();
        self.index_error(file, IndexError::MissingShard { tensor, shard })
    }

    /// Adds the parts of a model that ran on several devices. A name that several of them hold (Meta's tensor parallel
    /// files) becomes `name#0`, `name#1`, ..., by file.
    pub fn add_parts(&mut self, names: &[String]) -> Result<(), CheckpointError> {
        for name in names {
            self.add_file(name)?;
        }
        self.index
            .tensors
            .sort_by(|a, b| (&a.name, a.file).cmp(&(&b.name, b.file)));
        let mut rest = &mut self.index.tensors[..];
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|tensor| tensor.name == first.name);
            let (same, after) = rest.split_at_mut(same.count());
            if same.len() > 1 {
                for tensor in same {
                    tensor.name = format!("{}#{}", tensor.name, tensor.file.0).into();
                }
            }
            rest = after;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Index, CheckpointError> {
        self.index.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        self.index.tensors.shrink_to_fit();
        if let Some([first, second]) = self
            .index
            .tensors
            .array_windows()
            .find(|[first, second]| first.name == second.name)
        {
            let file = |tensor: &TensorInfo| {
                let file = self.index.files.get(tensor.file.0 as usize);
                file.map_or_else(String::new, |file| file.name.clone())
            };
            return Err(CheckpointError::DuplicateTensor {
                place: self.source.describe(),
                tensor: first.name.to_string(),
                first: file(first),
                second: file(second),
            });
        }
        Ok(self.index)
    }
}

/// The index of shards in a file, and its bytes.
pub(crate) fn read_index(
    source: &dyn ByteSource,
    file: &str,
) -> Result<(ShardIndex, Vec<u8>), CheckpointError> {
    let wrong = |problem| CheckpointError::Index {
        place: source.describe(),
        file: file.to_owned(),
        problem,
    };
    let size = source.len(file)?;
    if size > shards::MAX_INDEX {
        return Err(wrong(IndexError::TooLarge { size }));
    }
    let mut bytes = vec![0; size as usize];
    source.read_at(file, 0, &mut bytes)?;
    let index = shards::parse(&bytes).map_err(wrong)?;
    Ok((index, bytes))
}
