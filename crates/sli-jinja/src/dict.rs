//! Mappings that keep their order.

use std::collections::HashMap;

use crate::error::Outcome;

/// Entries above which a table of hashes is kept.
const FEW: usize = 8;

/// What may be a key, and stands for texts too.
pub(crate) trait Key: Sized {
    /// A hash that is alike for what is equal; not everything has one.
    fn hash(&self) -> Outcome<u64>;

    /// Whether two keys are one: NaN is itself in Python too, where it is the same object.
    fn equals(&self, other: &Self) -> Outcome<bool>;

    /// The key that a text is.
    fn of_text(text: &str) -> Self;

    /// The text that a key is.
    fn text(&self) -> Option<&str>;
}

/// A mapping. Its keys are what Python can hash.
#[derive(Clone, Debug)]
pub(crate) struct Dict<V> {
    entries: Vec<(V, V)>,
    table: HashMap<u64, Vec<usize>>,
}

impl<V> Default for Dict<V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            table: HashMap::new(),
        }
    }
}

impl<V> Dict<V> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, (V, V)> {
        self.entries.iter()
    }

    pub fn at(&self, index: usize) -> Option<&(V, V)> {
        self.entries.get(index)
    }
}

impl<V: Key> Dict<V> {
    /// Sets a key, at its place if it is there.
    pub fn set(&mut self, key: V, value: V) -> Outcome<()> {
        let hashed = key.hash()?;
        if let Some(at) = self.find(&key, hashed)? {
            self.entries[at].1 = value;
            return Ok(());
        }
        self.entries.push((key, value));
        let count = self.entries.len();
        if count == FEW + 1 {
            for (at, (key, _)) in self.entries.iter().enumerate() {
                self.table.entry(key.hash()?).or_default().push(at);
            }
        } else if count > FEW {
            self.table.entry(hashed).or_default().push(count - 1);
        }
        Ok(())
    }

    pub fn set_str(&mut self, key: &str, value: V) {
        // A string can be hashed.
        let _ = self.set(V::of_text(key), value);
    }

    pub fn get(&self, key: &V) -> Outcome<Option<&V>> {
        let at = self.find(key, key.hash()?)?;
        Ok(at.map(|at| &self.entries[at].1))
    }

    pub fn get_str(&self, key: &str) -> Option<&V> {
        if self.entries.len() <= FEW {
            let found = self
                .entries
                .iter()
                .find(|(known, _)| known.text() == Some(key));
            return found.map(|(_, value)| value);
        }
        let key = V::of_text(key);
        self.get(&key).ok().flatten()
    }

    fn find(&self, key: &V, hashed: u64) -> Outcome<Option<usize>> {
        if self.entries.len() <= FEW {
            for (at, (known, _)) in self.entries.iter().enumerate() {
                if known.equals(key)? {
                    return Ok(Some(at));
                }
            }
            return Ok(None);
        }
        for &at in self.table.get(&hashed).into_iter().flatten() {
            if self.entries[at].0.equals(key)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}
