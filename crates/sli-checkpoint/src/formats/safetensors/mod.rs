//! Safetensors: one file, shards by an index, or Meta's consolidated files.

pub mod header;

use crate::error::CheckpointError;
use crate::formats::format::{Format, Listing, Way};
use crate::formats::opening::{Contents, Opening, read_index};
use crate::source::ByteSource;
use crate::tensors::{FileIndex, Index, TensorInfo};

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
const CONSOLIDATED_FILE: &str = "consolidated.safetensors";
const CONSOLIDATED: &str = "consolidated*.safetensors";

/// The format.
#[derive(Debug)]
pub(crate) struct Safetensors;

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn ways(&self, listing: &Listing<'_>) -> Result<Vec<Way>, CheckpointError> {
        let Listing { source, names } = listing;
        let mut ways = Vec::new();
        if source.exists(SINGLE_FILE)? {
            ways.push(Way::one(SINGLE_FILE, "one file of safetensors"));
        }
        let has_index = source.exists(INDEX_FILE)?;
        if has_index {
            ways.push(Way::one(INDEX_FILE, "the shards that the index names"));
        }
        if let Some(consolidated) = consolidated(*source, names)? {
            // An index whose shards are all gone does not count where there are other weights.
            if has_index && !any_shard(*source)? {
                ways.insert(ways.len() - 1, consolidated);
            } else {
                ways.push(consolidated);
            }
        }
        Ok(ways)
    }

    fn index(&self, source: &dyn ByteSource, way: &Way) -> Result<Index, CheckpointError> {
        let mut opening = Opening::new(source, contents);
        match way.name.as_str() {
            INDEX_FILE => opening.add_shards(INDEX_FILE)?,
            _ => opening.add_parts(&way.files)?,
        }
        opening.finish()
    }

    fn looked_for(&self) -> &'static [&'static str] {
        &[SINGLE_FILE, INDEX_FILE, CONSOLIDATED]
    }

    fn claims_file(&self, _file: &str) -> bool {
        true
    }

    fn index_of_file(&self, source: &dyn ByteSource, file: &str) -> Result<Index, CheckpointError> {
        let mut opening = Opening::new(source, contents);
        opening.add_file(file)?;
        opening.finish()
    }
}

/// Meta's and Mistral's files: the one, or the sorted parts.
fn consolidated(source: &dyn ByteSource, names: &[String]) -> Result<Option<Way>, CheckpointError> {
    const RULE: &str = "Meta's and Mistral's own layout";
    if source.exists(CONSOLIDATED_FILE)? {
        return Ok(Some(Way::one(CONSOLIDATED_FILE, RULE)));
    }
    let is_part =
        |name: &&String| name.starts_with("consolidated") && name.ends_with(".safetensors");
    let files: Vec<String> = names.iter().filter(is_part).cloned().collect();
    let name = match &files[..] {
        [] => return Ok(None),
        [one] => one.as_str(),
        _ => CONSOLIDATED,
    };
    let name = name.to_owned();
    let rule = RULE;
    Ok(Some(Way { name, rule, files }))
}

/// Whether a shard of the index is there.
fn any_shard(source: &dyn ByteSource) -> Result<bool, CheckpointError> {
    for shard in read_index(source, INDEX_FILE)?.0.shards {
        if source.exists(&shard)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contents(source: &dyn ByteSource, file: &str) -> Result<Contents, CheckpointError> {
    let header = header::read_header(source, file)
        .map_err(|error| CheckpointError::header(source.describe(), file, error))?;
    let first = header.entries.first();
    let tensors = header.entries.iter().map(|entry| TensorInfo {
        name: entry.name.clone(),
        file: FileIndex(0),
        dtype: entry.dtype,
        shape: entry.shape.clone(),
        offset: entry.offset,
        strides: None,
        bytes: entry.bytes,
    });
    Ok(Contents {
        size: header.file_size,
        read: first.map_or(header.file_size, |entry| entry.offset),
        tensors: tensors.collect(),
        digest: header.digest,
        metadata: None,
    })
}
