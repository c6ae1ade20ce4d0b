//! `NaN` and `Infinity` in JSON: Python's `json.dumps` writes them, though JSON has no such numbers.

use std::ops::Range;

/// The first such literal in a value of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// The key of the object whose value it is, or is in.
    pub key: String,
    /// Where that value stands in the text, with the space around it.
    pub value: Range<usize>,
    /// As it is written.
    pub literal: &'static str,
    /// It is the value itself.
    pub is_value: bool,
}

const LITERALS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// An object's text with zeros in place of such literals, and which of its values have them; `None` if there are none.
///
/// The text has the same length, so that a place in it is one in the original; a `NaN` of a key in `nulls` becomes
/// a null.
pub fn replaced(text: &str, nulls: &[&str]) -> Option<(String, Vec<NonFinite>)> {
    let mut found: Vec<NonFinite> = Vec::new();
    let mut replaced = String::with_capacity(text.len() + 1);
    let (mut depth, mut key, mut copied) = (0_usize, "", 0);
    let (mut last_string, mut at, mut start) = ("", 0, 0);
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(bytes, at + 1);
                last_string = text.get(at..end).unwrap_or_default();
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    end_value(&mut found, at);
                }
            }
            b':' if depth == 1 => (key, start) = (last_string, at + 1),
            b',' if depth == 1 => end_value(&mut found, at),
            b'N' | b'I' | b'-' => {
                let rest = text.get(at..).unwrap_or_default();
                if let Some(literal) = LITERALS
                    .into_iter()
                    .find(|&literal| rest.starts_with(literal))
                {
                    let key: String = serde_json::from_str(key).unwrap_or_default();
                    replaced.push_str(text.get(copied..at).unwrap_or_default());
                    if depth == 1 && literal == "NaN" && nulls.contains(&key.as_str()) {
                        replaced.push_str("null");
                    } else {
                        let zero = if byte == b'-' { "-0" } else { "0" };
                        replaced.push_str(zero);
                        // As long as what it stands for.
                        replaced.extend(std::iter::repeat_n(' ', literal.len() - zero.len()));
                        if found.last().is_none_or(|last| last.value.start != start) {
                            found.push(NonFinite {
                                key,
                                value: start..start,
                                literal,
                                is_value: depth == 1,
                            });
                        }
                    }
                    at += literal.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return None;
    }
    replaced.push_str(text.get(copied..).unwrap_or_default());
    Some((replaced, found))
}

/// Says where the value ends that the last literal is in.
fn end_value(found: &mut [NonFinite], at: usize) {
    if let Some(last) = found.last_mut().filter(|last| last.value.is_empty()) {
        last.value.end = at;
    }
}

/// The position after the quote that ends a string.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::{NonFinite, replaced};

    #[test]
    fn literals_outside_of_strings() {
        let text = r#"{"NaN": "a \"NaN", "s": [NaN, {"x": -Infinity}], "t":Infinity , "n": -5}"#;
        let (new, found) = replaced(text, &[]).unwrap();
        assert_eq!(
            new,
            r#"{"NaN": "a \"NaN", "s": [0  , {"x": -0       }], "t":0        , "n": -5}"#
        );
        let at = |key: &str, value: &str, text: &str, literal, is_value| {
            let start = text.find(value).unwrap();
            NonFinite {
                key: key.into(),
                value: start..start + value.len(),
                literal,
                is_value,
            }
        };
        assert_eq!(
            found,
            [
                at("s", r#" [NaN, {"x": -Infinity}]"#, text, "NaN", false),
                at("t", "Infinity ", text, "Infinity", true)
            ]
        );
        let text = r#"{"a": [{"b": [1, {}], "c": -Infinity}, "]},NaN"] }"#;
        let value = r#" [{"b": [1, {}], "c": -Infinity}, "]},NaN"] "#;
        let found = replaced(text, &[]).unwrap().1;
        assert_eq!(found, [at("a", value, text, "-Infinity", false)]);
        assert_eq!(replaced(r#"{"a": "NaN", "b": 1}"#, &[]), None);
        let text = r#"{"te\u0078t": NaN, "b": NaN}"#;
        let (new, found) = replaced(text, &["text"]).unwrap();
        assert_eq!(new, r#"{"te\u0078t": null, "b": 0  }"#);
        let b = NonFinite {
            key: "b".into(),
            value: 23..27,
            literal: "NaN",
            is_value: true,
        };
        assert_eq!(found, [b]);
        for odd in ["NaN", "{\"a\": NaN", "\"NaN", "{NaN}", "{\"a\\", "[}]]NaN"] {
            let _ = replaced(odd, &[]);
        }
    }
}
