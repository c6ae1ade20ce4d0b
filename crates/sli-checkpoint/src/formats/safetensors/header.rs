//! The header of a safetensors file.
//!
//! Eight bytes: the length of the header, little-endian. The header: a JSON object of tensor names to
//! `{dtype, shape, data_offsets}` and perhaps `__metadata__`, strings to strings. Then the tensors'
//! bytes, without gaps or overlaps, to the end of the file. The rules are those of the reference
//! implementation (`safetensors/src/tensor.rs`); repeated names, which it lets pass, are refused.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::dtype::Dtype;
use crate::formats::lookalike;
use crate::source::{ByteSource, SourceError};

/// Largest header in bytes, as in the reference implementation.
pub const MAX_HEADER: u64 = 100_000_000;

/// A rule of the format that a file breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Something else under the name of a safetensors file.
    #[error("it is {what}")]
    Other {
        /// What it is.
        what: String,
    },
    /// Shorter than the eight bytes of the header's length.
    #[error("it has {size} bytes; a safetensors file has at least 8")]
    TooSmall {
        /// Size of the file in bytes.
        size: u64,
    },
    /// The header would be larger than any real one.
    #[error("it claims a header of {claimed} bytes; the most is {MAX_HEADER}")]
    HeaderTooLarge {
        /// Claimed size in bytes.
        claimed: u64,
    },
    /// The header would be longer than the file.
    #[error("it claims a header of {claimed} bytes and has {size} bytes in all")]
    HeaderPastEnd {
        /// Claimed size in bytes.
        claimed: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// The header is not text.
    #[error("the header is not UTF-8")]
    NotUtf8,
    /// The header does not start with `{`.
    #[error("the header is not a JSON object")]
    NotAnObject,
    /// The header is not the JSON that the format wants.
    #[error("the header cannot be read: {0}")]
    Json(#[source] serde_json::Error),
    /// A name occurs twice.
    #[error("tensor `{tensor}` occurs twice")]
    Duplicate {
        /// The name.
        tensor: String,
    },
    /// An element type that the format does not have.
    #[error("tensor `{tensor}` has the unknown dtype `{dtype}`")]
    UnknownDtype {
        /// Name of the tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// The number of elements or bytes does not fit 64 bits.
    #[error("tensor `{tensor}`: the shape {shape:?} is too large to count")]
    ShapeOverflow {
        /// Name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// Elements smaller than a byte that do not fill their last byte.
    #[error("tensor `{tensor}`: {dtype} elements of shape {shape:?} do not end on a byte")]
    SplitByte {
        /// Name of the tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// The range of bytes is not as long as the shape says.
    #[error(
        "tensor `{tensor}`: {dtype} {shape:?} takes {needed} bytes, its offsets span {spanned}"
    )]
    SizeMismatch {
        /// Name of the tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes by dtype and shape.
        needed: u64,
        /// Bytes by offsets.
        spanned: u64,
    },
    /// The range ends before it starts.
    #[error("tensor `{tensor}`: its offsets {start}..{end} run backwards")]
    Backwards {
        /// Name of the tensor.
        tensor: String,
        /// First byte, from the end of the header.
        start: u64,
        /// End of its bytes.
        end: u64,
    },
    /// The range starts before the previous one ends.
    #[error("tensor `{tensor}` starts at byte {start}, inside another that ends at {previous_end}")]
    Overlap {
        /// Name of the tensor.
        tensor: String,
        /// First byte, from the end of the header.
        start: u64,
        /// End of the tensor before it.
        previous_end: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("tensor `{tensor}` starts at byte {start}; bytes {previous_end}..{start} are nobody's")]
    Hole {
        /// Name of the tensor.
        tensor: String,
        /// First byte, from the end of the header.
        start: u64,
        /// End of the tensor before it.
        previous_end: u64,
    },
    /// The file ends before its tensors do.
    #[error("its tensors end at byte {end} and it has {size}: {} bytes are missing", end - size)]
    Truncated {
        /// Where the tensors end in the file.
        end: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// The file goes on after its tensors.
    #[error("its tensors end at byte {end} and it has {size}: {} bytes too many", size - end)]
    TrailingBytes {
        /// Where the tensors end in the file.
        end: u64,
        /// Size of the file in bytes.
        size: u64,
    },
}

/// A tensor of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: Box<str>,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, row-major.
    pub shape: Box<[usize]>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A checked header: every entry's bytes are within the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the file in bytes.
    pub file_size: u64,
    /// BLAKE3 of the header's bytes, in hexadecimal.
    pub digest: String,
    /// The tensors, in order of their bytes.
    pub entries: Vec<Entry>,
}

/// Why a header was not read.
#[derive(Debug)]
pub enum ReadError {
    /// The bytes did not come.
    Source(SourceError),
    /// The bytes break a rule.
    Format(HeaderError),
}

impl From<SourceError> for ReadError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<HeaderError> for ReadError {
    fn from(error: HeaderError) -> Self {
        Self::Format(error)
    }
}

/// Reads and checks the header of a file. Reads nothing else of it, unless it is no such file: then its
/// beginning may tell what it is.
pub fn read_header(source: &dyn ByteSource, file: &str) -> Result<Header, ReadError> {
    let size = source.len(file)?;
    let problem = match read_header_of(source, file, size) {
        Err(ReadError::Format(problem)) => problem,
        other => return other,
    };
    let foreign = matches!(
        problem,
        HeaderError::TooSmall { .. }
            | HeaderError::HeaderTooLarge { .. }
            | HeaderError::HeaderPastEnd { .. }
            | HeaderError::NotUtf8
            | HeaderError::NotAnObject
    );
    let mut beginning = vec![0; size.min(lookalike::BEGINNING as u64) as usize];
    if foreign {
        source.read_at(file, 0, &mut beginning)?;
    }
    Err(match lookalike::identify(&beginning) {
        Some(what) if foreign => HeaderError::Other { what },
        _ => problem,
    }
    .into())
}

fn read_header_of(source: &dyn ByteSource, file: &str, size: u64) -> Result<Header, ReadError> {
    if size < 8 {
        return Err(HeaderError::TooSmall { size }.into());
    }
    let mut length = [0; 8];
    source.read_at(file, 0, &mut length)?;
    let claimed = u64::from_le_bytes(length);
    if claimed > MAX_HEADER {
        return Err(HeaderError::HeaderTooLarge { claimed }.into());
    }
    let data = claimed + 8;
    if data > size {
        return Err(HeaderError::HeaderPastEnd { claimed, size }.into());
    }
    let mut header = vec![0; claimed as usize];
    source.read_at(file, 8, &mut header)?;
    let entries = check_entries(parse(&header)?, data, size)?;
    let digest = blake3::hash(&header).to_hex().to_string();
    Ok(Header {
        file_size: size,
        digest,
        entries,
    })
}

/// One entry as written, with its name.
type Raw<'a> = (Cow<'a, str>, RawEntry<'a>);

#[derive(serde::Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header's JSON to its entries, as written.
fn parse(header: &[u8]) -> Result<Vec<Raw<'_>>, HeaderError> {
    let text = std::str::from_utf8(header).map_err(|_| HeaderError::NotUtf8)?;
    if !text.starts_with('{') {
        return Err(HeaderError::NotAnObject);
    }
    let Entries(entries) = serde_json::from_str(text).map_err(HeaderError::Json)?;
    Ok(entries)
}

/// The entries of a header in the order of the text, repeated names included.
struct Entries<'a>(Vec<Raw<'a>>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                let mut metadata = false;
                while let Some(Name(name)) = map.next_key()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut metadata, true) {
                            return Err(de::Error::duplicate_field("__metadata__"));
                        }
                        map.next_value::<Option<HashMap<Cow<'de, str>, Cow<'de, str>>>>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// A name, borrowed from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Applies the rules on dtypes, shapes and offsets. `data` is where tensors start in a file of
