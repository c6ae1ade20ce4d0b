//! Reads a `tokenizer.json` as a stream.
//!
//! The library's own reader first makes a tree of the whole file; vocabularies of 256,000 entries then take
//! hundreds of MiB. Here each part goes where it belongs as it is read. The result is the same tokenizer,
//! without the padding and truncation that the file may carry.

use std::fmt;
use std::io::Read;

use ::tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use ::tokenizers::models::unigram::Unigram;
use ::tokenizers::models::wordlevel::WordLevel;
use ::tokenizers::models::wordpiece::WordPiece;
use ::tokenizers::{
    AddedToken, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    tokenizer::Tokenizer as Backend,
};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::special_token::SpecialToken;

/// Words that a thread remembers; each takes 8 KiB at most.
pub const REMEMBERED_WORDS: usize = 512;

/// What a file says beside its pipeline.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The token that it pads with.
    pub pad_token: Option<String>,
    /// It cuts long texts at their beginning.
    pub truncates_left: Option<bool>,
    /// Its added tokens by id.
    pub added: Vec<(i64, SpecialToken)>,
}

/// A file in its parts, for a class that builds its own pipeline.
pub struct Parts {
    /// What is beside the pipeline.
    pub notes: Notes,
    /// The normaliser.
    pub normalizer: Value,
    /// The pre-tokeniser.
    pub pre_tokenizer: Value,
    /// The post-processor.
    pub post_processor: Value,
    /// What the model says beside its vocabulary.
    pub options: Map<String, Value>,
    /// The entries.
    pub vocabulary: Vocabulary,
    /// The pairs, if the model has any.
    pub merges: Option<Vec<(String, String)>>,
}

/// The entries of a vocabulary.
pub enum Vocabulary {
    /// By id.
    Ids(Vocab),
    /// With scores, in the order of their ids.
    Scores(Vec<(String, f64)>),
}

/// Reads a tokenizer.
pub fn load(reader: impl Read) -> Result<(Backend, Notes), String> {
    let file: File<Model> = read(reader)?;
    let notes = file.notes();
    let mut backend = Backend::new(file.model.0);
    backend
        .with_normalizer(file.normalizer)
        .map_err(|error| error.to_string())?
        .with_pre_tokenizer(file.pre_tokenizer)
        .with_post_processor(file.post_processor);
    let added = file.added_tokens.into_iter().map(|token| token.token);
    backend
        .add_tokens(added)
        .map_err(|error| error.to_string())?;
    Ok((backend, notes))
}

/// Reads a tokenizer's parts.
pub fn load_parts(reader: impl Read) -> Result<Parts, String> {
    let file: File<Entries> = read(reader)?;
    let notes = file.notes();
    let part = |part: Result<Value, serde_json::Error>| part.map_err(|error| error.to_string());
    Ok(Parts {
        notes,
        normalizer: part(serde_json::to_value(file.normalizer))?,
        pre_tokenizer: part(serde_json::to_value(file.pre_tokenizer))?,
        post_processor: part(serde_json::to_value(file.post_processor))?,
        options: file.model.options,
        vocabulary: file.model.vocabulary,
        merges: file.model.merges,
    })
}

fn read<M: for<'de> Deserialize<'de>>(reader: impl Read) -> Result<File<M>, String> {
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let file = File::<M>::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    if let Some(version) = file.version.as_deref().filter(|version| *version != "1.0") {
        return Err(format!("unknown version `{version}` of the format"));
    }
    Ok(file)
}

impl<M> File<M> {
    fn notes(&self) -> Notes {
        let padding = self
            .padding
            .as_ref()
            .and_then(|padding| padding.get("pad_token"));
        let truncation = self
            .truncation
            .as_ref()
            .and_then(|cut| cut.get("direction"));
        Notes {
            pad_token: padding.and_then(Value::as_str).map(str::to_owned),
            truncates_left: truncation.map(|direction| direction == "Left"),
            added: self.added_tokens.iter().map(Added::noted).collect(),
        }
    }
}

/// The parts of a `tokenizer.json` that decide which tokens a text becomes.
#[derive(Deserialize)]
#[serde(bound = "M: Deserialize<'de>")]
struct File<M> {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    truncation: Option<Value>,
    #[serde(default)]
    padding: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    model: M,
}

