//! The names of a file, without the wrappers within them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::NamingProblem;
use super::wrappers::is_number;
use crate::checkpoint::Checkpoint;

/// A change of the beginnings of names: `stored` in the file is `model` in the model. Other names
/// stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    pub stored: String,
    pub model: String,
}

impl Prefix {
    pub fn is_nothing(&self) -> bool {
        self.stored == self.model
    }

    /// The model's name of a stored one.
    fn applied<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match name.strip_prefix(self.stored.as_str()) {
            Some(rest) if self.model.is_empty() => Cow::Borrowed(rest),
            Some(rest) => Cow::Owned(format!("{}{rest}", self.model)),
            None => Cow::Borrowed(name),
        }
    }
}

/// Names of tensors in the order of the alphabet, each with its place in the checkpoint.
pub(super) struct StoredNames<'c> {
    names: Vec<(Cow<'c, str>, usize)>,
    dropped: BTreeSet<String>,
}

impl<'c> StoredNames<'c> {
    /// The names of the tensors to be considered, as `unwrap` leaves them.
    pub fn new<'w>(
        checkpoint: &'c Checkpoint,
        considered: impl Fn(&str) -> bool,
        unwrap: impl Fn(&'c str) -> (Cow<'c, str>, BTreeSet<&'w str>),
    ) -> Self {
        let mut dropped = BTreeSet::new();
        let mut names = Vec::new();
        for (at, tensor) in checkpoint.tensors().enumerate() {
            if considered(&tensor.name) {
                let (name, wrappers) = unwrap(&tensor.name);
                dropped.extend(wrappers.into_iter().map(str::to_owned));
                names.push((name, at));
            }
        }
        names.sort();
        Self { names, dropped }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The wrappers that were left out.
    pub fn dropped(&self) -> Vec<String> {
        self.dropped.iter().cloned().collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.names
            .binary_search_by(|(stored, _)| stored.as_ref().cmp(name))
            .is_ok()
    }

    /// Whether some tensor has this name after the change.
    pub fn has(&self, name: &str, prefix: &Prefix) -> bool {
        let changed = name.strip_prefix(prefix.model.as_str());
        if prefix.stored.is_empty() {
            return changed.is_some_and(|rest| self.contains(rest));
        }
        let changed = changed.map(|rest| format!("{}{rest}", prefix.stored));
        // Names that do not begin with the prefix stay as they are.
        changed.is_some_and(|name| self.contains(&name))
            || (!name.starts_with(prefix.stored.as_str()) && self.contains(name))
    }

    /// The changes that give an anchor a tensor, with something to take off: where a stored name ends as an anchor does, what is
    /// in front of the longest common end.
    pub fn prefixes(&self, anchors: &[(&str, usize)]) -> BTreeSet<Prefix> {
        let mut prefixes = BTreeSet::new();
        for &(anchor, least) in anchors {
            let Some(least) = anchor.get(anchor.len() - least..) else {
                continue;
            };
            for (name, _) in &self.names {
                let at_boundary = |front: &str| front.is_empty() || front.ends_with('.');
                if name
                    .strip_suffix(least)
                    .is_none_or(|front| !at_boundary(front))
                {
                    continue;
                }
                let common = common_end(name, anchor).max(least.len());
                let front = |text: &str| text.get(..text.len() - common).unwrap_or("").to_owned();
                let prefix = Prefix {
                    stored: front(name),
                    model: front(anchor),
                };
                if !prefix.stored.is_empty() && !prefix.is_nothing() {
                    prefixes.insert(prefix);
                }
            }
        }
        prefixes
    }

    /// Leaves out the part that follows the number in all names of layers, if it is the same in all
    /// and the model knows none of this name. Returns whether there was one.
    pub fn drop_layer_wrapper(&mut self, layer_word: &str, words: &BTreeSet<&str>) -> bool {
        fn place(name: &str, layer_word: &str) -> Option<usize> {
            let mut parts = name.split('.').enumerate().peekable();
            while let Some((at, part)) = parts.next() {
                let number = parts.peek().is_some_and(|(_, next)| is_number(next));
                if part == layer_word && number {
                    return Some(at + 2);
                }
            }
            None
        }
        let mut wrapper: Option<String> = None;
        for (name, _) in &self.names {
            let Some(place) = place(name, layer_word) else {
                continue;
            };
            let part = name.split('.').nth(place).unwrap_or_default();
            if words.contains(part) || wrapper.as_ref().is_some_and(|known| known != part) {
                return false;
            }
            wrapper.get_or_insert_with(|| part.to_owned());
        }
        let Some(wrapper) = wrapper else {
            return false;
        };
        for (name, _) in &mut self.names {
            if let Some(place) = place(name, layer_word) {
                let parts = name.split('.').enumerate();
                let kept = parts.filter(|(at, _)| *at != place).map(|(_, part)| part);
                *name = Cow::Owned(kept.collect::<Vec<_>>().join("."));
            }
        }
        self.names.sort();
        self.dropped.insert(wrapper);
        true
    }

    /// The new names of all tensors of the checkpoint.
    pub fn renamed(
        &self,
        checkpoint: &Checkpoint,
        prefix: &Prefix,
    ) -> Result<Vec<Box<str>>, NamingProblem> {
        let mut all: Vec<Option<Box<str>>> = vec![None; checkpoint.tensors().len()];
        for (name, at) in &self.names {
            if let Some(place) = all.get_mut(*at) {
                *place = Some(prefix.applied(name).into());
            }
        }
        let mut taken: Vec<(&str, usize)> = all
            .iter()
            .enumerate()
            .filter_map(|(at, name)| Some((name.as_deref()?, at)))
            .collect();
        taken.sort_unstable();
        for pair in taken.windows(2) {
            if let [(name, first), (again, second)] = pair
                && name == again
            {
                let stored = |at: &usize| {
                    let tensor = checkpoint.tensor_at(*at);
                    tensor.map_or_else(String::new, |tensor| tensor.name.to_string())
                };
                return Err(NamingProblem::Collision {
                    name: (*name).to_owned(),
                    first: stored(first),
                    second: stored(second),
                });
            }
        }
        let is_taken = |name: &str| {
            taken
                .binary_search_by(|(other, _)| (*other).cmp(name))
                .is_ok()
        };
        let left_out: Vec<Option<Box<str>>> = checkpoint
            .tensors()
            .zip(&all)
            .map(|(tensor, name)| match name {
                Some(_) => None,
                None if is_taken(&tensor.name) => {
                    Some(format!("{} (left out)", tensor.name).into())
                }
                None => Some(tensor.name.clone()),
            })
            .collect();
        let named = all.into_iter().zip(left_out);
        Ok(named.filter_map(|(name, other)| name.or(other)).collect())
    }
}

/// Bytes of the longest common end of two names that begins after a dot, or is one of them whole.
fn common_end(one: &str, other: &str) -> usize {
    let pairs = one.rsplit('.').zip(other.rsplit('.'));
    let common = pairs.take_while(|(one, other)| one == other);
    let bytes: usize = common.map(|(part, _)| part.len() + 1).sum();
    bytes.saturating_sub(1)
}
