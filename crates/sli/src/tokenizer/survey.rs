//! What a `tokenizer.json` holds, counted before anything of it is kept.
//!
//! The file is read as a stream. From the counts follow the bytes that loading it takes and, for one
//! kind of model, whether its tokens ever reach over the end of a word (see [`super::pieces`]).

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

// What loading takes, measured with tokenizers of every kind (peaks of the process, glibc).
/// Bytes of an entry of the vocabulary: a place in the tables of both directions, two short strings.
const ENTRY: u64 = 205;
/// Bytes of a merge: its two strings until the table is built, and its place in it.
const MERGE: u64 = 150;
/// Bytes of a node of the tree of entries that a unigram model searches.
const NODE: u64 = 345;
/// Bytes of an added token, and of a byte of its text: a node of the automaton that finds it.
const ADDED: (u64, u64) = (700, 90);
/// Bytes of any other value of the file.
const VALUE: u64 = 200;
/// Bytes of a compiled pattern.
const PATTERN: u64 = 4 << 20;
/// Bytes of a string that cost nothing beside its entry.
const SHORT: u64 = 24;
/// One of so many nodes is remembered to count them.
const SAMPLING: u64 = 64;

/// Values and bytes of strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Numbers, strings, lists, ...
    pub values: u64,
    /// Bytes of strings, keys included.
    pub text: u64,
    /// Bytes of long strings beyond those that every entry may have.
    pub long_text: u64,
    /// Regular expressions.
    pub patterns: u64,
}

impl Count {
    fn text(&mut self, text: &str) {
        let bytes = text.len() as u64;
        self.values += 1;
        self.text += bytes;
        self.long_text += bytes.saturating_sub(SHORT);
        self.patterns += u64::from(text == "Regex");
    }
}

/// What a `tokenizer.json` holds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Entries of the vocabulary.
    pub vocabulary: Count,
    /// Merges of its pairs.
    pub merges: Count,
    /// Added tokens.
    pub added: Count,
    /// Everything else.
    pub other: Count,
    /// Some of the nodes of the tree of a unigram model's entries: hashes of the beginnings.
    nodes: HashSet<u64>,
    /// Some entry of the vocabulary has the mark of a word's beginning after a letter or digit.
    pub crosses_words: bool,
    /// The mark of a word's beginning is an entry of the vocabulary.
    pub has_mark: bool,
}

/// The mark of a word's beginning in vocabularies that write spaces so.
pub const MARK: char = '\u{2581}';

impl Survey {
    /// Memory that the tokenizer takes while it is loaded, bytes at most.
    pub fn bytes(&self) -> u64 {
        ENTRY * self.vocabulary.values
            + MERGE * self.merges.values
            + 2 * (self.vocabulary.long_text + self.merges.long_text)
            + NODE * SAMPLING * self.nodes.len() as u64
            + ADDED.0 * self.added.values
            + ADDED.1 * self.added.text
            + VALUE * self.other.values
            + 4 * self.other.long_text
            + PATTERN * self.other.patterns
    }

    /// Counts an entry of a vocabulary that is no `tokenizer.json`.
    pub fn count_entry(&mut self, entry: &str, unigram: bool) {
        self.vocabulary.text(entry);
        self.look_for_marks(entry);
        if unigram {
            self.grow(entry);
        }
    }

    /// Counts the merges of such a vocabulary.
    pub fn count_merges(&mut self, count: u64) {
        self.merges.values += count;
    }

    fn look_for_marks(&mut self, entry: &str) {
        self.crosses_words |= crosses_words(entry);
        self.has_mark |= entry.strip_prefix(MARK) == Some("");
    }

    /// Counts what an entry of a unigram model adds to the tree of entries.
    fn grow(&mut self, entry: &str) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in entry.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if mixed >> 58 == 0 {
                self.nodes.insert(hash);
            }
        }
    }
}

impl<'de> serde::Deserialize<'de> for Survey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct File;
        impl<'de> Visitor<'de> for File {
            type Value = Survey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tokenizer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Survey, A::Error> {
                let mut survey = Survey::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "model" => map.next_value_seed(Model(&mut survey))?,
                        "added_tokens" => map.next_value_seed(Items(&mut survey.added))?,
                        _ => map.next_value_seed(&mut survey.other)?,
                    }
                }
                Ok(survey)
            }
        }
        deserializer.deserialize_map(File)
    }
}

