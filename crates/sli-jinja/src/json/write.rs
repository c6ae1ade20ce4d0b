//! `json.dumps`, and the filter `tojson` as transformers defines it.

use std::fmt::Write;

use crate::arguments::text;
use crate::compare::{DEEPEST, sort};
use crate::error::{Kind, Outcome, fail, other, type_error, value_error};
use crate::iterate::collect;
use crate::repr;
use crate::run::Run;
use crate::value::{Args, Value};

/// Longest indentation or separator, bytes.
const LONGEST_SEPARATOR: usize = 64;

/// Spelling of the output.
struct Style {
    /// One level of indentation; nothing: one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
    ensure_ascii: bool,
}

/// `value|tojson(..)`.
pub(crate) fn filter(value: &Value, args: &Args, run: &mut Run) -> Outcome<String> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = args.bind("tojson", names, 0)?;
    let given = |value: Option<Value>| value.filter(|value| !value.is_none());
    let flag = |value: Option<Value>| value.map_or(Ok(false), |value| value.is_true());
    let indent = match given(indent) {
        None => None,
        Some(Value::Str(text) | Value::Markup(text)) => Some(text.to_string()),
        Some(width) => {
            let width = usize::try_from(width.to_i64("tojson")?).unwrap_or(0);
            if width > LONGEST_SEPARATOR {
                return too_long();
            }
            Some(" ".repeat(width))
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = match given(separators) {
        None => (comma.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let pair = collect(&pair, run)?;
            let Ok([item, key]) = <[Value; 2]>::try_from(pair) else {
                return value_error("tojson takes two separators");
            };
            let item = text(&item, "tojson")?.to_string();
            (item, text(&key, "tojson")?.to_string())
        }
    };
    let style = Style {
        indent,
        item_separator,
        key_separator,
        sort_keys: flag(sort_keys)?,
        ensure_ascii: flag(ascii)?,
    };
    let longest = [
        style.item_separator.len(),
        style.key_separator.len(),
        style.indent.as_ref().map_or(0, String::len),
    ];
    if longest.into_iter().any(|length| length > LONGEST_SEPARATOR) {
        return too_long();
    }
    let mut output = String::new();
    write_value(&mut output, value, &style, 0, run)?;
    Ok(output)
}

fn too_long<T>() -> Outcome<T> {
    other("tojson: an indentation or separator is too long")
}

fn write_value(
    output: &mut String,
    value: &Value,
    style: &Style,
    depth: usize,
    run: &mut Run,
) -> Outcome<()> {
    if depth > DEEPEST {
        return fail(Kind::Other, "values hold each other too deeply");
    }
    run.pay(1)?;
    match value {
        Value::Str(text) | Value::Markup(text) => {
            run.pay_bytes(text.len() * 2)?;
            write_string(output, text, style.ensure_ascii);
        }
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            output.push('[');
            for (at, item) in items.iter().enumerate() {
                begin_item(output, style, at, depth, run)?;
                write_value(output, item, style, depth + 1, run)?;
            }
            end_items(output, style, items.is_empty(), depth);
            output.push(']');
        }
        Value::Dict(dict) => {
            output.push('{');
            let mut entries: Vec<(Value, Value)> = dict.iter().cloned().collect();
            if style.sort_keys {
                sort(&mut entries, false)?;
            }
            for (at, (key, value)) in entries.iter().enumerate() {
                begin_item(output, style, at, depth, run)?;
                match key.as_str() {
                    Some(key) => write_string(output, key, style.ensure_ascii),
                    None => match scalar(key, run)? {
                        Some(key) => write_string(output, &key, style.ensure_ascii),
                        None => {
                            let name = key.type_name();
                            return type_error(format!("tojson: a `{name}` is no key"));
                        }
                    },
                }
                output.push_str(&style.key_separator);
                write_value(output, value, style, depth + 1, run)?;
            }
            end_items(output, style, dict.is_empty(), depth);
            output.push('}');
        }
        value => match scalar(value, run)? {
            Some(text) => output.push_str(&text),
            None => {
                let name = value.type_name();
                return type_error(format!("tojson: a `{name}` is no JSON"));
            }
        },
    }
    Ok(())
}

/// The text of a value that is neither string nor container.
fn scalar(value: &Value, run: &mut Run) -> Outcome<Option<String>> {
    Ok(Some(match value {
        Value::None => "null".into(),
        Value::Bool(value) => if *value { "true" } else { "false" }.into(),
        Value::Int(_) | Value::Big(_) => repr::repr(value, run)?,
        Value::Float(value) if value.is_nan() => "NaN".into(),
        Value::Float(value) if value.is_infinite() => if *value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into(),
        Value::Float(value) => repr::float(*value),
        _ => return Ok(None),
    }))
}

fn begin_item(
    output: &mut String,
    style: &Style,
    at: usize,
    depth: usize,
    run: &mut Run,
) -> Outcome<()> {
    if at > 0 {
        output.push_str(&style.item_separator);
    }
    if let Some(indent) = &style.indent {
        run.pay_bytes(indent.len() * (depth + 1))?;
        output.push('\n');
        output.push_str(&indent.repeat(depth + 1));
    }
    Ok(())
}

fn end_items(output: &mut String, style: &Style, empty: bool, depth: usize) {
    if let Some(indent) = &style.indent
        && !empty
    {
        output.push('\n');
        output.push_str(&indent.repeat(depth));
    }
}

fn write_string(output: &mut String, text: &str, ensure_ascii: bool) {
    output.push('"');
    for c in text.chars() {
        match c {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            '\r' => output.push_str("\\r"),
            '\t' => output.push_str("\\t"),
            '\u{8}' => output.push_str("\\b"),
            '\u{c}' => output.push_str("\\f"),
            '\0'..='\u{1f}' => push_escaped(output, c),
            '\u{7f}'.. if ensure_ascii => push_escaped(output, c),
            _ => output.push(c),
        }
    }
    output.push('"');
}

fn push_escaped(output: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(output, "\\u{unit:04x}");
    }
}
