//! The JSON of a `config.json`, as Python reads and writes it.

use serde_json::Value;

use crate::error::SpecError;

/// The words of Python's `json` beyond the standard.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The value of a text. Of a key that stands twice the last one counts, as in Python.
pub(super) fn parse(text: &str) -> Result<Value, SpecError> {
    if text.starts_with('\u{feff}') {
        return Err(SpecError::ByteOrderMark);
    }
    serde_json::from_str(&quote_non_finite(text))
        .map_err(|error| SpecError::Syntax(error.to_string()))
}

/// A value as an error message shows it.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let mut text = value.to_string();
    for word in WORDS {
        text = text.replace(&format!("{{\"__float__\":\"{word}\"}}"), word);
    }
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}

/// Wraps the bare words `Infinity`, `-Infinity` and `NaN` outside strings as `{"__float__": ..}`.
pub fn quote_non_finite(text: &str) -> String {
    if !WORDS.iter().any(|word| text.contains(word)) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 64);
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|word| !in_string && rest.starts_with(**word));
        if let Some(word) = word {
            quoted.extend(["{\"__float__\": \"", word, "\"}"]);
            rest = &rest[word.len()..];
            continue;
        }
        let mut taken = first.len_utf8();
        match first {
            '"' => in_string = !in_string,
            '\\' if in_string => taken += rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        quoted.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    quoted
}
