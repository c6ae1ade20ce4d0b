//! Mappings that keep their order.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use num_bigint::BigInt;
use num_traits::FromPrimitive;

use crate::compare::equal;
use crate::error::{Outcome, type_error};
use crate::value::Value;

/// Entries above which a table of hashes is kept.
const FEW: usize = 8;

/// A mapping. Its keys are what Python can hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dict {
    entries: Vec<(Value, Value)>,
    table: HashMap<u64, Vec<usize>>,
}

impl Dict {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, (Value, Value)> {
        self.entries.iter()
    }

    pub fn at(&self, index: usize) -> Option<&(Value, Value)> {
        self.entries.get(index)
    }

    /// Sets a key, at its place if it is there.
    pub fn set(&mut self, key: Value, value: Value) -> Outcome<()> {
        let hashed = hash(&key)?;
        if let Some(at) = self.find(&key, hashed)? {
            self.entries[at].1 = value;
            return Ok(());
        }
        self.entries.push((key, value));
        let count = self.entries.len();
        if count == FEW + 1 {
            for (at, (key, _)) in self.entries.iter().enumerate() {
                self.table.entry(hash(key)?).or_default().push(at);
            }
        } else if count > FEW {
            self.table.entry(hashed).or_default().push(count - 1);
        }
        Ok(())
    }

    pub fn set_str(&mut self, key: &str, value: Value) {
        // A string can be hashed.
        let _ = self.set(Value::str(key), value);
    }

    pub fn get(&self, key: &Value) -> Outcome<Option<&Value>> {
        let at = self.find(key, hash(key)?)?;
        Ok(at.map(|at| &self.entries[at].1))
    }

    pub fn get_str(&self, key: &str) -> Option<&Value> {
        if self.entries.len() <= FEW {
            let found = self
                .entries
                .iter()
                .find(|(known, _)| known.as_str().is_some_and(|known| **known == *key));
            return found.map(|(_, value)| value);
        }
        let key = Value::str(key);
        self.get(&key).ok().flatten()
    }

    fn find(&self, key: &Value, hashed: u64) -> Outcome<Option<usize>> {
        if self.entries.len() <= FEW {
            for (at, (known, _)) in self.entries.iter().enumerate() {
                if is_same(known, key)? {
                    return Ok(Some(at));
                }
            }
            return Ok(None);
        }
        for &at in self.table.get(&hashed).into_iter().flatten() {
            if is_same(&self.entries[at].0, key)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

/// Whether two keys are one: NaN is itself in Python too, where it is the same object.
fn is_same(one: &Value, other: &Value) -> Outcome<bool> {
    equal(one, other)
}

/// A hash that is alike for what is equal; not everything has one.
pub(crate) fn hash(value: &Value) -> Outcome<u64> {
    let mut hasher = DefaultHasher::new();
    add(value, &mut hasher)?;
    Ok(hasher.finish())
}

fn add(value: &Value, hasher: &mut DefaultHasher) -> Outcome<()> {
    match value {
        Value::None => 1u8.hash(hasher),
        Value::Bool(value) => BigInt::from(*value).hash(hasher),
        Value::Int(value) => BigInt::from(*value).hash(hasher),
        Value::Big(value) => value.hash(hasher),
        Value::Float(value) => match BigInt::from_f64(*value) {
            Some(whole) if value.fract() == 0.0 => whole.hash(hasher),
            _ => value.to_bits().hash(hasher),
        },
        Value::Str(text) | Value::Markup(text) => text.hash(hasher),
        Value::Bytes(bytes) => bytes.hash(hasher),
        Value::Tuple(items) | Value::Group(items) => {
            for item in &**items {
                add(item, hasher)?;
            }
        }
        Value::Range(range) => range.len().hash(hasher),
        Value::Undefined(_) => 2u8.hash(hasher),
        Value::List(_) | Value::Dict(_) | Value::View(..) => {
            return type_error(format!("unhashable type: `{}`", value.type_name()));
        }
        // All others are told apart when they are compared.
        _ => 3u8.hash(hasher),
    }
    Ok(())
}
