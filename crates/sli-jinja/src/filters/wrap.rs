//! Python's `textwrap.wrap`.

use crate::error::{Outcome, value_error};
use crate::text::{length, part};
use crate::unicode::{is_decimal, is_word};

fn is_blank(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

fn is_letter(c: char) -> bool {
    is_word(c) && !is_decimal(c)
}

fn is_punctuated(c: char) -> bool {
    is_word(c) || matches!(c, '!' | '"' | '\'' | '&' | '.' | ',' | '?')
}

/// Lines of a text of one paragraph.
pub(super) fn wrap(
    text: &str,
    width: i64,
    break_long_words: bool,
    break_on_hyphens: bool,
) -> Outcome<Vec<String>> {
    let mut chunks = if break_on_hyphens {
        chunks(text)
    } else {
        simple_chunks(text)
    };
    if width <= 0 {
        return value_error("a line must have a width");
    }
    let width = width as usize;
    chunks.reverse();
    let mut lines: Vec<String> = Vec::new();
    while let Some(next) = chunks.last() {
        if next.chars().all(is_blank) && !lines.is_empty() {
            chunks.pop();
            if chunks.is_empty() {
                break;
            }
        }
        let (mut line, mut taken) = (Vec::new(), 0);
        while let Some(chunk) = chunks.last() {
            let more = length(chunk);
            if taken + more > width {
                break;
            }
            taken += more;
            line.extend(chunks.pop());
        }
        if let Some(chunk) = chunks.last()
            && length(chunk) > width
        {
            break_long(
                &mut chunks,
                &mut line,
                taken,
                width,
                break_long_words,
                break_on_hyphens,
            );
        }
        if line.last().is_some_and(|chunk| chunk.chars().all(is_blank)) {
            line.pop();
        }
        if !line.is_empty() {
            lines.push(line.concat());
        }
    }
    Ok(lines)
}

fn break_long(
    chunks: &mut Vec<String>,
    line: &mut Vec<String>,
    taken: usize,
    width: usize,
    break_long_words: bool,
    break_on_hyphens: bool,
) {
    let room = if width < 1 { 1 } else { width - taken };
    let Some(chunk) = chunks.pop() else { return };
    if break_long_words {
        let mut end = room;
        if break_on_hyphens && length(&chunk) > room {
            let head = part(&chunk, 0, room);
            if let Some(hyphen) = head.rfind('-')
                && head[..hyphen].contains(|c| c != '-')
                && hyphen > 0
            {
                end = length(&head[..hyphen]) + 1;
            }
        }
        line.push(part(&chunk, 0, end).to_owned());
        chunks.push(part(&chunk, end, usize::MAX).to_owned());
    } else if line.is_empty() {
        line.push(chunk);
    } else {
        chunks.push(chunk);
    }
}

fn simple_chunks(text: &str) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    let mut blank = None;
    for c in text.chars() {
        if blank == Some(is_blank(c))
            && let Some(chunk) = chunks.last_mut()
        {
            chunk.push(c);
        } else {
            chunks.push(c.to_string());
        }
        blank = Some(is_blank(c));
    }
    chunks
}

/// White space, dashes between words, and words, which hyphens may end.
fn chunks(text: &str) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    let mut chunks = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let end = if is_blank(all[at]) {
            run_end(&all, at, is_blank)
        } else if let Some(end) = dash(&all, at) {
            end
        } else {
            word_end(&all, at)
        };
        chunks.push(all[at..end].iter().collect());
        at = end;
    }
    chunks
}

fn run_end(all: &[char], at: usize, is: impl Fn(char) -> bool) -> usize {
    all[at..]
        .iter()
        .position(|&c| !is(c))
        .map_or(all.len(), |length| at + length)
}

/// The end of two hyphens or more between words.
fn dash(all: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).and_then(|at| all.get(at))?;
    let end = run_end(all, at, |c| c == '-');
    let after = all.get(end).is_some_and(|&c| is_word(c));
    (is_punctuated(*before) && end >= at + 2 && after).then_some(end)
}

fn word_end(all: &[char], start: usize) -> usize {
    let get = |at: usize| all.get(at).copied();
    let letter = |at: Option<usize>| at.and_then(get).is_some_and(is_letter);
    for at in start + 1..=all.len() {
        if is_blank(all[at - 1]) {
            return at - 1;
        }
        // A hyphen after letters and before letters ends a part of a word.
        if get(at) == Some('-') {
            let after_two = letter(at.checked_sub(1)) && letter(at.checked_sub(2));
            let after_hyphen = at.checked_sub(1).and_then(get).is_some_and(is_punctuated)
                && at.checked_sub(2).and_then(get) == Some('-')
                && letter(at.checked_sub(3));
            let next = at + 1;
            let before_two = letter(Some(next))
                && (letter(Some(next + 1))
                    || (get(next + 1) == Some('-') && letter(Some(next + 2))));
            if (after_two || after_hyphen) && before_two {
                return at + 1;
            }
        }
        if get(at).is_none_or(is_blank) {
            return at;
        }
        if is_punctuated(all[at - 1]) {
            let end = run_end(all, at, |c| c == '-');
            if end >= at + 2 && get(end).is_some_and(is_word) {
                return at;
            }
        }
    }
    all.len()
}
