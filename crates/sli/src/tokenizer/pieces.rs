//! Long texts in pieces whose tokens are those of the whole.
//!
//! The library's memory for a text is a hundred times the text, so a long one is cut where it provably
//! does not matter: before a space between two ASCII letters or digits, if
//!
//! - normalisation works character by character there (or on runs of spaces, and this one is alone),
//! - no added token has such a place inside, or takes the space after it,
//! - pre-tokenisation either ends a word there whatever surrounds it, or leaves the text whole for a
//!   BPE model none of whose entries goes on after the end of a word: then no merge ever crosses.
//!
//! What is not known to fulfil this is not cut; then the whole text counts against the budget.

use std::ops::Range;

use ::tokenizers::tokenizer::Tokenizer as Backend;
use ::tokenizers::{AddedToken, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper};
use serde_json::Value;

use super::survey::{MARK, Survey};

/// Bytes of a piece, where the text can be cut.
pub const PIECE_BYTES: usize = 32 << 10;

/// Bytes that a byte of a text takes at most while it becomes tokens: its alignments, its tokens.
const TEXT_COST: u64 = 150;
/// Bytes that a word of a text takes besides.
const WORD_COST: u64 = 300;

/// Memory that a text takes while it becomes tokens, bytes at most, if only runs of letters are sure to be
/// one word.
pub fn text_cost(text: &str) -> u64 {
    let mut words = 0;
    let mut in_word = false;
    for character in text.chars() {
        let letter = character.is_ascii_alphabetic();
        words += u64::from(!letter || !in_word);
        in_word = letter;
    }
    TEXT_COST * text.len() as u64 + WORD_COST * words
}

/// Alternatives of the usual patterns that split text into words. None matches a letter or digit with a
/// space after it, or looks behind; what they look ahead for is one character after white space.
const ALTERNATIVES: [&str; 33] = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    "'(?i:[sdmt]|ll|ve|re)",
    r" ?\p{L}+",
    r" ?\p{N}+",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"\p{N}",
    r"\p{N}+",
    r"\p{N}{1,3}",
    r"[0-9][0-9][0-9]",
    r"\s*[\r\n]",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
];

/// How a tokenizer's texts are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// The space belongs to no piece: the tokenizer puts one in front of each.
    drops_space: bool,
}

impl Cuts {
    /// How the texts of this tokenizer can be cut; `None`: not at all.
    pub fn of(backend: &Backend, survey: &Survey) -> Option<Self> {
        let part = |part: Result<Value, serde_json::Error>| part.ok();
        let normalizer = part(serde_json::to_value(backend.get_normalizer()))?;
        let words = part(serde_json::to_value(backend.get_pre_tokenizer()))?;
        let spaces = Spaces::after(&normalizer)?;
        let added = backend.get_added_tokens_decoder();
        let keeps_words = keeps_words(backend)?;
        if !keeps_words || !added.values().all(|token| is_harmless(token, spaces)) {
            return None;
        }
        let model = backend.get_model();
        let bpe = match model {
            ModelWrapper::BPE(bpe) => Some(bpe),
            ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => {
                None
            }
        };
        if bpe.is_some_and(|bpe| bpe.dropout.is_some_and(|dropout| dropout > 0.0)) {
            return None;
        }
        let ends_words = match words_end(&words, spaces)? {
            Words::End => true,
            Words::Marked => bpe.is_some_and(|bpe| {
                survey.has_mark
                    && !survey.crosses_words
                    && !bpe.ignore_merges
                    && bpe
                        .continuing_subword_prefix
                        .as_deref()
                        .unwrap_or("")
                        .is_empty()
                    && bpe.end_of_word_suffix.as_deref().unwrap_or("").is_empty()
            }),
            Words::GoOn => false,
        };
        ends_words.then_some(Self {
            drops_space: spaces == Spaces::MarkedAndPrepended,
        })
    }

    /// The pieces of a text, each of `size` bytes at most; a stretch without a place to cut is one.
    pub fn pieces(self, text: &str, size: usize) -> Vec<&str> {
        let mut pieces = Vec::with_capacity(text.len() / size + 1);
        let mut rest = text;
        while rest.len() > size {
            let bytes = rest.as_bytes();
            let near = last_cut(bytes, 1..size + 1);
            let Some(cut) = near.or_else(|| first_cut(bytes, size)) else {
                break;
            };
            let (piece, after) = rest.split_at(cut);
            pieces.push(piece);
            rest = if self.drops_space { &after[1..] } else { after };
        }
        pieces.push(rest);
        pieces
    }
}

fn is_cut(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b' '
        && bytes[at - 1].is_ascii_alphanumeric()
        && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric)
}

fn last_cut(bytes: &[u8], mut range: Range<usize>) -> Option<usize> {
    range.rfind(|&at| is_cut(bytes, at))
}

fn first_cut(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find(|&at| is_cut(bytes, at))
}

/// What normalisation makes of spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spaces {
    /// They stay.
    Kept,
    /// They become [`MARK`].
    Marked,
    /// They become [`MARK`], and each stretch of text gets one in front.
    MarkedAndPrepended,
}

