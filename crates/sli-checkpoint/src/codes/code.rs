//! What a code is.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

/// What turns stored bytes into numbers.
pub(crate) trait Code: Debug + Send + Sync {
    /// Rows of a block: those of one block are best read together.
    fn block_rows(&self) -> usize;

    /// Rows and columns of a part that these rows and columns of the tensor need.
    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2];

    /// Decodes rows and columns of the tensor into `out`, row-major. `parts` are the areas that they need.
    fn decode(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        parts: &[Stored<'_>],
        out: &mut [f32],
    );
}

/// An area of a part, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    /// From its first byte on.
    pub bytes: &'a [u8],
    /// Bytes from a row to the next.
    pub stride: usize,
}

impl<'a> Stored<'a> {
    /// A row from its first byte on.
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.stride..]
    }
}

/// A tensor, what else is needed to decode it, and how.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    /// Places in the checkpoint; the tensor itself is the first.
    pub parts: Box<[u32]>,
    pub code: Arc<dyn Code>,
}

/// What files say of themselves and what is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCode {
    /// The key within `quantization_config`; empty: all of it.
    pub key: String,
    /// Its value.
    pub found: String,
    /// What is known instead.
    pub reason: &'static str,
}

/// Reads keys of a configuration, each of which has to be known.
pub(super) struct Keys<'c>(pub &'c Map<String, Value>);

impl Keys<'_> {
    /// A value that is not what it can be.
    pub fn unknown(key: &str, found: &Value, reason: &'static str) -> UnknownCode {
        UnknownCode {
            key: key.to_owned(),
            found: found.to_string(),
            reason,
        }
    }

    /// Refuses keys beside those that are `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), UnknownCode> {
        match self
            .0
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            Some((key, value)) => Err(Self::unknown(
                key,
                value,
                "the key is not known with this code",
            )),
            None => Ok(()),
        }
    }

    /// A key that is absent, `null` or one of some words.
    pub fn one_of(
        &self,
        key: &str,
        words: &[&str],
        reason: &'static str,
    ) -> Result<(), UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(other) => Err(Self::unknown(key, other, reason)),
        }
    }

    /// A key that is absent, `null` or a list of names. Which tensors are coded is seen on them.
    pub fn names(&self, key: &str) -> Result<(), UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => Ok(()),
            Some(other) => Err(Self::unknown(key, other, "a list of names is wanted")),
        }
    }
}
