//! Characters as Python 3.11 sees them.

mod table;

use table::{FOLDS, RANGES, TITLES};

const ALPHA: u16 = 1;
const DECIMAL: u16 = 1 << 1;
const DIGIT: u16 = 1 << 2;
const NUMERIC: u16 = 1 << 3;
const LOWER: u16 = 1 << 4;
const UPPER: u16 = 1 << 5;
const TITLE: u16 = 1 << 6;
const SPACE: u16 = 1 << 7;
const PRINTABLE: u16 = 1 << 8;

fn flags(c: char) -> u16 {
    let after = RANGES.partition_point(|&(first, _)| first <= c as u32);
    after
        .checked_sub(1)
        .and_then(|at| RANGES.get(at))
        .map_or(0, |range| range.1)
}

/// `str.isspace` of a character.
pub(crate) fn is_space(c: char) -> bool {
    match c {
        '\t'..='\r' | '\u{1c}'..='\u{1f}' | ' ' => true,
        '\0'..='\u{7f}' => false,
        _ => flags(c) & SPACE != 0,
    }
}

/// `str.isprintable` of a character.
pub(crate) fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{7f}' => false,
        _ => flags(c) & PRINTABLE != 0,
    }
}

/// `str.isalpha` of a character.
pub(crate) fn is_alpha(c: char) -> bool {
    flags(c) & ALPHA != 0
}

/// `str.isdecimal` of a character.
pub(crate) fn is_decimal(c: char) -> bool {
    flags(c) & DECIMAL != 0
}

/// `str.isdigit` of a character.
pub(crate) fn is_digit(c: char) -> bool {
    flags(c) & DIGIT != 0
}

/// `str.isnumeric` of a character.
pub(crate) fn is_numeric(c: char) -> bool {
    flags(c) & NUMERIC != 0
}

/// `str.isalnum` of a character.
pub(crate) fn is_alnum(c: char) -> bool {
    flags(c) & (ALPHA | DECIMAL | DIGIT | NUMERIC) != 0
}

/// What `\w` matches.
pub(crate) fn is_word(c: char) -> bool {
    c == '_' || is_alnum(c)
}

/// A small letter.
pub(crate) fn is_lower(c: char) -> bool {
    flags(c) & LOWER != 0
}

/// A capital letter.
pub(crate) fn is_upper(c: char) -> bool {
    flags(c) & UPPER != 0
}

/// A letter of a title that is neither.
pub(crate) fn is_title(c: char) -> bool {
    flags(c) & TITLE != 0
}

/// A letter with a case.
pub(crate) fn is_cased(c: char) -> bool {
    flags(c) & (LOWER | UPPER | TITLE) != 0
}

/// The value of a decimal digit of any script.
pub(crate) fn decimal_value(c: char) -> Option<u32> {
    if let Some(value) = c.to_digit(10) {
        return Some(value);
    }
    if !is_decimal(c) {
        return None;
    }
    // Digits of a script stand together, from 0 to 9; some runs hold several scripts.
    let mut first = c as u32;
    while char::from_u32(first - 1).is_some_and(is_decimal) {
        first -= 1;
    }
    Some((c as u32 - first) % 10)
}

/// `str.lower`.
pub(crate) fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// `str.upper`.
pub(crate) fn upper(text: &str) -> String {
    text.to_uppercase()
}

/// `str.casefold`.
pub(crate) fn casefold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match FOLDS.binary_search_by_key(&c, |fold| fold.0) {
            Ok(at) => folded.push_str(FOLDS[at].1),
            Err(_) => folded.extend(c.to_lowercase()),
        }
    }
    folded
}

fn push_title(text: &mut String, c: char) {
    match TITLES.binary_search_by_key(&c, |title| title.0) {
        Ok(at) => text.push_str(TITLES[at].1),
        Err(_) => text.extend(c.to_uppercase()),
    }
}

/// `str.title`.
pub(crate) fn title(text: &str) -> String {
    let small = lower_each(text);
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for (c, small) in text.chars().zip(small) {
        if inside {
            titled.push_str(&small);
        } else {
            push_title(&mut titled, c);
        }
        inside = is_cased(c);
    }
    titled
}

/// `str.capitalize`.
pub(crate) fn capitalize(text: &str) -> String {
    let mut capital = String::with_capacity(text.len());
    for (at, (c, small)) in text.chars().zip(lower_each(text)).enumerate() {
        if at == 0 {
            push_title(&mut capital, c);
        } else {
            capital.push_str(&small);
        }
    }
    capital
}

/// `str.swapcase`.
pub(crate) fn swapcase(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for (c, small) in text.chars().zip(lower_each(text)) {
        if is_upper(c) {
            swapped.push_str(&small);
        } else if is_lower(c) {
            swapped.extend(c.to_uppercase());
        } else {
            swapped.push(c);
        }
    }
    swapped
}

/// The small form of each character, with the sigma at the end of a word.
fn lower_each(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len()).map(move |at| {
        let c = chars[at];
        if c != 'Σ' {
            return c.to_lowercase().collect();
        }
        let ignorable = |c: &&char| {
            matches!(
                **c,
                '\'' | '.' | ':' | '^' | '`' | '\u{ad}' | '\u{b7}' | '\u{300}'
                    ..='\u{36f}' | '\u{2019}'
            )
        };
        let before = chars[..at].iter().rev().find(|c| !ignorable(c));
        let after = chars[at + 1..].iter().find(|c| !ignorable(c));
        let last = before.is_some_and(|&c| is_cased(c)) && !after.is_some_and(|&c| is_cased(c));
        if last { "ς".into() } else { "σ".into() }
    })
}
