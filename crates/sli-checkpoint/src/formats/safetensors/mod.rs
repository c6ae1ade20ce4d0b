//! Safetensors: one file, shards by an index, or Meta's consolidated files.

pub mod header;
pub mod shards;

use crate::choice::{INDEX_FILE, SINGLE_FILE, Ways};
use crate::error::CheckpointError;
use crate::formats::format::{Format, Listing};
use crate::identity::FileIdentity;
use crate::source::{ByteSource, SourceError};
use crate::tensors::{FileIndex, Index, TensorInfo, WeightFile};
use header::Header;
use shards::{IndexError, ShardIndex};

/// The format.
#[derive(Debug)]
pub(crate) struct Safetensors;

impl Format for Safetensors {
    fn claims(&self, listing: &Listing<'_>) -> Result<bool, SourceError> {
        let ways = Ways::of(listing)?;
        Ok(ways.single || ways.index || !ways.consolidated.is_empty())
    }

    fn index(&self, listing: &Listing<'_>) -> Result<Index, CheckpointError> {
        let mut opening = Opening::new(listing.source);
        let ways = Ways::of(listing)?;
        let taken = if ways.single {
            opening.add_file(SINGLE_FILE)?;
            SINGLE_FILE
        } else if let Some(index) = opening.usable_index(&ways)? {
            opening.add_shards(&index)?;
            INDEX_FILE
        } else {
            opening.add_consolidated(&ways.consolidated)?;
            ways.consolidated.first().map_or("", String::as_str)
        };
        opening.index.choice = ways.choice(taken);
        opening.finish()
    }

    fn claims_file(&self, _file: &str) -> bool {
        true
    }

    fn index_of_file(&self, source: &dyn ByteSource, file: &str) -> Result<Index, CheckpointError> {
        let mut opening = Opening::new(source);
        opening.add_file(file)?;
        opening.finish()
    }
}

/// An index that is being made.
struct Opening<'s> {
    source: &'s dyn ByteSource,
    index: Index,
}

impl<'s> Opening<'s> {
    fn new(source: &'s dyn ByteSource) -> Self {
        let index = Index::default();
        Self { source, index }
    }

    fn index_error(&self, problem: IndexError) -> CheckpointError {
        CheckpointError::Index {
            place: self.source.describe(),
            file: INDEX_FILE.to_owned(),
            problem,
        }
    }

    /// The index, where there is one that counts: one whose shards are all gone does not, if there are
    /// other weights.
    fn usable_index(&mut self, ways: &Ways) -> Result<Option<ShardIndex>, CheckpointError> {
        if !ways.index {
            return Ok(None);
        }
        let bytes = match read_limited(self.source, INDEX_FILE, shards::MAX_INDEX) {
            Err(CheckpointError::TextTooLarge { size, .. }) => {
                return Err(self.index_error(IndexError::TooLarge { size }));
            }
            other => other?,
        };
        let index = shards::parse(&bytes).map_err(|problem| self.index_error(problem))?;
        let mut shards = index.shards.iter().map(|shard| self.source.exists(shard));
        if !ways.consolidated.is_empty()
            && !shards.try_fold(false, |any, is| Ok::<_, SourceError>(any | is?))?
        {
            return Ok(None);
        }
        self.index.bytes_read += bytes.len() as u64;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        self.index
            .identity
            .files
            .insert(INDEX_FILE.to_owned(), FileIdentity::Content { digest });
        Ok(Some(index))
    }

    fn read_header(&mut self, file: &str) -> Result<Header, CheckpointError> {
        let header = header::read_header(self.source, file)
            .map_err(|error| CheckpointError::header(self.source.describe(), file, error))?;
        let start = header
            .entries
            .first()
            .map_or(header.file_size, |entry| entry.offset);
        self.index.bytes_read += start;
        let identity = FileIdentity::Weights {
            size: header.file_size,
            header: header.digest.clone(),
        };
        self.index.identity.files.insert(file.to_owned(), identity);
        self.index.files.push(WeightFile {
            name: file.to_owned(),
            size: header.file_size,
            header_digest: header.digest.clone(),
        });
        Ok(header)
    }

    /// Adds the tensors of a file.
    fn add(&mut self, header: Header) {
        let file = FileIndex(self.index.files.len().saturating_sub(1) as u32);
        self.index
            .tensors
            .extend(header.entries.into_iter().map(|entry| TensorInfo {
                name: entry.name,
                file,
                dtype: entry.dtype,
                shape: entry.shape,
                offset: entry.offset,
                strides: None,
                bytes: entry.bytes,
            }));
    }

    fn add_file(&mut self, file: &str) -> Result<(), CheckpointError> {
        let header = self.read_header(file)?;
        self.add(header);
        Ok(())
    }

    /// Adds all tensors of the shards of an index. As in the reference, the index says which files these
    /// are, not where a tensor is; of one that several shards hold the last counts. A tensor that the
    /// index names and no shard holds is an error.
    fn add_shards(&mut self, index: &ShardIndex) -> Result<(), CheckpointError> {
        for (number, shard) in (0..).zip(&index.shards) {
            let header = match self.read_header(shard) {
                Err(CheckpointError::Source(SourceError::NotFound { .. })) => {
                    return Err(self.missing_shard(index, number, shard));
                }
                other => other?,
            };
            self.add(header);
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
            let shard = index.shards.get(*shard as usize);
            return Err(self.index_error(IndexError::NotInShard {
                tensor: tensor.to_string(),
                shard: shard.cloned().unwrap_or_default(),
            }));
        }
        Ok(())
    }

    fn missing_shard(&self, index: &ShardIndex, number: u32, shard: &str) -> CheckpointError {
        let tensor = index.tensors.iter().find(|(_, of)| *of == number);
        let tensor = tensor.map(|(name, _)| name.to_string()).unwrap_or_default();
        self.index_error(IndexError::MissingShard {
            tensor,
            shard: shard.to_owned(),
        })
    }

    /// Adds consolidated files. A name that several of them hold (Meta's tensor parallel files) becomes
    /// `name#0`, `name#1`, ..., by file.
    fn add_consolidated(&mut self, names: &[String]) -> Result<(), CheckpointError> {
        for name in names {
            self.add_file(name)?;
        }
        self.index
            .tensors
            .sort_by(|a, b| (&a.name, a.file).cmp(&(&b.name, b.file)));
        let mut start = 0;
        while start < self.index.tensors.len() {
            let rest = &mut self.index.tensors[start..];
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

    fn finish(mut self) -> Result<Index, CheckpointError> {
        self.index.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        self.index.tensors.shrink_to_fit();
        if let Some(pair) = self
            .index
            .tensors
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name)
        {
            let file = |tensor: &TensorInfo| {
                self.index
                    .files
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
        Ok(self.index)
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