/// `size` bytes.
fn check_entries(mut raw: Vec<Raw<'_>>, data: u64, size: u64) -> Result<Vec<Entry>, HeaderError> {
    raw.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(pair) = raw.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(HeaderError::Duplicate {
            tensor: pair[0].0.to_string(),
        });
    }
    raw.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut entries = Vec::with_capacity(raw.len());
    let mut previous_end = 0;
    for (name, entry) in raw {
        let (start, end) = entry.data_offsets;
        let tensor = || name.to_string();
        if end < start {
            return Err(HeaderError::Backwards {
                tensor: tensor(),
                start,
                end,
            });
        }
        if start < previous_end {
            return Err(HeaderError::Overlap {
                tensor: tensor(),
                start,
                previous_end,
            });
        }
        if start > previous_end {
            return Err(HeaderError::Hole {
                tensor: tensor(),
                start,
                previous_end,
            });
        }
        previous_end = end;
        let (dtype, shape) = check_size(&name, entry)?;
        // Cannot overflow into a valid place: the last end is compared with the file below.
        let offset = data.saturating_add(start);
        entries.push(Entry {
            name: name.into(),
            dtype,
            shape,
            offset,
            bytes: end - start,
        });
    }
    let end = data.saturating_add(previous_end);
    if end > size {
        return Err(HeaderError::Truncated { end, size });
    }
    if end < size {
        return Err(HeaderError::TrailingBytes { end, size });
    }
    Ok(entries)
}

/// Checks that dtype and shape take as many bytes as the offsets span.
fn check_size(name: &str, entry: RawEntry<'_>) -> Result<(Dtype, Box<[usize]>), HeaderError> {
    let RawEntry {
        dtype,
        shape,
        data_offsets: (start, end),
    } = entry;
    let tensor = || name.to_owned();
    let Some(dtype) = Dtype::from_name(&dtype) else {
        return Err(HeaderError::UnknownDtype {
            tensor: tensor(),
            dtype: dtype.into_owned(),
        });
    };
    let [piece, bytes] = dtype.piece().map(|n| n as u64);
    let elements = shape
        .iter()
        .try_fold(1_u64, |product, &n| product.checked_mul(n));
    // Their bits can be counted too.
    let countable = |bytes: &u64| bytes.checked_mul(8).is_some();
    let needed = elements.and_then(|elements| elements.div_ceil(piece).checked_mul(bytes));
    let needed = needed.filter(countable);
    let sizes: Option<Box<[usize]>> = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let (Some(elements), Some(needed), Some(sizes)) = (elements, needed, sizes) else {
        return Err(HeaderError::ShapeOverflow {
            tensor: tensor(),
            shape,
        });
    };
    if !elements.is_multiple_of(piece) {
        return Err(HeaderError::SplitByte {
            tensor: tensor(),
            dtype,
            shape,
        });
    }
    let spanned = end - start;
    if needed != spanned {
        return Err(HeaderError::SizeMismatch {
            tensor: tensor(),
            dtype,
            shape,
            needed,
            spanned,
        });
    }
    Ok((dtype, sizes))
}
