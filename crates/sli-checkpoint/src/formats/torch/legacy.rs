//! What `torch.save` wrote before version 1.6: a magic number, a protocol and facts of the machine, each a pickle; the
//! object; the keys of its storages; and of each storage the number of its elements and the elements.

use std::collections::HashMap;
use std::ops::Range;

use super::archive::{Problem, read_pickle};
use super::pickle::{CUT_OFF, Object, Pickle};
use super::problem::{MAX_PICKLE, TorchError};
use super::tensors::{Storages, digest, named};
use crate::formats::opening::Contents;
use crate::source::ByteSource;

/// The pickle of the magic number, to its sign: what such a file begins with.
pub(super) const BEGINNING: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The protocol that follows.
const PROTOCOL: i64 = 1001;

pub(super) fn read(source: &dyn ByteSource, file: &str, size: u64) -> Result<Contents, Problem> {
    let bytes = read_pickles(source, file, size)?;
    let mut rest = bytes.get(BEGINNING.len()..).unwrap_or_default();
    let mut next = || {
        let pickle = Pickle::read(rest)?;
        rest = rest.get(pickle.length..).unwrap_or_default();
        Ok::<_, TorchError>(pickle)
    };
    let protocol = next()?;
    if *protocol.get(protocol.root) != Object::Int(PROTOCOL) {
        let (at, rule) = (BEGINNING.len(), "its protocol is not known");
        return Err(TorchError::Pickle { at, rule }.into());
    }
    next()?;
    let object = next()?;
    let keys = next()?;
    let header = bytes.len() - rest.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes.get(..header).unwrap_or_default());
    let places = places(source, file, &object, &keys, header as u64..size)?;
    let find = |key: &str| {
        let lacking = || TorchError::NoMember {
            member: key.to_owned(),
        };
        places.get(key).cloned().ok_or_else(lacking)
    };
    let tensors = Storages { find: &find }.tensors(&object)?;
    Ok(Contents {
        size,
        digest: digest(hasher, &tensors),
        read: (header + 8 * places.len()) as u64,
        tensors,
        metadata: None,
    })
}

/// As much of the file as its pickles take: more and more of it until they end.
fn read_pickles(source: &dyn ByteSource, file: &str, size: u64) -> Result<Vec<u8>, Problem> {
    let mut length = (1 << 20).min(size);
    loop {
        let bytes = read_pickle(source, file, 0, length)?;
        let is_whole = !is_cut_off(&bytes);
        if is_whole || length == size || length == MAX_PICKLE {
            return Ok(bytes);
        }
        length = (length * 4).min(size).min(MAX_PICKLE);
    }
}

/// Whether one of the five pickles goes on behind these bytes.
fn is_cut_off(mut bytes: &[u8]) -> bool {
    for _ in 0..5 {
        match Pickle::read(bytes) {
            Ok(pickle) => bytes = bytes.get(pickle.length..).unwrap_or_default(),
            Err(TorchError::Pickle { rule, .. }) => return rule == CUT_OFF,
            // Who reads it in earnest says it.
            Err(_) => return false,
        }
    }
    false
}

/// Where the elements of the storages are, in the order of the keys.
fn places(
    source: &dyn ByteSource,
    file: &str,
    object: &Pickle,
    keys: &Pickle,
    data: Range<u64>,
) -> Result<HashMap<String, Range<u64>>, Problem> {
    let sizes: HashMap<&str, u64> = object
        .storages()
        .filter_map(|place| named(object, place))
        .map(|named| (named.key, named.class.size_bytes().unwrap_or(1) as u64))
        .collect();
    let wrong = |rule| TorchError::Pickle { at: 0, rule };
    let Object::List(keys_list) = keys.get(keys.root) else {
        return Err(wrong("its list of storages is none").into());
    };
    let mut places = HashMap::new();
    let mut at = data.start;
    for key in keys_list {
        let key = keys.text(*key);
        let key = key.ok_or_else(|| wrong("the key of a storage is no text"))?;
        let element = sizes.get(key).copied();
        let element = element.ok_or_else(|| wrong("a storage belongs to no tensor"))?;
        let short = |elements: u64, found: u64| TorchError::ShortStorage {
            key: key.to_owned(),
            elements,
            needed: elements.saturating_mul(element),
            found,
        };
        if data.end - at < 8 {
            return Err(short(0, data.end - at).into());
        }
        let mut count = [0; 8];
        source.read_at(file, at, &mut count)?;
        let (count, start) = (u64::from_le_bytes(count), at + 8);
        let end = count
            .checked_mul(element)
            .and_then(|bytes| start.checked_add(bytes))
            .filter(|end| *end <= data.end);
        at = end.ok_or_else(|| short(count, data.end - start))?;
        places.insert(key.to_owned(), start..at);
    }
    Ok(places)
}
