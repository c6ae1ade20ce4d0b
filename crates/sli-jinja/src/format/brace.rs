//! `str.format` and `str.format_map`, as the sandbox runs them.

use super::{percent::ascii, spec};
use crate::access;
use crate::error::{Kind, Outcome, fail, value_error};
use crate::repr::{repr, to_str};
use crate::run::Run;
use crate::text::escape;
use crate::value::{Args, Dict, Value};

/// Where fields find their values.
struct Source<'a> {
    positional: &'a [Value],
    named: &'a Dict,
    /// What is put in is escaped.
    escaped: bool,
    /// The next number of fields without one; nothing once fields have numbers.
    next: Option<usize>,
}

/// `whole.format(..)`.
pub(crate) fn format(whole: &Value, args: &Args, run: &mut Run) -> Outcome<String> {
    let mut named = Dict::default();
    for (name, value) in &args.keyword {
        named.set_str(name, value.clone());
    }
    filled(whole, &args.positional, &named, run)
}

/// `whole.format_map(mapping)`.
pub(crate) fn format_map(whole: &Value, mapping: &Dict, run: &mut Run) -> Outcome<String> {
    filled(whole, &[], mapping, run)
}

fn filled(whole: &Value, positional: &[Value], named: &Dict, run: &mut Run) -> Outcome<String> {
    let mut source = Source {
        positional,
        named,
        escaped: matches!(whole, Value::Markup(_)),
        next: Some(0),
    };
    match whole.as_str() {
        Some(text) => expand(text, &mut source, 3, run),
        None => value_error("not a string"),
    }
}

fn expand(text: &str, source: &mut Source<'_>, depth: usize, run: &mut Run) -> Outcome<String> {
    if depth == 0 {
        return value_error("formats hold each other too deeply");
    }
    let mut output = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        output.push_str(&rest[..at]);
        let bracket = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(bracket) {
            output.push_str(bracket);
            rest = after;
            continue;
        }
        if bracket == "}" {
            return value_error("a single } stands in the format string");
        }
        let end = field_end(after)?;
        let text = field(&after[..end], source, depth, run)?;
        run.pay_bytes(text.len() + 1)?;
        output.push_str(&text);
        rest = &after[end + 1..];
    }
    output.push_str(rest);
    run.pay_bytes(output.len())?;
    Ok(output)
}

/// Where the bracket is that closes a field.
fn field_end(after: &str) -> Outcome<usize> {
    let mut depth = 1;
    let mut in_item = false;
    for (at, c) in after.char_indices() {
        match c {
            '[' if depth == 1 && !after[..at].contains([':', '!']) => in_item = true,
            ']' => in_item = false,
            '{' if !in_item => depth += 1,
            '}' if !in_item => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    value_error("a field of the format string has no end")
}

fn field(inner: &str, source: &mut Source<'_>, depth: usize, run: &mut Run) -> Outcome<String> {
    // Name, conversion, format; brackets may hold what parts them.
    let mut in_item = false;
    let parting = inner.char_indices().find(|&(_, c)| {
        match c {
            '[' => in_item = true,
            ']' => in_item = false,
            _ => {}
        }
        !in_item && matches!(c, ':' | '!')
    });
    let (name, after) = match parting {
        Some((at, _)) => inner.split_at(at),
        None => (inner, ""),
    };
    if name.contains('{') {
        return value_error("a name of the format string has a bracket");
    }
    let (conversion, spec) = match after.strip_prefix('!') {
        Some(after) => {
            let mut chars = after.chars();
            let Some(conversion) = chars.next() else {
                return value_error("a field of the format string lacks its conversion");
            };
            let rest = chars.as_str();
            match rest.strip_prefix(':') {
                Some(spec) => (Some(conversion), spec),
                None if rest.is_empty() => (Some(conversion), ""),
                None => return value_error("a conversion is followed by something else"),
            }
        }
        None => (None, after.strip_prefix(':').unwrap_or("")),
    };
    let value = value_of(name, source, run)?;
    let value = match conversion {
        None => value,
        Some('s') => Value::Str(to_str(&value, run)?),
        Some('r') => Value::from(repr(&value, run)?),
        Some('a') => Value::from(ascii(&repr(&value, run)?)),
        Some(conversion) => {
            return value_error(format!("unknown conversion `{conversion}`"));
        }
    };
    let spec = expand(spec, source, depth - 1, run)?;
    let text = spec::format(&value, &spec, run)?;
    Ok(if source.escaped && !matches!(value, Value::Markup(_)) {
        escape(&text).into_owned()
    } else {
        text
    })
}

fn value_of(name: &str, source: &mut Source<'_>, run: &mut Run) -> Outcome<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut rest) = name.split_at(end);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let index = if name.is_empty() {
        let Some(next) = &mut source.next else {
            return value_error("fields with numbers and without stand together");
        };
        *next += 1;
        Some(*next - 1)
    } else if is_number(first) {
        if is_number(name) {
            if source.next.is_some_and(|next| next > 0) {
                return value_error("fields with numbers and without stand together");
            }
            source.next = None;
        }
        Some(first.parse().unwrap_or(usize::MAX))
    } else {
        None
    };
    let found = match index {
        Some(index) => source.positional.get(index),
        None => source.named.get_str(first),
    };
    let Some(mut value) = found.cloned() else {
        return fail(Kind::Lookup, format!("the format string has no `{first}`"));
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return value_error("an attribute in the format string is empty");
            }
            value = access::attribute(&value, &after[..end], run)?;
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = after.find(']') else {
                return value_error("a [ in the format string has no end");
            };
            let key = &after[..end];
            if key.is_empty() {
                return value_error("an item in the format string is empty");
            }
            let key = match key.parse::<i64>() {
                Ok(index) if is_number(key) => Value::Int(index),
                _ => Value::str(key),
            };
            value = access::item(&value, &key, run)?;
            rest = &after[end + 1..];
        } else {
            return value_error("only . and [ may follow ] in the format string");
        }
    }
    Ok(value)
}