/// An added token; its id is that of the vocabulary, or the next one.
#[derive(Deserialize)]
struct Added {
    #[serde(default)]
    id: i64,
    #[serde(flatten)]
    token: AddedToken,
}

impl Added {
    fn noted(&self) -> (i64, SpecialToken) {
        let token = SpecialToken {
            content: self.token.content.clone(),
            single_word: self.token.single_word,
            lstrip: self.token.lstrip,
            rstrip: self.token.rstrip,
            normalized: Some(self.token.normalized),
            special: self.token.special,
        };
        (self.id, token)
    }
}

/// A model's entries and merges, whatever its kind.
struct Entries {
    options: Map<String, Value>,
    vocabulary: Vocabulary,
    merges: Option<Vec<(String, String)>>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tokenizer's model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let (mut options, mut vocabulary, mut merges) = (Map::new(), None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "vocab" => vocabulary = Some(map.next_value::<Vocabulary>()?),
                        "merges" => merges = Some(map.next_value::<Merges>()?.0),
                        _ => {
                            options.insert(key, map.next_value()?);
                        }
                    }
                }
                Ok(Entries {
                    options,
                    vocabulary: vocabulary.ok_or_else(|| A::Error::missing_field("vocab"))?,
                    merges,
                })
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabularyVisitor;

        impl<'de> Visitor<'de> for VocabularyVisitor {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary: entries with ids, or a list of entries with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vocabulary, A::Error> {
                Vocab::deserialize(MapAccessDeserializer::new(map)).map(Vocabulary::Ids)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vocabulary, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Vocabulary::Scores)
            }
        }

        deserializer.deserialize_any(VocabularyVisitor)
    }
}

/// A model whose vocabulary is read without a copy.
struct Model(ModelWrapper);

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModelVisitor;

        impl<'de> Visitor<'de> for ModelVisitor {
            type Value = Model;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tokenizer's model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
                let Some(first) = map.next_key::<String>()? else {
                    return Err(A::Error::custom("the model is empty"));
                };
                if first != "type" {
                    return untyped(first, map).map(Model);
                }
                let kind: String = map.next_value()?;
                let rest = MapAccessDeserializer::new(map);
                Ok(Model(match kind.as_str() {
                    "BPE" => rest.deserialize_map(BpeVisitor)?.into(),
                    "WordPiece" => WordPiece::deserialize(rest)?.into(),
                    "WordLevel" => WordLevel::deserialize(rest)?.into(),
                    "Unigram" => Unigram::deserialize(rest)?.into(),
                    other => {
                        let kinds = ["BPE", "WordPiece", "WordLevel", "Unigram"];
                        let problem = format_args!(
                            "unknown kind of model `{other}`, expected one of {kinds:?}"
                        );
                        return Err(A::Error::custom(problem));
                    }
                }))
            }
        }

        deserializer.deserialize_map(ModelVisitor)
    }
}

/// A model that does not begin with its type: old files, which the library tells apart by trying.
fn untyped<'de, A: MapAccess<'de>>(first: String, mut map: A) -> Result<ModelWrapper, A::Error> {
    let mut members = Map::new();
    members.insert(first, map.next_value()?);
    while let Some((key, value)) = map.next_entry::<String, Value>()? {
        members.insert(key, value);
    }
    serde_json::from_value(Value::Object(members)).map_err(A::Error::custom)
}

struct BpeVisitor;

impl<'de> Visitor<'de> for BpeVisitor {
    type Value = BPE;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a BPE model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BPE, A::Error> {
        let mut builder = BpeBuilder::new().cache_capacity(REMEMBERED_WORDS);
        let (mut vocabulary, mut merges) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "dropout" => {
                    if let Some(dropout) = map.next_value()? {
                        builder = builder.dropout(dropout);
                    }
                }
                "unk_token" => {
                    if let Some(token) = map.next_value()? {
                        builder = builder.unk_token(token);
                    }
                }
                "continuing_subword_prefix" => {
                    if let Some(prefix) = map.next_value()? {
                        builder = builder.continuing_subword_prefix(prefix);
                    }
                }
                "end_of_word_suffix" => {
                    if let Some(suffix) = map.next_value()? {
                        builder = builder.end_of_word_suffix(suffix);
                    }
                }
                "fuse_unk" => {
                    builder = builder.fuse_unk(map.next_value::<Option<bool>>()?.unwrap_or(false));
                }
                "byte_fallback" => {
                    builder =
                        builder.byte_fallback(map.next_value::<Option<bool>>()?.unwrap_or(false));
                }
                "ignore_merges" => {
                    builder =
                        builder.ignore_merges(map.next_value::<Option<bool>>()?.unwrap_or(false));
                }
                "vocab" => vocabulary = Some(map.next_value::<Vocab>()?),
                "merges" => merges = Some(map.next_value::<Merges>()?.0),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let vocabulary = vocabulary.ok_or_else(|| A::Error::missing_field("vocab"))?;
        let merges = merges.ok_or_else(|| A::Error::missing_field("merges"))?;
        let builder = builder.vocab_and_merges(vocabulary, merges);
        builder.build().map_err(A::Error::custom)
    }
}

