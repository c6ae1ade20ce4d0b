//! What stands for the pictures of a record in its text.

use std::sync::Arc;

use sli_pictures::{Facts, Placeholders};

use crate::tokenizer::Tokenizer;

/// Longest text with its placeholders expanded, bytes.
const LONGEST: usize = 64 << 20;

/// Pictures of a record that are prepared, as its text knows them.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Without, none are prepared here, and only what stands around whole texts is written.
    pictures: Option<Arc<[Facts]>>,
    /// Without, pictures leave no trace in texts.
    placeholders: Option<Arc<Placeholders>>,
}

impl Seen {
    /// Of the pictures of a record.
    pub fn new(pictures: Vec<Facts>, placeholders: Option<Arc<Placeholders>>) -> Self {
        Self {
            pictures: Some(pictures.into()),
            placeholders,
        }
    }

    /// Of a record without pictures that are prepared here, where that makes a difference.
    pub fn around(placeholders: Option<&Arc<Placeholders>>) -> Option<Self> {
        let placeholders = placeholders.filter(|placeholders| placeholders.is_of_all_texts())?;
        Some(Self {
            pictures: None,
            placeholders: Some(placeholders.clone()),
        })
    }

    /// A text with all of the pictures in it.
    pub fn whole(&self, text: &str) -> Result<String, String> {
        self.expanded(text, false)
    }

    /// The beginning of a text, with the first of the pictures in it.
    pub fn front(&self, text: &str) -> Result<String, String> {
        self.expanded(text, true)
    }

    fn expanded(&self, text: &str, is_front: bool) -> Result<String, String> {
        let Some(placeholders) = &self.placeholders else {
            return Ok(text.to_owned());
        };
        let Some(pictures) = &self.pictures else {
            return Ok(placeholders.around(text));
        };
        let expanded = if is_front {
            placeholders.expand_front(text, pictures, LONGEST)
        } else {
            placeholders.expand(text, pictures, LONGEST)
        };
        expanded.map_err(|problem| problem.to_string())
    }

    /// Whether a text holds something that stands for a picture.
    pub fn is_in(&self, text: &str) -> bool {
        let placeholders = self.placeholders.as_ref();
        let placeholders = placeholders.filter(|_| self.pictures.is_some());
        placeholders.is_some_and(|placeholders| text.contains(placeholders.token()))
    }

    /// From which token on a picture is seen, and behind which none is, where the model's processor says that.
    pub fn sight(&self, tokenizer: &Tokenizer) -> Option<(u32, Option<u32>)> {
        let [token, end] = self.placeholders.as_ref()?.sight()?;
        Some((tokenizer.id(token)?, tokenizer.id(end)))
    }

    /// The token that stands in front of the tokens of a text, and how often.
    pub fn in_front(&self) -> Option<(&str, usize)> {
        self.pictures.as_ref()?;
        self.placeholders.as_ref()?.in_front()
    }

    /// Whether what becomes of a text begins with what becomes of its beginning.
    pub fn is_local(&self) -> bool {
        let placeholders = self.placeholders.as_ref();
        placeholders.is_none_or(|placeholders| placeholders.is_local())
    }

    /// Whether the tokenizer adds its special tokens, where the model's processor decides it.
    pub fn special_tokens(&self) -> Option<bool> {
        self.placeholders.as_ref()?.special_tokens()
    }

    /// How a text says where its pictures are.
    pub fn hint(&self) -> String {
        match &self.placeholders {
            Some(placeholders) if placeholders.in_front().is_some() => {
                "its picture stands in front of its text; texts of several pictures are several records".to_owned()
            }
            Some(placeholders) => format!(
                "every picture is one `{}` in the text, or a part {{\"type\": \"image\"}} of a message",
                placeholders.token()
            ),
            None => "remove the text".to_owned(),
        }
    }
}
