//! JSON as Python's `json.dumps(.., ensure_ascii=False)` writes it: chat templates print tools and
//! arguments with it, and models were trained on its spaces.

use std::fmt::Write;

use serde_json::Value;

/// Spelling of the output.
#[derive(Clone, Debug)]
pub struct Style {
    /// Text of one level of indentation; `None`: one line.
    pub indent: Option<String>,
    /// Between two items.
    pub item_separator: String,
    /// Between a key and its value.
    pub key_separator: String,
    /// Keys in order of their code points instead of the order given.
    pub sort_keys: bool,
    /// Characters beyond ASCII as `\uXXXX`.
    pub ensure_ascii: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            indent: None,
            item_separator: ", ".into(),
            key_separator: ": ".into(),
            sort_keys: false,
            ensure_ascii: false,
        }
    }
}

/// Writes a value.
pub fn dumps(value: &Value, style: &Style) -> String {
    let mut output = String::new();
    write_value(&mut output, value, style, 0);
    output
}

fn write_value(output: &mut String, value: &Value, style: &Style, depth: usize) {
    match value {
        Value::Null => output.push_str("null"),
        Value::Bool(value) => output.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => output.push_str(&float_repr(float)),
            None => output.push_str(&number.to_string()),
        },
        Value::String(text) => write_string(output, text, style.ensure_ascii),
        Value::Array(items) => {
            write_items(
                output,
                ['[', ']'],
                items.iter(),
                style,
                depth,
                |output, item| {
                    write_value(output, item, style, depth + 1);
                },
            );
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            if style.sort_keys {
                entries.sort_by_key(|(key, _)| *key);
            }
            write_items(
                output,
                ['{', '}'],
                entries.into_iter(),
                style,
                depth,
                |output, (key, item)| {
                    write_string(output, key, style.ensure_ascii);
                    output.push_str(&style.key_separator);
                    write_value(output, item, style, depth + 1);
                },
            );
        }
    }
}

fn write_items<T>(
    output: &mut String,
    [open, close]: [char; 2],
    items: impl ExactSizeIterator<Item = T>,
    style: &Style,
    depth: usize,
    mut write: impl FnMut(&mut String, T),
) {
    output.push(open);
    let empty = items.len() == 0;
    for (index, item) in items.enumerate() {
        if index > 0 {
            output.push_str(&style.item_separator);
        }
        new_line(output, style, depth + 1);
        write(output, item);
    }
    if !empty {
        new_line(output, style, depth);
    }
    output.push(close);
}

fn new_line(output: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = &style.indent {
        output.push('\n');
        for _ in 0..depth {
            output.push_str(indent);
        }
    }
}

fn write_string(output: &mut String, text: &str, ensure_ascii: bool) {
    output.push('"');
    for character in text.chars() {
        match character {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            '\r' => output.push_str("\\r"),
            '\t' => output.push_str("\\t"),
            '\u{8}' => output.push_str("\\b"),
            '\u{c}' => output.push_str("\\f"),
            '\0'..='\u{1f}' => push_escaped(output, character),
            '\u{7f}'.. if ensure_ascii && !character.is_ascii() => push_escaped(output, character),
            _ => output.push(character),
        }
    }
    output.push('"');
}

fn push_escaped(output: &mut String, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        let _ = write!(output, "\\u{unit:04x}");
    }
}

/// The shortest text that reads back as the number, in Python's spelling.
fn float_repr(value: f64) -> String {
    let exponent = format!("{value:e}");
    let Some((mantissa, exponent)) = exponent.split_once('e') else {
        return exponent;
    };
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&power) || value == 0.0 {
        let plain = format!("{value}");
        if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        }
    } else {
        let sign = if power < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", power.abs())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Style, dumps, float_repr};

    #[test]
    fn as_python_writes() {
        let value = json!({"b": [1, -2, 1.5, true, null], "a": {"é": "\"\\\n\u{1}\u{7f}😀/"}, "e": [], "o": {}});
        assert_eq!(
            dumps(&value, &Style::default()),
            "{\"b\": [1, -2, 1.5, true, null], \"a\": {\"é\": \"\\\"\\\\\\n\\u0001\u{7f}😀/\"}, \"e\": [], \"o\": {}}"
        );
        let style = Style {
            indent: Some("  ".into()),
            item_separator: ",".into(),
            sort_keys: true,
            ensure_ascii: true,
            ..Style::default()
        };
        assert_eq!(
            dumps(&json!({"b": [1, {}], "a": "é😀"}), &style),
            "{\n  \"a\": \"\\u00e9\\ud83d\\ude00\",\n  \"b\": [\n    1,\n    {}\n  ]\n}"
        );
    }

    #[test]
    fn floats_as_python_writes() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e300, "1.25e+300"),
            (123_456.789, "123456.789"),
        ] {
            assert_eq!(float_repr(value), expected);
        }
    }
}
