//! What a GGUF file says of its model: keys and values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cursor::Cursor;
use super::problem::{GgufError, Problem};

/// Most keys.
const MAX_KEYS: u64 = 1 << 16;
/// Longest key, as the format says.
const MAX_KEY: u64 = u16::MAX as u64;
/// Longest text that is a value.
const MAX_TEXT: u64 = 16 << 20;
/// What the keys begin with under which numbers of activations stand that were learned, one for each layer.
const LEARNED: &str = "xielu.";
/// Longer lists of numbers stay in the file.
const SHORT: u64 = 1 << 12;

/// Keys and values of a file. Lists of texts and long ones stay there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Numbers, texts and short lists of numbers.
    pub values: BTreeMap<String, Value>,
    /// Where the other lists are.
    pub lists: BTreeMap<String, List>,
    /// Where the lists are that are weights.
    pub(super) weights: BTreeMap<String, List>,
}

/// A list in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// What it is of.
    pub(super) kind: Kind,
    /// How many.
    pub count: u64,
    /// The first byte of the first one.
    pub(super) start: u64,
}

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Kind {
    /// In the order of their numbers in files.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Text,
        Self::List,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Bytes of a number; `None` for what varies.
    pub(super) fn size(self) -> Option<u64> {
        Some(match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Text | Self::List => return None,
        })
    }
}

impl Metadata {
    /// Reads so many keys and values.
    pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Self, Problem> {
        if count > MAX_KEYS {
            let (what, most) = ("keys", MAX_KEYS);
            let claimed = count;
            return Err(GgufError::TooMany {
                what,
                claimed,
                most,
            }
            .into());
        }
        let mut metadata = Self::default();
        for _ in 0..count {
            cursor.what = "a key";
            let key = cursor.text(MAX_KEY)?;
            cursor.what = "a value";
            if metadata.has(&key) {
                return Err(GgufError::DuplicateKey { key }.into());
            }
            match kind(cursor, &key)? {
                Kind::List => metadata.read_list(cursor, key)?,
                kind => {
                    let value = value(cursor, kind, &key)?;
                    metadata.values.insert(key, value);
                }
            }
        }
        Ok(metadata)
    }

    fn read_list(&mut self, cursor: &mut Cursor<'_>, key: String) -> Result<(), Problem> {
        let kind = kind(cursor, &key)?;
        let count = cursor.u64()?;
        let least = kind.size().unwrap_or(8);
        let (what, most) = ("entries of a list", cursor.rest() / least);
        if count > most {
            let claimed = count;
            return Err(GgufError::TooMany {
                what,
                claimed,
                most,
            }
            .into());
        }
        let start = cursor.at;
        match kind.size() {
            Some(_) if count <= SHORT => {
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(value(cursor, kind, &key)?);
                }
                if kind == Kind::F32 && key.starts_with(LEARNED) {
                    let list = List { kind, count, start };
                    self.weights.insert(key.clone(), list);
                }
                self.values.insert(key, Value::Array(values));
            }
            Some(size) => {
                cursor.skip(count * size)?;
                self.lists.insert(key, List { kind, count, start });
            }
            None if kind == Kind::List => {
                let rule = "lists of lists are not read";
                return Err(GgufError::Key { key, rule }.into());
            }
            None => {
                for _ in 0..count {
                    let length = cursor.u64()?;
                    cursor.skip(length)?;
                }
                self.lists.insert(key, List { kind, count, start });
            }
        }
        Ok(())
    }

    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.lists.contains_key(key)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.as_str()
    }

    /// A number that is not negative.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.values.get(key)?.as_u64()
    }

    /// Yes or no.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.values.get(key)?.as_bool()
    }
}

impl List {
    /// Reads its texts.
    pub(super) fn texts(&self, cursor: &mut Cursor<'_>) -> Result<Vec<String>, Problem> {
        if self.kind != Kind::Text {
            return Ok(Vec::new());
        }
        (0..self.count).map(|_| cursor.text(MAX_TEXT)).collect()
    }

    /// Reads its numbers.
    pub(super) fn numbers(&self, cursor: &mut Cursor<'_>) -> Result<Vec<f64>, Problem> {
        if self.kind == Kind::Text {
            return Ok(Vec::new());
        }
        let number = |_| Ok(value(cursor, self.kind, "")?.as_f64().unwrap_or(f64::NAN));
        (0..self.count).map(number).collect()
    }
}

fn kind(cursor: &mut Cursor<'_>, key: &str) -> Result<Kind, Problem> {
    let found = cursor.u32()?;
    let kind = Kind::ALL.get(found as usize);
    kind.copied().ok_or_else(|| {
        let key = key.to_owned();
        GgufError::ValueType { key, found }.into()
    })
}

fn value(cursor: &mut Cursor<'_>, kind: Kind, key: &str) -> Result<Value, Problem> {
    Ok(match kind {
        Kind::U8 => cursor.array().map(u8::from_le_bytes)?.into(),
        Kind::I8 => cursor.array().map(i8::from_le_bytes)?.into(),
        Kind::U16 => cursor.array().map(u16::from_le_bytes)?.into(),
        Kind::I16 => cursor.array().map(i16::from_le_bytes)?.into(),
        Kind::U32 => cursor.u32()?.into(),
        Kind::I32 => cursor.array().map(i32::from_le_bytes)?.into(),
        // Exactly the number that the 32 bits are.
        Kind::F32 => f64::from(cursor.array().map(f32::from_le_bytes)?).into(),
        Kind::Bool => match cursor.array()? {
            [0] => false.into(),
            [1] => true.into(),
            [_] => {
                let (key, rule) = (key.to_owned(), "it is neither yes nor no");
                return Err(GgufError::Key { key, rule }.into());
            }
        },
        Kind::Text => cursor.text(MAX_TEXT)?.into(),
        Kind::U64 => cursor.u64()?.into(),
        Kind::I64 => cursor.array().map(i64::from_le_bytes)?.into(),
        Kind::F64 => cursor.array().map(f64::from_le_bytes)?.into(),
        Kind::List => Value::Null,
    })
}