impl Spaces {
    /// The outcome of a normaliser; `None` for one that is not known to work character by character.
    fn after(normalizer: &Value) -> Option<Self> {
        let steps = match normalizer["type"].as_str() {
            None if normalizer.is_null() => return Some(Self::Kept),
            Some("Sequence") => normalizer["normalizers"].as_array()?.iter().collect(),
            _ => vec![normalizer],
        };
        let mark = MARK.to_string();
        let mut spaces = Self::Kept;
        for (index, step) in steps.iter().enumerate() {
            let content = step["content"].as_str();
            match step["type"].as_str()? {
                "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Nmt"
                | "BertNormalizer" | "Precompiled" => {}
                "Strip" if step["strip_left"] == false => {}
                // Nothing may come between the two: it could act on the mark.
                "Prepend"
                    if index == 0
                        && step["prepend"] == mark.as_str()
                        && steps.len() == 2
                        && steps[1]["type"] == "Replace" =>
                {
                    spaces = Self::MarkedAndPrepended;
                }
                "Replace" => match (
                    step["pattern"]["String"].as_str(),
                    step["pattern"]["Regex"].as_str(),
                ) {
                    (Some(" "), None) if content == Some(&mark) => {
                        if spaces == Self::Kept {
                            spaces = Self::Marked;
                        }
                    }
                    (None, Some(" {2,}")) if content == Some(" ") || content == Some(&mark) => {}
                    _ => return None,
                },
                _ => return None,
            }
        }
        let replaces = steps.iter().any(|step| step["pattern"]["String"] == " ");
        (spaces != Self::MarkedAndPrepended || replaces).then_some(spaces)
    }
}

/// Whether a normaliser can make several characters of one.
pub fn takes_apart(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::NFKC(_)
        | NormalizerWrapper::NFKD(_)
        | NormalizerWrapper::Precompiled(_) => true,
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().any(takes_apart),
        _ => false,
    }
}

/// Whether normalisation leaves letters and digits letters and digits, and the spaces between them.
fn keeps_words(backend: &Backend) -> Option<bool> {
    let Some(normalizer) = backend.get_normalizer() else {
        return Some(true);
    };
    let characters = ('0'..='9').chain('A'..='Z').chain('a'..='z');
    let words: Vec<String> = characters.map(String::from).collect();
    let mut text = NormalizedString::from(words.join(" "));
    normalizer.normalize(&mut text).ok()?;
    let text = text.get();
    let found = text.strip_prefix(MARK).unwrap_or(text).split([MARK, ' ']);
    let same = found
        .zip(&words)
        .filter(|(found, word)| found.eq_ignore_ascii_case(word));
    Some(same.count() == words.len())
}

/// Whether an added token can have no part in a cut.
fn is_harmless(token: &AddedToken, spaces: Spaces) -> bool {
    let is_space = |character: char| character.is_whitespace() || character == MARK;
    let text = &token.content;
    let only_spaces = text.chars().all(is_space);
    if only_spaces {
        return !token.single_word;
    }
    let ends_word = text.chars().next_back().is_some_and(char::is_alphanumeric);
    let begins_word = text.chars().next().is_some_and(char::is_alphanumeric);
    let has_place = text.chars().any(is_space) || token.rstrip && ends_word;
    !(has_place || spaces == Spaces::MarkedAndPrepended && begins_word)
}

/// What pre-tokenisation makes of the end of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// It ends there, whatever surrounds it.
    End,
    /// The text goes on to the model, with [`MARK`] for the space.
    Marked,
    /// The text goes on with the space.
    GoOn,
}

/// `None` for a pre-tokeniser that is not known to decide from the characters at hand.
fn words_end(words: &Value, spaces: Spaces) -> Option<Words> {
    let marked = spaces != Spaces::Kept;
    let steps = match words["type"].as_str() {
        None if words.is_null() => Vec::new(),
        Some("Sequence") => words["pretokenizers"].as_array()?.iter().collect(),
        _ => vec![words],
    };
    let mut outcome = if marked { Words::Marked } else { Words::GoOn };
    for (index, step) in steps.iter().enumerate() {
        let last = index + 1 == steps.len();
        let (regex, string) = (
            step["pattern"]["Regex"].as_str(),
            step["pattern"]["String"].as_str(),
        );
        let behavior = step["behavior"].as_str();
        let ends = match step["type"].as_str()? {
            "Metaspace" if last => {
                if step["split"] == false {
                    let is_mark = step["replacement"]
                        .as_str()
                        .and_then(|mark| mark.chars().next())
                        == Some(MARK);
                    if outcome != Words::End {
                        outcome = if is_mark { Words::Marked } else { return None };
                    }
                    false
                } else {
                    true
                }
            }
            // Without spaces there is nothing for it to split at.
            "Split" if marked && string == Some(" ") => false,
            "Split" if marked && string.is_some_and(|mark| mark.chars().eq([MARK])) => {
                if behavior != Some("MergedWithNext") {
                    return None;
                }
                true
            }
            // The others act on spaces, which must still be there.
            _ if marked => return None,
            "WhitespaceSplit" | "Whitespace" | "BertPreTokenizer" => true,
            "Digits" | "Punctuation" => false,
            "ByteLevel" if last => step["use_regex"] != false,
            "Split" => {
                let keeps_matches = behavior == Some("Isolated")
                    || behavior == Some("Removed") && step["invert"] == true;
                let alternatives = alternatives(regex?);
                let known = |alternative: &&str| ALTERNATIVES.contains(alternative);
                if !keeps_matches || !alternatives.iter().all(known) {
                    return None;
                }
                alternatives.contains(&r"\s+")
            }
            _ => return None,
        };
        if ends {
            outcome = Words::End;
        }
    }
    Some(outcome)
}

/// The alternatives of a pattern: its parts between bars that are in no parenthesis or class.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut depth, mut class, mut escaped, mut start) = (0_usize, false, false, 0);
    let mut parts = Vec::new();
    for (at, character) in pattern.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' if class => class = false,
            _ if class => {}
            '[' => class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    parts
}
