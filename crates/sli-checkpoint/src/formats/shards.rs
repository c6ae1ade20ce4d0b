//! `model.safetensors.index.json` and the like: which shard holds which tensor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::source::is_inside;

/// Largest index in bytes.
pub const MAX_INDEX: u64 = 100_000_000;

/// A rule that an index breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Larger than any real one.
    #[error("it has {size} bytes; the most is {MAX_INDEX}")]
    TooLarge {
        /// Size in bytes.
        size: u64,
    },
    /// Not text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not an object with a `weight_map` of names to names.
    #[error("it cannot be read: {0}")]
    Json(#[source] serde_json::Error),
    /// A tensor is named twice.
    #[error("tensor `{tensor}` occurs twice")]
    Duplicate {
        /// Name of the tensor.
        tensor: String,
    },
    /// No tensor at all.
    #[error("its `weight_map` is empty")]
    Empty,
    /// A shard is not a file of the folder.
    #[error("tensor `{tensor}` is said to be in `{shard}`, outside the folder")]
    OutsideFolder {
        /// Name of the tensor.
        tensor: String,
        /// Name of the shard.
        shard: String,
    },
    /// A shard is not there.
    #[error("tensor `{tensor}` is said to be in `{shard}`, which is not there")]
    MissingShard {
        /// Name of the tensor.
        tensor: String,
        /// Name of the shard.
        shard: String,
    },
    /// A shard lacks a tensor that the index puts there.
    #[error("tensor `{tensor}` is said to be in `{shard}`, which lacks it")]
    NotInShard {
        /// Name of the tensor.
        tensor: String,
        /// Name of the shard.
        shard: String,
    },
}

/// A parsed index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardIndex {
    /// The shards, sorted by name.
    pub shards: Vec<String>,
    /// Tensor and the number of its shard, sorted by tensor.
    pub tensors: Vec<(Box<str>, u32)>,
}

/// Reads an index from its bytes.
pub fn parse(bytes: &[u8]) -> Result<ShardIndex, IndexError> {
    #[derive(serde::Deserialize)]
    struct Raw<'a> {
        #[serde(borrow)]
        weight_map: WeightMap<'a>,
    }
    let text = std::str::from_utf8(bytes).map_err(|_| IndexError::NotUtf8)?;
    let Raw {
        weight_map: WeightMap(mut pairs),
    } = serde_json::from_str(text).map_err(IndexError::Json)?;
    if pairs.is_empty() {
        return Err(IndexError::Empty);
    }
    pairs.sort();
    if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(IndexError::Duplicate {
            tensor: pair[0].0.to_string(),
        });
    }
    let mut shards: Vec<String> = Vec::new();
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    for (tensor, shard) in &pairs {
        if numbers.contains_key(&**shard) {
            continue;
        }
        if !is_inside(shard) {
            let (tensor, shard) = (tensor.to_string(), shard.to_string());
            return Err(IndexError::OutsideFolder { tensor, shard });
        }
        numbers.insert(shard, 0);
        shards.push(shard.to_string());
    }
    shards.sort();
    for (number, shard) in (0..).zip(&shards) {
        numbers.insert(shard, number);
    }
    let number = |shard: &str| numbers.get(shard).copied().unwrap_or_default();
    let tensors = pairs
        .iter()
        .map(|(name, shard)| (Box::from(&**name), number(shard)))
        .collect();
    Ok(ShardIndex { shards, tensors })
}

/// Pairs of tensor and shard in the order of the text, repeated names included.
struct WeightMap<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for WeightMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = WeightMap<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensor names to file names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(shard))) = map.next_entry()? {
                    pairs.push((name, shard));
                }
                Ok(WeightMap(pairs))
            }
        }
        deserializer.deserialize_map(MapVisitor)
    }
}

/// A string, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