/// Pairs of tokens: lists of two, in old files strings with a space between.
struct Merges(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergesVisitor;

        impl<'de> Visitor<'de> for MergesVisitor {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
                let mut merges = Vec::new();
                while let Some(Merge(pair)) = seq.next_element()? {
                    merges.extend(pair);
                }
                Ok(Merges(merges))
            }
        }

        deserializer.deserialize_seq(MergesVisitor)
    }
}

/// A merge; none where the line is the header of an old file.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;

        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: two tokens")
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Merge, E> {
                if line.starts_with("#version") {
                    return Ok(Merge(None));
                }
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => {
                        Ok(Merge(Some((left.to_owned(), right.to_owned()))))
                    }
                    _ => Err(E::custom(format_args!(
                        "`{line}` is not a merge of two tokens"
                    ))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Merge, A::Error> {
                let pair = <(String, String)>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Merge(Some(pair)))
            }
        }

        deserializer.deserialize_any(MergeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ::tokenizers::tokenizer::Tokenizer as Backend;

    use super::load;

    #[test]
    fn the_same_tokenizer_as_the_library_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers");
        let mut compared = 0;
        for entry in fs_err::read_dir(folder).unwrap() {
            let Ok(bytes) = fs_err::read(entry.unwrap().path().join("tokenizer.json")) else {
                continue;
            };
            let mut theirs = Backend::from_bytes(&bytes).unwrap();
            theirs.with_padding(None).with_truncation(None).unwrap();
            let (mut ours, _) = load(&bytes[..]).unwrap();
            ours.with_decoder(theirs.get_decoder().cloned());
            let text = |backend: &Backend| serde_json::to_string(backend).unwrap();
            assert!(text(&ours) == text(&theirs));
            compared += 1;
        }
        assert!(compared >= 7);
    }

    #[test]
    fn old_and_broken_files() {
        let model =
            |model: &str| load(format!(r#"{{"version": "1.0", "model": {model}}}"#).as_bytes());
        let vocabulary = r#""vocab": {"a": 0, "b": 1, "ab": 2}"#;
        let bpe = |merges: &str| {
            model(&format!(
                r#"{{"type": "BPE", {vocabulary}, "merges": {merges}}}"#
            ))
        };
        for merges in [
            r#"["a b"]"#,
            r#"["\u0023version: 0.2", "a b"]"#,
            r#"[["a", "b"]]"#,
        ] {
            let encoding = bpe(merges).unwrap().0.encode_fast("ab", false).unwrap();
            assert_eq!(encoding.get_ids(), [2], "{merges}");
        }
        let legacy = model(&format!(r#"{{{vocabulary}, "merges": ["a b"]}}"#)).unwrap();
        assert_eq!(legacy.0.encode_fast("ab", false).unwrap().get_ids(), [2]);
        for (result, says) in [
            (bpe(r#"["a"]"#), "`a` is not a merge"),
            (bpe(r#"["a b c"]"#), "`a b c` is not a merge"),
            (bpe(r#"["a c"]"#), "out of vocabulary"),
            (bpe("3"), "a list of merges"),
            (model(r#"{"type": "BPE", "merges": []}"#), "vocab"),
            (
                model(r#"{"type": "BytePair"}"#),
                "unknown kind of model `BytePair`",
            ),
            (model("{}"), "empty"),
            (
                load(
                    &br#"{"version": "2.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}"#
                        [..],
                ),
                "version `2.0`",
            ),
            (load(&b"{}"[..]), "model"),
            (load(&b"{} {}"[..]), "model"),
        ] {
            let error = result.map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
