//! What `str.is..` says.

use crate::unicode::{
    is_alnum, is_alpha, is_cased, is_decimal, is_digit, is_lower, is_numeric, is_printable,
    is_space, is_title, is_upper,
};

/// The answer of a predicate; nothing if there is none of this name.
pub(super) fn answer(text: &str, name: &str) -> Option<bool> {
    let all = |is: fn(char) -> bool| !text.is_empty() && text.chars().all(is);
    Some(match name {
        "isalnum" => all(is_alnum),
        "isalpha" => all(is_alpha),
        "isascii" => text.is_ascii(),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isnumeric" => all(is_numeric),
        "isprintable" => text.chars().all(is_printable),
        "isspace" => all(is_space),
        "islower" => is_lower_text(text),
        "isupper" => is_upper_text(text),
        "istitle" => is_title_text(text),
        "isidentifier" => {
            let mut chars = text.chars();
            chars.next().is_some_and(|c| c == '_' || is_alpha(c))
                && chars.all(|c| c == '_' || is_alpha(c) || is_decimal(c))
        }
        _ => return None,
    })
}

/// `str.islower`.
pub(crate) fn is_lower_text(text: &str) -> bool {
    !text.chars().any(|c| is_upper(c) || is_title(c)) && text.chars().any(is_lower)
}

/// `str.isupper`.
pub(crate) fn is_upper_text(text: &str) -> bool {
    !text.chars().any(|c| is_lower(c) || is_title(c)) && text.chars().any(is_upper)
}

fn is_title_text(text: &str) -> bool {
    let (mut cased, mut inside) = (false, false);
    for c in text.chars() {
        if is_upper(c) || is_title(c) {
            if inside {
                return false;
            }
            (cased, inside) = (true, true);
        } else if is_lower(c) {
            if !inside {
                return false;
            }
            cased = true;
        } else {
            inside = is_cased(c);
        }
    }
    cased
}

#[cfg(test)]
mod tests {
    use super::{is_lower_text, is_title_text, is_upper_text};

    #[test]
    fn letters_of_a_title_are_neither_large_nor_small() {
        // U+01C5 is a letter of a title.
        for (text, upper, lower, title) in [
            ("USER", true, false, false),
            ("A", true, false, true),
            ("ÀÉ 1", true, false, false),
            ("user", false, true, false),
            ("User", false, false, true),
            ("\u{1c5}", false, false, true),
            ("A\u{1c5}", false, false, false),
            ("1", false, false, false),
            ("", false, false, false),
        ] {
            let found = (
                is_upper_text(text),
                is_lower_text(text),
                is_title_text(text),
            );
            assert_eq!(found, (upper, lower, title), "{text}");
        }
    }
}
