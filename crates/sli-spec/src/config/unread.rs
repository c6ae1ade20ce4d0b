//! What becomes of keys that no family read.
//!
//! A key that the reference's classes of the type do not read either has no effect there, and is set
//! aside if it is known as another's: a field of another type, or one that published files carry. What
//! nobody knows may be a slip of the pen or the key of code that is not the reference's, and is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Config, canonical, same};
use crate::defaults::{self, Row};
use crate::error::{SpecError, UnreadKey};
use crate::ignorable;
use crate::known_keys::{Standing, standing};
use crate::spelling::edit_distance;

/// Keys that nothing read and that are not known to never matter, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unread {
    /// Dotted paths of keys that no class of the reference reads.
    pub idle: Vec<String>,
    /// Keys that may matter.
    pub open: Vec<UnreadKey>,
}

impl Config {
    /// Keys that nothing read.
    pub fn unread(&self) -> Unread {
        let mut paths = Vec::new();
        self.collect_unread(&self.object, "", self.row, &mut paths);
        let mut unread = Unread::default();
        for path in paths {
            let similar = self.similar(&path);
            if self.is_idle(&path, similar.as_deref()) {
                unread.idle.push(path);
            } else {
                unread.open.push(UnreadKey { path, similar });
            }
        }
        unread
    }

    /// Whether this key of the outermost object, or of the one about rotations, has no effect in the
    /// reference and is somebody else's.
    fn is_idle(&self, path: &str, similar: Option<&str>) -> bool {
        let older = path.strip_prefix("rope_scaling.");
        let key = older.map_or_else(|| path.to_owned(), |key| format!("rope_parameters.{key}"));
        let key = key.as_str();
        let model_type = self.object.get("model_type").and_then(Value::as_str);
        match standing(model_type.unwrap_or_default(), key) {
            Standing::Published => true,
            // A key of another type may stand for one of this type's that is spelled nearly so.
            Standing::Foreign => {
                !self.is_for_other_code() && similar.is_none() && !ignorable::is_switch(key)
            }
            Standing::Read | Standing::Unknown => false,
        }
    }

    /// Whether code beside the weights, or a class that is not the reference's, may read the file.
    fn is_for_other_code(&self) -> bool {
        let brings_code = self
            .object
            .get("auto_map")
            .and_then(Value::as_object)
            .is_some_and(|map| {
                map.keys()
                    .any(|class| class.starts_with("AutoModel") || class == "AutoConfig")
            });
        brings_code || self.names_remote_class()
    }

    fn names_remote_class(&self) -> bool {
        let named = self.object.get("architectures").and_then(Value::as_array);
        let named = named.and_then(|names| names.first()?.as_str());
        let model_type = self.object.get("model_type").and_then(Value::as_str);
        match (named, model_type) {
            (Some(named), Some(model_type)) => defaults::is_remote_class(model_type, named),
            _ => false,
        }
    }

    /// A key that was read, is not in the file, and differs from this one by a slip; none where the value
    /// is the one that key has by default.
    fn similar(&self, path: &str) -> Option<String> {
        const SHORTEST: usize = 5;
        const SLIPS: usize = 2;
        let (parent, key) = match path.rsplit_once('.') {
            Some((parent, key)) => (format!("{parent}."), key),
            None => (String::new(), path),
        };
        let log = self.log.borrow();
        let read: BTreeSet<&str> = log
            .read
            .iter()
            .filter_map(|read| read.strip_prefix(&parent))
            .filter(|read| !read.contains('.') && read.len() >= SHORTEST)
            .collect();
        let present = |read: &str| parent.is_empty() && self.object.contains_key(read);
        let at_default = |read: &str| {
            let usual = self.row.and_then(|row| row.defaults.get(read));
            let value = self.object.get(key);
            parent.is_empty() && usual.zip(value).is_some_and(|(a, b)| same(a, b))
        };
        let distance = |read: &&str| edit_distance(key, read);
        let candidates = read.into_iter().filter(|read| !present(read));
        let closest = candidates.min_by_key(distance)?;
        (distance(&closest) <= SLIPS && !at_default(closest)).then(|| closest.to_owned())
    }

    fn collect_unread_of(&self, inner: &Map<String, Value>, path: &str, unread: &mut Vec<String>) {
        let model_type = inner.get("model_type").and_then(Value::as_str);
        let row = model_type.and_then(defaults::row);
        let inner = row.map_or_else(|| inner.clone(), |row| canonical(inner.clone(), row));
        self.collect_unread(&inner, &format!("{path}."), row, unread);
    }

    fn collect_unread(
        &self,
        object: &Map<String, Value>,
        prefix: &str,
        row: Option<&Row>,
        unread: &mut Vec<String>,
    ) {
        let log = self.log.borrow();
        for (key, value) in object {
            let path = format!("{prefix}{key}");
            match value {
                Value::Object(inner) if log.opened.contains(&path) => {
                    self.collect_unread_of(inner, &path, unread);
                }
                Value::Array(list) if log.opened.contains(&format!("{path}.0")) => {
                    for (index, inner) in list.iter().enumerate() {
                        if let Value::Object(inner) = inner {
                            self.collect_unread_of(inner, &format!("{path}.{index}"), unread);
                        }
                    }
                }
                _ => {
                    let of_class = row.is_some_and(|row| row.defaults.contains_key(key));
                    if !log.read.contains(&path) && !ignorable::is(key, value, of_class) {
                        unread.push(path);
                    }
                }
            }
        }
    }
}

impl Unread {
    /// Takes the keys that the caller allows out of the open ones and returns them; the rest is an error.
    pub(crate) fn allow(&mut self, allowed: &[String]) -> Result<Vec<String>, SpecError> {
        let (said, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|key| allowed.contains(&key.path));
        if open.is_empty() {
            Ok(said.into_iter().map(|key| key.path).collect())
        } else {
            Err(SpecError::Unread { keys: open })
        }
    }
}
