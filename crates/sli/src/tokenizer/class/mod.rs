//! The reference's tokenizer classes that put their settings over `tokenizer.json`: one table.
//!
//! A class takes the vocabulary (and mostly the post-processor) from the file and builds everything else
//! anew. Each row says which settings decide which part; `docs/tokenizers.md` is written from it.

mod parts;
mod table;

use ::tokenizers::PostProcessorWrapper;
use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::{Map, Value};

use super::arguments::{Arguments, is_true};
use super::load::{Notes, Vocabulary};
use super::special_token::SpecialToken;

pub use parts::siglip2_normalizer;
pub use table::{CLASSES, REFUSED};

/// A class that builds its pipeline.
pub struct Class {
    /// Its name in the reference.
    pub name: &'static str,
    /// The file of its vocabulary where there is no `tokenizer.json`.
    pub vocabulary: Option<&'static str>,
    /// The file of its merges.
    pub merges: Option<&'static str>,
    /// The special tokens that it hands on, with what they are where no file names them.
    pub tokens: &'static [Token],
    /// Keys of `tokenizer_config.json` that it reads.
    pub settings: &'static [Setting],
    /// The kind of model that it builds.
    pub model: Model,
    /// Its normaliser.
    pub normalizer: Part,
    /// Its pre-tokeniser.
    pub pre_tokenizer: Part,
    /// The entries that it makes of those of a file.
    pub entries: Option<Entries>,
    /// A post-processor for the case that the file has none.
    pub before: Option<Step>,
    /// Special tokens beside those with a name.
    pub extra: Option<Step>,
    /// What it does when everything else is there: mostly, its post-processor.
    pub finish: Option<Step>,
    /// What the row's functions do, for the documentation.
    pub post_processor: &'static str,
}

/// A tokenizer under construction.
pub struct Build<'a> {
    /// The class, if it builds.
    pub class: Option<&'static Class>,
    /// Arguments of the constructor.
    pub arguments: &'a Arguments,
    /// What `tokenizer.json` says beside its pipeline.
    pub(super) notes: Notes,
    /// The map of characters of a SentencePiece model, as base64.
    pub(super) characters: Option<String>,
    /// The library's tokenizer.
    pub backend: Backend,
    /// Special tokens with a name.
    pub named: Vec<(String, Option<SpecialToken>)>,
    /// Special tokens without one.
    pub extra: Vec<SpecialToken>,
    /// `additional_special_tokens` of the constructor.
    pub additional: Option<Vec<SpecialToken>>,
    /// A text gets the token of its beginning.
    pub add_bos: bool,
    /// A text gets the token of its end.
    pub add_eos: bool,
    /// The post-processor follows from the two, not from a file.
    pub by_settings: bool,
    /// A text with this in it is not one text.
    pub divider: Option<String>,
    /// What is put around texts that a decoder is to say, where that is something else.
    pub of_labels: Option<PostProcessorWrapper>,
}

/// A special token of a class.
pub struct Token {
    /// `bos_token`, ...
    pub name: &'static str,
    /// Where no file names it.
    pub default: Option<&'static str>,
    /// It takes the space before it, if the file gives only its text.
    pub lstrip: bool,
}

/// A setting of a class.
pub struct Setting {
    /// Key of `tokenizer_config.json`.
    pub key: &'static str,
    /// As JSON, where the file does not have the key.
    pub default: &'static str,
    /// The part of the pipeline that it decides.
    pub part: &'static str,
}

/// Makes a part of the pipeline; null: none.
pub type Part = fn(&Settings) -> Result<Value, String>;

/// A step of a constructor.
pub type Step = fn(&mut Build) -> Result<(), String>;

/// Puts the entries of a file into the order of a class.
pub type Entries = fn(&Arguments, Vocabulary) -> Result<Vocabulary, String>;

/// A kind of model, with what the class says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Words in pieces, longest first.
    WordPiece,
    /// Pairs that are merged.
    Bpe {
        /// Whether it is told the unknown token.
        unknown: bool,
        /// End of a word.
        suffix: &'static str,
        /// Neighbouring unknown tokens are one.
        fuse: bool,
        /// Unknown characters are bytes.
        bytes: bool,
    },
    /// The likeliest pieces.
    Unigram(Unknown),
}

/// The id of the unknown token of a unigram model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// This one.
    Id(usize),
    /// That of the setting `unk_id`.
    Setting,
    /// That of the entry `unk_token` whose score is 0, else of the setting `unk_id`.
    ScoreZeroOrSetting,
    /// That of the entry `unk_token` whose score is 0, else this one.
    ScoreZeroOr(usize),
    /// That of the entry `unk_token` whose score is 0, not the first entry.
    ScoreZeroAfterFirst,
    /// That of the first entry `unk_token`, else this one.
    EntryOr(usize),
}

/// The settings of a class as a folder has them.
pub struct Settings<'a> {
    /// The class.
    pub class: &'a Class,
    /// Arguments of its constructor.
    pub values: &'a Map<String, Value>,
    /// The map of characters of the SentencePiece model, as base64.
    pub characters: Option<&'a str>,
}

impl Settings<'_> {
    /// A setting, or its default.
    pub fn value(&self, key: &str) -> Value {
        let setting = self
            .class
            .settings
            .iter()
            .find(|setting| setting.key == key);
        let given = self.values.get(key).filter(|_| setting.is_some()).cloned();
        let default = || serde_json::from_str(setting?.default).ok();
        given.or_else(default).unwrap_or(Value::Null)
    }

    /// A setting that the library wants to be true or false.
    pub fn flag(&self, key: &str) -> Result<bool, String> {
        self.value(key)
            .as_bool()
            .ok_or_else(|| format!("`{key}` is neither true nor false"))
    }

    /// A setting that the library wants to be true, false or null.
    pub fn flag_or_null(&self, key: &str) -> Result<Option<bool>, String> {
        match self.value(key) {
            Value::Null => Ok(None),
            _ => self.flag(key).map(Some),
        }
    }

    /// Whether Python takes a setting for true.
    pub fn truth(&self, key: &str) -> bool {
        is_true(&self.value(key))
    }

    /// A setting that is a number of entries.
    pub fn number(&self, key: &str) -> Result<usize, String> {
        let number = self
            .value(key)
            .as_u64()
            .and_then(|value| usize::try_from(value).ok());
        number.ok_or_else(|| format!("`{key}` is no number of tokens"))
    }
}

impl Class {
    /// Whether `tokenizer_config.json` may set something of it.
    pub fn reads(&self, key: &str) -> bool {
        self.settings.iter().any(|setting| setting.key == key)
    }

    /// Whether a SentencePiece model decides of which kind it is, which must be the class's.
    pub fn is_free(&self) -> bool {
        matches!(self.name, "BarthezTokenizer" | "CamembertTokenizer")
    }
}
