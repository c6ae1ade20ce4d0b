//! `labels` of a record: those of its tokens, or something else under the same name.

use serde_json::value::RawValue;

/// A list under `labels`. A single value is the class of a classifier, which is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Integers.
    Integers(Vec<i64>),
    /// A list that holds something else.
    Other {
        /// Its length.
        length: usize,
        /// Where the first of what is no integer is.
        at: usize,
        /// What is there.
        found: Found,
    },
}

/// What is in a list in place of an integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A list.
    List,
    /// Anything else, in words.
    Other(String),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::List => "a list",
            Self::Other(what) => what,
        })
    }
}

impl Found {
    /// From JSON text.
    pub fn of(text: &str) -> Self {
        Self::Other(match text.as_bytes().first() {
            Some(b'[') => return Self::List,
            Some(b'{') => "an object".into(),
            Some(b'"') => "a string".into(),
            _ => text.to_owned(),
        })
    }
}

impl Labels {
    /// From JSON text; `None` if it is no list.
    pub fn of(text: &str) -> Option<Self> {
        let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let mut labels = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match item.get().parse() {
                Ok(label) => labels.push(label),
                Err(_) => {
                    return Some(Self::Other {
                        length: items.len(),
                        at,
                        found: Found::of(item.get()),
                    });
                }
            }
        }
        Some(Self::Integers(labels))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Integers(labels) => labels.len(),
            Self::Other { length, .. } => *length,
        }
    }

    /// Keeps the first `kept`.
    pub fn truncate(&mut self, kept: usize) {
        match self {
            Self::Integers(labels) => labels.truncate(kept),
            Self::Other { length, .. } => *length = kept.min(*length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn lists_are_told_from_values() {
        assert_eq!(
            Labels::of("[-100, 5,6 ]"),
            Some(Labels::Integers(vec![-100, 5, 6]))
        );
        assert_eq!(Labels::of("[]"), Some(Labels::Integers(Vec::new())));
        for none in ["3", "\"[1]\"", "{\"a\": [1]}", "null", "1.5"] {
            assert_eq!(Labels::of(none), None);
        }
        for (text, says) in [
            ("[-100.0, 6]", "-100.0"),
            ("[5, null]", "null"),
            ("[5, true]", "true"),
            ("[5, [6]]", "a list"),
            ("[{}, 5]", "an object"),
            ("[\"B-PER\"]", "a string"),
            ("[1, 99999999999999999999]", "99999999999999999999"),
        ] {
            let Some(Labels::Other { found, length, .. }) = Labels::of(text) else {
                panic!("{text}");
            };
            assert_eq!(
                (found.to_string(), length),
                (says.into(), text.split(',').count())
            );
        }
    }
}
