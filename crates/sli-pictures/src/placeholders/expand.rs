//! A text with its placeholders expanded.

use thiserror::Error;

use super::rules::{Rule, Text};
use super::whole::Whole;
use crate::error::DescriptionError;
use crate::processor::Facts;

/// What stands for pictures in the texts of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Placeholders {
    /// What stands for one picture.
    pub(super) token: String,
    pub(super) rule: Rule,
    pub(super) whole: Whole,
    pub(super) kinds: Option<Kinds>,
}

/// Which tokens of a text are a picture's, where the model is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// The name of the tensor: 1 for a picture's tokens, 0 for others.
    pub name: &'static str,
    /// The tokens.
    pub tokens: Vec<String>,
}

/// A text that does not go with its pictures.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlaceholderError {
    /// As many placeholders as pictures are wanted.
    #[error("{found} `{token}` for {pictures} pictures")]
    Count {
        /// The placeholder.
        token: String,
        /// How often it is there.
        found: usize,
        /// How many pictures there are.
        pictures: usize,
    },
    /// One picture is read with a text.
    #[error("{0} pictures, and the model's processor reads one with a text")]
    Several(usize),
    /// A text that would be too long.
    #[error("the text of its pictures would have more than {0} bytes")]
    Long(usize),
}

impl Placeholders {
    /// What stands for one picture.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The token that stands in front of all tokens of a text with a picture, and how often.
    pub fn in_front(&self) -> Option<(&str, usize)> {
        match self.whole {
            Whole::Front { count } => Some((&self.token, count)),
            _ => None,
        }
    }

    /// Whether the tokenizer adds its special tokens, where the class decides it.
    pub fn special_tokens(&self) -> Option<bool> {
        self.whole.special_tokens()
    }

    /// Which tokens are a picture's, where the model is told.
    pub fn kinds(&self) -> Option<&Kinds> {
        self.kinds.as_ref()
    }

    /// Whether what becomes of a text begins with what becomes of its beginning.
    pub fn is_local(&self) -> bool {
        self.whole.is_local()
    }

    /// Whether a text without pictures becomes another, or has other special tokens.
    pub fn is_of_all_texts(&self) -> bool {
        self.whole.is_of_all()
    }

    /// Where the class says which tokens see a picture: those from this token on up to the next one, or to the second.
    pub fn sight(&self) -> Option<[&str; 2]> {
        match &self.whole {
            Whole::Interleaved { end, .. } => Some([&self.token, end]),
            _ => None,
        }
    }

    /// What becomes of a whole text whose placeholders, if it has any, are not expanded.
    pub fn around(&self, text: &str) -> String {
        self.whole.after(self.whole.before(text, &self.token, 0))
    }

    /// A text with its placeholders expanded, of at most `most` bytes.
    pub fn expand(
        &self,
        text: &str,
        pictures: &[Facts],
        most: usize,
    ) -> Result<String, PlaceholderError> {
        self.expand_some(text, pictures, |found| found == pictures.len(), most)
    }

    /// The beginning of a text, which may have the first of the pictures only.
    pub fn expand_front(
        &self,
        text: &str,
        pictures: &[Facts],
        most: usize,
    ) -> Result<String, PlaceholderError> {
        self.expand_some(text, pictures, |found| found <= pictures.len(), most)
    }

    fn expand_some(
        &self,
        text: &str,
        pictures: &[Facts],
        fits: impl FnOnce(usize) -> bool,
        most: usize,
    ) -> Result<String, PlaceholderError> {
        if let Whole::Front { .. } = self.whole {
            // All that stands for the picture is in front.
            return match pictures.len() {
                0 | 1 => Ok(text.to_owned()),
                several => Err(PlaceholderError::Several(several)),
            };
        }
        let text = self.whole.before(text, &self.token, pictures.len());
        let parts: Vec<&str> = text.split(&self.token).collect();
        let found = parts.len() - 1;
        if !fits(found) {
            return Err(PlaceholderError::Count {
                token: self.token.clone(),
                found,
                pictures: pictures.len(),
            });
        }
        let mut expanded = Text::new(most);
        for (at, part) in parts.iter().enumerate() {
            if let Some(facts) = at.checked_sub(1).and_then(|before| pictures.get(before)) {
                self.rule.write(facts, pictures, &mut expanded);
            }
            expanded.add(part);
        }
        let expanded = expanded.done().ok_or(PlaceholderError::Long(most))?;
        Ok(self.whole.after(expanded))
    }
}

/// A class that writes nothing else.
#[expect(clippy::unnecessary_wraps, reason = "what a reader of the table gives")]
pub fn made(token: String, rule: Rule) -> Result<Option<Placeholders>, DescriptionError> {
    Ok(Some(Placeholders {
        token,
        rule,
        whole: Whole::Same,
        kinds: None,
    }))
}
