//! What determines the bytes of a run's results.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sli_checkpoint::Found;

/// The part of a key that says over which part of a dataset a run is, where it is not over all of it.
pub const SHARD: &str = "shard";

/// The part of a key that names the files of the dataset, a line each, where a result has their names.
pub const DATASETS: &str = "dataset names";

/// How parts of a key begin that are files of the model's folder.
pub(super) const FILE_PART: &str = "model ";

/// The value of such a part where there is no such file.
pub(super) const NO_FILE: &str = "not there";

/// What determines the bytes of a run's results, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKey {
    parts: BTreeMap<String, String>,
}

impl RunKey {
    /// A key without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part: `model.config`, `data`, `compute`, ...; the value is compared and shown, so hash long ones.
    pub fn set(&mut self, name: impl Into<String>, value: impl fmt::Display) -> &mut Self {
        self.parts.insert(name.into(), value.to_string());
        self
    }

    /// Takes a part away.
    pub(crate) fn remove(&mut self, name: &str) {
        self.parts.remove(name);
    }

    /// Takes what the run of another key read of the model's folder and that of this one did not; what they differ in beside
    /// that.
    pub(crate) fn join(&mut self, other: &Self) -> Vec<Difference> {
        let is_of_one = |difference: &Difference| {
            let is_file = difference.name.starts_with(FILE_PART);
            is_file && (difference.was.is_none() || difference.is.is_none())
        };
        let (files, others) = self.difference(other).into_iter().partition(is_of_one);
        let files: Vec<Difference> = files;
        for file in files {
            if let Some(value) = file.is {
                self.parts.insert(file.name, value);
            }
        }
        others
    }

    /// Adds all parts of another key, whose names `prefix` goes in front of.
    pub(crate) fn add_under(&mut self, prefix: &str, other: &Self) {
        for (name, value) in &other.parts {
            self.parts.insert(format!("{prefix}{name}"), value.clone());
        }
    }

    /// The parts whose names begin so, without it.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        let parts = self.parts.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
        });
        Self {
            parts: parts.collect(),
        }
    }

    /// The value of a part.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parts.get(name).map(String::as_str)
    }

    /// All parts by name.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds what was read of a model's folder, as [`sli_checkpoint::ModelFolder::record`] has it.
    pub fn add_files(&mut self, record: &BTreeMap<String, Found>) {
        for (name, found) in record {
            let found = found.as_deref().unwrap_or(NO_FILE);
            self.set(format!("{FILE_PART}{name}"), found);
        }
    }

    /// [`Self::add_files`], with `prefix` in front of the names, except that a part that is there stays as it is.
    pub(super) fn add_new_files(&mut self, prefix: &str, record: &BTreeMap<String, Found>) {
        let mut read = Self::new();
        read.add_files(record);
        for (name, value) in read.parts {
            let name = format!("{prefix}{name}");
            self.parts.entry(name).or_insert(value);
        }
    }

    /// Names of the files of the model's folder that the key knows.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.parts
            .keys()
            .filter_map(|name| name.strip_prefix(FILE_PART))
    }

    /// The parts in which `now` differs from this, earlier, key.
    pub fn difference(&self, now: &Self) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.parts.keys().chain(now.parts.keys()).collect();
        let changed = |name: &&String| self.parts.get(*name) != now.parts.get(*name);
        let describe = |name: &String| Difference {
            name: name.clone(),
            was: self.parts.get(name).cloned(),
            is: now.parts.get(name).cloned(),
        };
        names.into_iter().filter(changed).map(describe).collect()
    }
}

/// One part of a key that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The part.
    pub name: String,
    /// Its value in the folder; `None` if it had none.
    pub was: Option<String>,
    /// Its value now; `None` if it has none.
    pub is: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        write!(
            f,
            "{} was {}, is {}",
            self.name,
            value(&self.was),
            value(&self.is)
        )
    }
}

/// The hash of a text, for a part of a [`RunKey`] that is too long to show.
pub fn short_hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(32);
    for byte in &blake3::hash(bytes).as_bytes()[..16] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
