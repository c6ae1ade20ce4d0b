//! Numbers and strings as templates spell them.

use num_bigint::BigInt;

use crate::error::{Outcome, other};
use crate::repr::write_escape;
use crate::token::TokenKind;

/// A number that stands at the beginning, and its length.
pub(crate) fn number(rest: &str, after_dot: bool) -> Outcome<Option<(TokenKind, usize)>> {
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(None);
    }
    if !after_dot && let Some(length) = float_length(rest) {
        let text = rest[..length].replace('_', "");
        let Ok(value) = text.parse::<f64>() else {
            return other(format!("`{text}` is no number"));
        };
        if value.is_infinite() {
            return other(format!("`{text}` is beyond any float"));
        }
        return Ok(Some((TokenKind::Float(value), length)));
    }
    let (radix, prefix) = match rest.as_bytes().get(1).map(u8::to_ascii_lowercase) {
        Some(b'b') if rest.starts_with('0') => (2, 2),
        Some(b'o') if rest.starts_with('0') => (8, 2),
        Some(b'x') if rest.starts_with('0') => (16, 2),
        _ => (10, 0),
    };
    if prefix > 0 {
        let length = grouped(&rest[prefix..], radix, true);
        if length > 0 {
            let digits = rest[prefix..prefix + length].replace('_', "");
            let value = BigInt::parse_bytes(digits.as_bytes(), radix).unwrap_or_default();
            return Ok(Some((TokenKind::Integer(value), prefix + length)));
        }
    }
    // A zero is followed by zeros only.
    let mut length = grouped(rest, 10, false);
    if rest.starts_with('0') {
        length = 1;
        loop {
            let after = &rest[length..];
            if after.starts_with('0') {
                length += 1;
            } else if after.starts_with("_0") {
                length += 2;
            } else {
                break;
            }
        }
    }
    let digits = rest[..length].replace('_', "");
    let value = BigInt::parse_bytes(digits.as_bytes(), 10).unwrap_or_default();
    Ok(Some((TokenKind::Integer(value), length)))
}

/// Length of digits that single underscores may part; `first`: one may stand in front too.
fn grouped(text: &str, radix: u32, first: bool) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .is_some_and(|&byte| (byte as char).is_digit(radix))
    };
    let mut at = 0;
    loop {
        if digit(at) {
            at += 1;
        } else if (at > 0 || first) && bytes.get(at) == Some(&b'_') && digit(at + 1) {
            at += 2;
        } else {
            return at;
        }
    }
}

fn float_length(rest: &str) -> Option<usize> {
    let whole = grouped(rest, 10, false);
    let mut at = whole;
    let mut is_float = false;
    if rest[at..].starts_with('.') {
        let fraction = grouped(&rest[at + 1..], 10, false);
        if fraction > 0 {
            at += 1 + fraction;
            is_float = true;
        }
    }
    let after = &rest[at..];
    if after.starts_with(['e', 'E']) {
        let sign = usize::from(after[1..].starts_with(['+', '-']));
        let exponent = grouped(&after[1 + sign..], 10, false);
        if exponent > 0 {
            at += 1 + sign + exponent;
            is_float = true;
        }
    }
    is_float.then_some(at)
}

/// Length of the string literal that stands here, with its quotes.
pub(crate) fn string_length(rest: &str) -> Option<usize> {
    let quote = rest.chars().next()?;
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// The text of a string literal: Python's `unicode-escape` over the literal's ASCII form.
pub(crate) fn unescape(inner: &str) -> Outcome<String> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some(kind) = chars.next() else {
            return other("a string ends with a backslash");
        };
        match kind {
            '\n' => {}
            '\\' | '\'' | '"' => text.push(kind),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\u{b}'),
            '0'..='7' => {
                let mut value = kind.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    value = value * 8 + digit;
                    chars.next();
                }
                text.push(char::from_u32(value).unwrap_or('\u{fffd}'));
            }
            'x' | 'u' | 'U' => {
                let digits = match kind {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let mut value = 0;
                for _ in 0..digits {
                    let Some(digit) = chars.next().and_then(|c| c.to_digit(16)) else {
                        return other(format!("a string has a truncated \\{kind} escape"));
                    };
                    value = value << 4 | digit;
                }
                match char::from_u32(value) {
                    Some(c) => text.push(c),
                    None => {
                        return other(format!("a string has U+{value:04X}, which is no character"));
                    }
                }
            }
            'N' => return other("a string names a character by \\N"),
            // The reference escapes other characters first, so the backslash meets their escape's.
            _ if !kind.is_ascii() => {
                text.push('\\');
                let mut escape = String::new();
                write_escape(&mut escape, kind);
                text.push_str(escape.trim_start_matches('\\'));
            }
            _ => {
                text.push('\\');
                text.push(kind);
            }
        }
    }
    Ok(text)
}
