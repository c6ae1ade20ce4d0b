//! Python's `str` and `repr`.

use std::fmt::Write;

use crate::compare::DEEPEST;
use crate::error::{Kind, Outcome, fail};
use crate::run::Run;
use crate::unicode::is_printable;
use crate::value::{Value, View};

/// `str(value)`.
pub(crate) fn to_str(value: &Value, run: &mut Run) -> Outcome<std::rc::Rc<str>> {
    match value {
        Value::Str(text) | Value::Markup(text) => Ok(text.clone()),
        Value::Undefined(_) => Ok("".into()),
        value => Ok(repr(value, run)?.into()),
    }
}

/// `repr(value)`.
pub(crate) fn repr(value: &Value, run: &mut Run) -> Outcome<String> {
    let mut text = String::new();
    write_repr(&mut text, value, run, 0)?;
    Ok(text)
}

fn write_repr(text: &mut String, value: &Value, run: &mut Run, depth: usize) -> Outcome<()> {
    if depth > DEEPEST {
        return fail(Kind::Other, "values hold each other too deeply");
    }
    let before = text.len();
    match value {
        Value::Undefined(_) => text.push_str("Undefined"),
        Value::None => text.push_str("None"),
        Value::Bool(value) => text.push_str(if *value { "True" } else { "False" }),
        Value::Int(value) => _ = write!(text, "{value}"),
        Value::Big(value) => {
            run.pay_bytes(value.bits() as usize)?;
            if value.bits() > 14_280 {
                return fail(Kind::Value, "an integer has more than 4300 digits");
            }
            _ = write!(text, "{value}");
        }
        Value::Float(value) => text.push_str(&float(*value)),
        Value::Str(value) => write_str(text, value),
        Value::Markup(value) => {
            text.push_str("Markup(");
            write_str(text, value);
            text.push(')');
        }
        Value::Bytes(bytes) => write_bytes(text, bytes),
        Value::List(items) => {
            text.push('[');
            write_items(text, items.iter(), run, depth)?;
            text.push(']');
        }
        Value::Tuple(items) | Value::Group(items) => {
            text.push('(');
            write_items(text, items.iter(), run, depth)?;
            text.push_str(if items.len() == 1 { ",)" } else { ")" });
        }
        Value::Dict(dict) => {
            text.push('{');
            for (at, (key, value)) in dict.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                write_repr(text, key, run, depth + 1)?;
                text.push_str(": ");
                write_repr(text, value, run, depth + 1)?;
            }
            text.push('}');
        }
        Value::View(dict, view) => {
            let _ = write!(text, "{}([", value.type_name());
            for (at, (key, value)) in dict.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                match view {
                    View::Keys => write_repr(text, key, run, depth + 1)?,
                    View::Values => write_repr(text, value, run, depth + 1)?,
                    View::Items => {
                        text.push('(');
                        write_repr(text, key, run, depth + 1)?;
                        text.push_str(", ");
                        write_repr(text, value, run, depth + 1)?;
                        text.push(')');
                    }
                }
            }
            text.push_str("])");
        }
        Value::Range(range) => {
            let _ = write!(text, "range({}, {}", range.start, range.stop);
            if range.step != 1 {
                let _ = write!(text, ", {}", range.step);
            }
            text.push(')');
        }
        Value::Namespace(namespace) => {
            text.push_str("<Namespace ");
            let dict = Value::dict(namespace.borrow().clone());
            write_repr(text, &dict, run, depth + 1)?;
            text.push('>');
        }
        Value::Object(object) => text.push_str(&object.repr(run)?),
        Value::Iter(_) | Value::Method(_) => {
            return fail(
                Kind::Other,
                format!(
                    "a {} is printed with its place in memory",
                    value.type_name()
                ),
            );
        }
    }
    run.pay_bytes(text.len() - before)
}

fn write_items<'a>(
    text: &mut String,
    items: impl Iterator<Item = &'a Value>,
    run: &mut Run,
    depth: usize,
) -> Outcome<()> {
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        run.pay(1)?;
        write_repr(text, item, run, depth + 1)?;
    }
    Ok(())
}

/// The `repr` of a string.
pub(crate) fn write_str(text: &mut String, value: &str) {
    let quote = if value.contains('\'') && !value.contains('"') {
        '"'
    } else {
        '\''
    };
    text.push(quote);
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c == quote => {
                text.push('\\');
                text.push(c);
            }
            c if is_printable(c) => text.push(c),
            c => write_escape(text, c),
        }
    }
    text.push(quote);
}

/// A character by its number.
pub(crate) fn write_escape(text: &mut String, c: char) {
    let _ = match c as u32 {
        value @ ..=0xff => write!(text, "\\x{value:02x}"),
        value @ ..=0xffff => write!(text, "\\u{value:04x}"),
        value => write!(text, "\\U{value:08x}"),
    };
}

fn write_bytes(text: &mut String, bytes: &[u8]) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        b'"'
    } else {
        b'\''
    };
    text.push('b');
    text.push(quote as char);
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            byte if byte == quote => {
                text.push('\\');
                text.push(byte as char);
            }
            b' '..=b'~' => text.push(byte as char),
            byte => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text.push(quote as char);
}

/// `repr` of a float: the shortest text that reads back as the number.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
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
