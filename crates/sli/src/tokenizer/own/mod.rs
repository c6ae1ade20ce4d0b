//! Classes that the reference runs as Python code, built here of the library's parts.
//!
//! Such a class takes nothing from a `tokenizer.json`, and of `tokenizer_config.json` what its constructor knows. What all of
//! them have in common is here: which files they need, which settings they read, their special tokens.

mod bytes;
mod characters;
mod list;
mod numbered;
mod parts;

use super::survey::Survey;

use bytes::{BYTE_CLASSES, ByteClass};
use numbered::{NUMBERED_CLASSES, NumberedClass};
use parts::{Broken, Builder};

/// A class.
#[derive(Clone, Copy, Debug)]
pub enum Own {
    /// Tokens are bytes.
    Bytes(&'static ByteClass),
    /// Tokens are characters.
    Characters,
    /// The entries of a list are found wherever they stand.
    List,
    /// A vocabulary numbers the pieces of a SentencePiece model.
    Numbered(&'static NumberedClass),
}

impl Own {
    /// The class of this name.
    pub fn find(name: &str) -> Option<Self> {
        let bytes = BYTE_CLASSES.iter().find(|class| class.name == name);
        let numbered = NUMBERED_CLASSES.iter().find(|class| class.name == name);
        let characters = (name == characters::NAME).then_some(Self::Characters);
        let list = (name == list::NAME).then_some(Self::List);
        bytes
            .map(Self::Bytes)
            .or_else(|| numbered.map(Self::Numbered))
            .or(characters)
            .or(list)
    }

    /// Keys of `tokenizer_config.json` that it reads.
    pub fn settings(self) -> Vec<&'static str> {
        let (own, tokens): (&[&str], Vec<_>) = match self {
            Self::Bytes(class) => (class.settings, class.tokens.to_vec()),
            Self::Characters => (&[], characters::TOKENS.to_vec()),
            Self::List => (&[], list::TOKENS.to_vec()),
            Self::Numbered(class) => (class.settings, class.tokens()),
        };
        let tokens = tokens.into_iter().map(|(name, _)| name);
        own.iter().copied().chain(tokens).collect()
    }

    /// The files that it needs; `said`: for texts that a decoder is to say.
    pub fn files(self, said: bool) -> Vec<&'static str> {
        match self {
            Self::Bytes(_) | Self::Characters => Vec::new(),
            Self::List => vec![list::FILE],
            Self::Numbered(class) => class.files(said).to_vec(),
        }
    }

    /// Whether texts that are to be said have a tokenizer of their own.
    pub fn has_two_sides(self) -> bool {
        self.files(false) != self.files(true)
    }

    /// Reads its files, in the order of [`Self::files`], and counts what they hold.
    pub fn read(self, files: &[Vec<u8>], survey: &mut Survey) -> Result<Builder, Broken> {
        match (self, files) {
            (Self::Bytes(class), []) => Ok(Box::new(|arguments| class.build(arguments))),
            (Self::Characters, []) => Ok(Box::new(characters::build)),
            (Self::List, [entries]) => list::read(entries, survey),
            (Self::Numbered(class), [model, vocabulary]) => class.read(model, vocabulary, survey),
            (Self::Bytes(_) | Self::Characters | Self::List | Self::Numbered(_), _) => {
                unreachable!("it gets the files that it asks for")
            }
        }
    }
}
