//! What a template marks as said by the assistant, with `{% generation %}`.
//!
//! A copy of the template puts characters that nobody writes around what it marks. Its text without them must be
//! that of the template itself.

use std::ops::Range;

/// In front of what is marked, and behind it: of a plane for private use.
const BEGIN: char = '\u{f8f0b}';
const END: char = '\u{f8f0e}';

/// Puts the marks around a text.
pub fn mark(text: &str) -> String {
    format!("{BEGIN}{text}{END}")
}

/// The marked parts of `text`, from the same text with marks; an error says that it is another.
pub fn parts(marked: &str, text: &str) -> Result<Vec<Range<usize>>, String> {
    let (mut plain, mut parts) = (String::with_capacity(text.len()), Vec::new());
    let mut begun = Vec::new();
    for character in marked.chars() {
        match character {
            BEGIN => begun.push(plain.len()),
            END => parts.extend(begun.pop().map(|start| start..plain.len())),
            other => plain.push(other),
        }
    }
    if plain != text || !begun.is_empty() {
        return Err("the marks of `{% generation %}` change what the template renders".into());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::{mark, parts};

    #[test]
    fn marked_parts_are_found() {
        let marked = format!("a{}b{}", mark("\u{e9}c"), mark(""));
        assert_eq!(parts(&marked, "a\u{e9}cb"), Ok(vec![1..4, 5..5]));
        assert!(parts(&marked, "other").is_err());
    }
}