/// The model of a tokenizer.
struct Model<'a>(&'a mut Survey);

impl<'de> DeserializeSeed<'de> for Model<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Model<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tokenizer's model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "vocab" => map.next_value_seed(Vocabulary(self.0))?,
                "merges" => map.next_value_seed(Items(&mut self.0.merges))?,
                _ => map.next_value_seed(&mut self.0.other)?,
            }
        }
        Ok(())
    }
}

/// A vocabulary: entries to ids, or a list of entries with scores.
struct Vocabulary<'a>(&'a mut Survey);

impl<'de> DeserializeSeed<'de> for Vocabulary<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Vocabulary<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(entry) = map.next_key::<String>()? {
            self.0.vocabulary.text(&entry);
            self.0.look_for_marks(&entry);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some((entry, _)) = seq.next_element::<(String, IgnoredAny)>()? {
            self.0.vocabulary.text(&entry);
            self.0.look_for_marks(&entry);
            self.0.grow(&entry);
        }
        Ok(())
    }
}

/// Whether an entry goes on after the end of a word.
fn crosses_words(entry: &str) -> bool {
    let marks = entry.match_indices([MARK, ' ']);
    let mut before = marks.map(|(at, _)| entry[..at].chars().next_back());
    before.any(|before| before.is_some_and(char::is_alphanumeric))
}

/// A list whose items count as one each; the bytes of their strings are added up.
struct Items<'a>(&'a mut Count);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut item = Count::default();
        while seq.next_element_seed(&mut item)?.is_some() {
            let item = std::mem::take(&mut item);
            self.0.values += 1;
            self.0.text += item.text;
            self.0.long_text += item.long_text;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Count {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Count {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.values += 1;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.values += 1;
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.values += 1;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.values += 1;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.values += 1;
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.values += 1;
        while seq.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.values += 1;
        while map.next_key_seed(&mut *self)?.is_some() {
            map.next_value_seed(&mut *self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Survey};

    #[test]
    fn counts() {
        let text = r#"{
            "version": "1.0",
            "added_tokens": [{"id": 0, "content": "<s>"}],
            "normalizer": null,
            "model": {
                "type": "BPE",
                "vocab": {"a": 0, "▁": 1, "▁ab": 2},
                "merges": ["a b", ["c", "d"]]
            }
        }"#;
        let survey: Survey = serde_json::from_str(text).unwrap();
        let counts = |count: Count| (count.values, count.text);
        assert_eq!(counts(survey.vocabulary), (3, 9));
        assert_eq!(counts(survey.merges), (2, 5));
        assert_eq!(counts(survey.added), (1, 12));
        assert_eq!(counts(survey.other), (3, 6));
        assert!(survey.has_mark && !survey.crosses_words);
        for (entry, crosses) in [
            ("a▁b", true),
            ("a▁", true),
            ("9 a", true),
            ("▁▁", false),
            (".▁", false),
        ] {
            let text = format!(r#"{{"model": {{"vocab": {{"{entry}": 0}}}}}}"#);
            let survey: Survey = serde_json::from_str(&text).unwrap();
            assert_eq!(survey.crosses_words, crosses, "{entry}");
        }
    }

    #[test]
    fn nodes_of_a_tree() {
        let entries: Vec<_> = (0..20_000)
            .map(|n: u32| (format!("{:08x}", n.wrapping_mul(0x9e37_79b1)), -1.5))
            .collect();
        let prefixes: std::collections::HashSet<&str> = entries
            .iter()
            .flat_map(|(entry, _)| (1..=8).map(|end| &entry[..end]))
            .collect();
        let file = serde_json::json!({"model": {"vocab": entries}});
        let survey: Survey = serde_json::from_value(file).unwrap();
        assert_eq!(survey.vocabulary.values, 20_000);
        let found = survey.nodes.len() as f64 * super::SAMPLING as f64;
        let ratio = found / prefixes.len() as f64;
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
    }
}
