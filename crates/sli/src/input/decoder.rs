//! What a record has for the decoder behind an encoder.

use super::error::InputError;
use super::place::Place;

/// What a record has for a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecoderContent {
    /// `decoder_text`: what the decoder is to say, for the tokenizer.
    Text(String),
    /// `decoder_input_ids`: what the decoder gets, as tokens.
    Ids(Vec<u32>),
}

impl DecoderContent {
    /// Of the two keys of a record, of which it has one at most.
    pub fn of(
        text: Option<String>,
        ids: Option<Vec<u32>>,
        place: &Place,
    ) -> Result<Option<Self>, InputError> {
        match (text, ids) {
            (Some(_), Some(_)) => {
                let problem = "the record has both `decoder_text` and `decoder_input_ids`";
                let hint = "keep the one that the decoder is to get";
                Err(InputError::record(place, problem).with_hint(hint))
            }
            (Some(text), None) => Ok(Some(Self::Text(text))),
            (None, Some(ids)) => Ok(Some(Self::Ids(ids))),
            (None, None) => Ok(None),
        }
    }

    /// The key that it is from.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Text(_) => "decoder_text",
            Self::Ids(_) => "decoder_input_ids",
        }
    }
}
