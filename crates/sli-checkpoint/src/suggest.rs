//! Which patterns fit the tensors that nothing knows and no other.

use std::collections::BTreeMap;

/// What became of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// A weight of the model uses it.
    Used,
    /// Nothing needs it.
    Ignored,
    /// Nothing knows it.
    Unexpected,
}

/// Patterns for the unexpected ones of all names in order: their shortest beginnings, up to a dot, that
/// no used name has; what is alike in three layers or more is one pattern.
pub(crate) fn suggest(names: &[(&str, Status)]) -> Vec<String> {
    let before = shared_with_nearest(names.iter());
    let mut after = shared_with_nearest(names.iter().rev());
    after.reverse();
    let unexpected = names
        .iter()
        .filter(|(_, status)| *status == Status::Unexpected);
    let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (((name, _), before), after) in unexpected.zip(before).zip(after) {
        let parts: Vec<&str> = name.split('.').collect();
        let pattern = match parts.get(..=before.max(after)) {
            Some(own) if own.len() < parts.len() => format!("{}.*", own.join(".")),
            _ => (*name).to_owned(),
        };
        let each = alike.entry(without_numbers(&pattern)).or_default();
        if each.last() != Some(&pattern) {
            each.push(pattern);
        }
    }
    let merged = |(general, each): (String, Vec<String>)| match each.len() {
        0..=2 => each,
        _ => vec![general],
    };
    alike.into_iter().flat_map(merged).collect()
}

/// How many parts every unexpected name has in common with the last used one before it.
fn shared_with_nearest<'a>(names: impl Iterator<Item = &'a (&'a str, Status)>) -> Vec<usize> {
    let mut last = None;
    let mut shared = Vec::new();
    for &(name, status) in names {
        match status {
            Status::Used => last = Some(name),
            Status::Unexpected => shared.push(last.map_or(0, |used| shared_parts(used, name))),
            Status::Ignored => {}
        }
    }
    shared
}

/// How many parts between dots two names begin with in common.
fn shared_parts(one: &str, other: &str) -> usize {
    let pairs = one.split('.').zip(other.split('.'));
    pairs.take_while(|(one, other)| one == other).count()
}

/// The name with `*` for every part that is a number: alike in all layers.
pub fn without_numbers(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts = name.split('.');
    let parts: Vec<&str> = parts
        .map(|part| if is_number(part) { "*" } else { part })
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_suggested_that_fit_no_used_tensor() {
        let suggested = |names: &[(&'static str, Status)]| suggest(names);
        let used = |name| (name, Status::Used);
        let odd = |name| (name, Status::Unexpected);
        assert_eq!(
            suggested(&[
                used("model.layers.0.a.weight"),
                odd("model.layers.1.a.weight"),
                odd("model.layers.1.b.weight"),
                used("model.norm.weight"),
                odd("other.weight"),
                odd("single"),
            ]),
            ["model.layers.1.*", "other.*", "single"]
        );
        assert_eq!(
            suggested(&[
                used("h.0.a.weight"),
                odd("h.0.b.weight"),
                used("h.1.a.weight"),
                odd("h.1.b.weight"),
                used("h.2.a.weight"),
                odd("h.2.b.weight"),
            ]),
            ["h.*.b.*"]
        );
        assert_eq!(suggested(&[used("a.b"), odd("a.b.c")]), ["a.b.c"]);
    }
}
