//! Where tokens are in their text: first byte, and the one behind the last.
//!
//! The library counts in the text as it was given, whatever normalisation made of it; tokens that the
//! post-processor adds are at 0..0, as in the reference. Characters that became several tokens are the place of each
//! of these. A text that was tokenised in pieces gets what the whole would have: the space in front of a piece
//! belongs to its first token where it does so elsewhere.

use ::tokenizers::Encoding;
use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::Value;

use super::survey::MARK;

/// What byte-level tokenizers write for a space.
const BYTE_LEVEL_SPACE: char = '\u{120}';

/// Tokens and their places while they are collected from pieces.
#[derive(Debug, Default)]
pub struct Places {
    /// Whether the space before a word is part of its token.
    with_space: bool,
    pub offsets: Vec<[u32; 2]>,
}

impl Places {
    /// For the tokenizer `backend`, whose texts are cut at spaces between words.
    pub fn of(backend: &Backend) -> Self {
        let with_space = backend.encode("0 0", false).is_ok_and(|encoding| {
            let second = encoding.get_offsets().iter().find(|(_, end)| *end > 1);
            second.is_some_and(|(start, _)| *start < 2)
        });
        Self {
            with_space,
            offsets: Vec::new(),
        }
    }

    /// Adds `offsets`, those of a piece of the text. `space`: where the space in front of it is, if it is not the
    /// first.
    pub fn add(&mut self, encoding: &Encoding, offsets: Vec<[u32; 2]>, space: Option<usize>) {
        let first = self.offsets.len();
        self.offsets.extend(offsets);
        let (Some(space), Some(token)) = (space, encoding.get_tokens().first()) else {
            return;
        };
        let space = space as u32;
        let is_space = token.chars().eq([MARK]) || token.chars().eq([BYTE_LEVEL_SPACE]);
        if let Some([start, end]) = self.offsets.get_mut(first) {
            *start = if self.with_space { space } else { space + 1 };
            if is_space {
                *end = space + 1;
            }
        }
    }
}

/// Places that were counted in bytes, in a text that begins at byte `base` of another.
pub fn of_bytes(found: &[(usize, usize)], base: usize) -> Vec<[u32; 2]> {
    let place = |&(start, end): &(usize, usize)| [start, end].map(|at| (at + base) as u32);
    found.iter().map(place).collect()
}

/// The same of places that were counted in characters of `text`.
pub fn of_characters(found: &[(usize, usize)], text: &str, base: usize) -> Vec<[u32; 2]> {
    let starts = text.char_indices().map(|(at, _)| at as u32);
    let starts: Vec<u32> = starts.chain([text.len() as u32]).collect();
    let place = |&(start, end): &(usize, usize)| {
        [start, end].map(|at| starts.get(at).copied().unwrap_or(text.len() as u32) + base as u32)
    };
    found.iter().map(place).collect()
}

/// Bytes that a byte of a text takes more where the library keeps track of places, at most: 600 kB without a space
/// took 20 MB more than the tokens alone.
pub const PLACE_COST: u64 = 160;

/// Bytes that a byte of a text takes more where its characters are counted.
pub const CHARACTER_COST: u64 = 40;

/// Whether spaces are taken off the places of tokens by their number, as they are written in the tokens. Those can
/// have several bytes in the text: one that the tokenizer put in front of it (a place in the first character), a
/// `Ġ` of the text itself, what an added token takes with it.
pub fn trims_characters(backend: &Backend) -> bool {
    fn trims(processor: &Value) -> bool {
        let own = match processor["type"].as_str() {
            Some("ByteLevel" | "RobertaProcessing") => processor["trim_offsets"] != false,
            _ => false,
        };
        let parts = processor["processors"].as_array();
        own || parts.is_some_and(|parts| parts.iter().any(trims))
    }
    // A post-processor that cannot be looked at is taken for one that trims.
    let processor = serde_json::to_value(backend.get_post_processor());
    processor.map_or(true, |processor| trims(&processor))
}

/// Bytes of a text of which only the `kept` tokens may remain: from its beginning to the last of these, or from the
/// first of them to its end.
pub fn bytes_left(text: u32, kept: &[[u32; 2]], from_left: bool) -> u32 {
    let own = kept.iter().filter(|[start, end]| start < end);
    if from_left {
        let first = own.map(|[start, _]| *start).min();
        first.map_or(0, |start| text.saturating_sub(start))
    } else {
        own.map(|[_, end]| *end).max().unwrap_or(0)
    }
}
