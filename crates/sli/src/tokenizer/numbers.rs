//! Numbers of pieces that a vocabulary beside their model gives.

use std::collections::HashMap;

use ::tokenizers::Encoding;
use ::tokenizers::tokenizer::Tokenizer as Backend;

/// The library's ids of tokens that only stand around texts are this and their numbers.
pub const OUTSIDE: u32 = 1 << 30;

/// Numbers of pieces by what they are called.
#[derive(Debug)]
pub struct Numbers {
    /// The numbers.
    pub by_text: HashMap<String, u32>,
    /// Texts of added tokens by the library's ids: in a text they may have taken the space around them.
    pub added: HashMap<u32, String>,
    /// Those of what has none there.
    pub unlisted: Unlisted,
    /// Languages that may stand at the beginning of a text, and nowhere else.
    pub codes: Vec<String>,
    /// Texts that are to be said need a language that nobody named.
    pub lacks_target: bool,
}

/// The number of a text that a vocabulary does not have.
#[derive(Clone, Copy, Debug)]
pub enum Unlisted {
    /// One for all.
    Unknown(u32),
    /// The code point of its character.
    CodePoint,
}

/// The code point of a text of one character.
pub fn code_point(text: &str) -> Option<u32> {
    let mut characters = text.chars();
    let only = characters.next().filter(|_| characters.next().is_none());
    only.map(u32::from)
}

impl Numbers {
    /// The tokens of a text.
    pub fn of(&self, encoding: &Encoding) -> Vec<u32> {
        let tokens = encoding.get_ids().iter().zip(encoding.get_tokens());
        tokens.map(|(id, text)| self.number(*id, text)).collect()
    }

    /// The number of a token of the library's.
    pub fn number(&self, id: u32, text: &str) -> u32 {
        match id.checked_sub(OUTSIDE) {
            Some(number) => number,
            None => self.number_of(self.added.get(&id).map_or(text, String::as_str)),
        }
    }

    fn number_of(&self, text: &str) -> u32 {
        let listed = self.by_text.get(text).copied();
        listed.unwrap_or_else(|| match self.unlisted {
            Unlisted::Unknown(number) => number,
            Unlisted::CodePoint => code_point(text).unwrap_or_default(),
        })
    }

    /// These numbers, of a tokenizer that has added tokens.
    pub fn with_added(mut self, backend: &Backend) -> Self {
        let added = backend.get_added_tokens_decoder().into_iter();
        self.added = added.map(|(id, token)| (id, token.content)).collect();
        self
    }

    /// Whether they are code points.
    pub fn of_characters(&self) -> bool {
        matches!(self.unlisted, Unlisted::CodePoint)
    }

    /// What a number is called.
    pub fn text(&self, number: u32) -> Option<String> {
        if self.of_characters() {
            return char::from_u32(number).map(String::from);
        }
        let mut all = self.by_text.iter();
        all.find(|(_, of)| **of == number)
            .map(|(text, _)| text.clone())
    }

    /// Why a text is not read as the reference reads it: it takes whatever stands between `>>` and `<<` at the beginning of a
    /// text for a language, and elsewhere for text.
    pub fn refuses(&self, text: &str) -> Option<String> {
        if self.codes.is_empty() || !text.contains("<<") {
            return None;
        }
        if let Some(rest) = text.strip_prefix(">>")
            && let Some(end) = rest.find("<<")
        {
            let code = &text[..end + 4];
            if !self.codes.iter().any(|known| known == code) {
                return Some(format!(
                    "a text begins with the language `{code}`, which the vocabulary does not have"
                ));
            }
        }
        let elsewhere = |code: &&String| text.match_indices(code.as_str()).any(|(at, _)| at > 0);
        let inside = self.codes.iter().find(elsewhere)?;
        Some(format!(
            "a text has the language `{inside}` elsewhere than at its beginning"
        ))
    }
}
