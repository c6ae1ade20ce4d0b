//! Filters for HTML and addresses.

use std::fmt::Write;

use crate::arguments::text;
use crate::error::{Outcome, other, type_error, value_error};
use crate::iterate::{collect, is_iterable};
use crate::repr::to_str;
use crate::run::Run;
use crate::text::escape;
use crate::unicode::is_space;
use crate::value::{Args, Value};

pub(super) fn apply(name: &str, value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    if name == "xmlattr" {
        let [space] = args.bind(name, ["autospace"], 0)?;
        let space = space.map_or(Ok(true), |space| space.is_true())?;
        return attributes(value, space, run).map(Value::from);
    }
    if name == "urlize" {
        return other("the filter `urlize` is not supported");
    }
    args.only::<0>(name, 0)?;
    match name {
        "safe" => Ok(Value::Markup(to_str(value, run)?)),
        "urlencode" => url_encode(value, run).map(Value::from),
        "striptags" => {
            let text = to_str(value, run)?;
            strip_tags(&text).map(Value::from)
        }
        "forceescape" => escaped(&Value::Str(to_str(value, run)?), run),
        _ => escaped(value, run),
    }
}

fn escaped(value: &Value, run: &mut Run) -> Outcome<Value> {
    if let Value::Markup(_) = value {
        return Ok(value.clone());
    }
    let text = to_str(value, run)?;
    run.pay_bytes(text.len() * 6)?;
    Ok(Value::Markup(escape(&text).into()))
}

fn attributes(value: &Value, space: bool, run: &mut Run) -> Outcome<String> {
    let Value::Dict(dict) = value else {
        return type_error("xmlattr takes a mapping");
    };
    let mut all = String::new();
    for (key, value) in dict.iter() {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let name = text(key, "an attribute")?;
        let is_wrong = |c: char| matches!(c, ' ' | '\t'..='\r' | '/' | '>' | '=');
        if name.contains(is_wrong) {
            return value_error(format!("`{name}` is no name of an attribute"));
        }
        let Value::Markup(text) = escaped(value, run)? else {
            continue;
        };
        if space || !all.is_empty() {
            all.push(' ');
        }
        let _ = write!(all, "{}=\"{text}\"", escape(name));
    }
    Ok(all)
}

fn url_encode(value: &Value, run: &mut Run) -> Outcome<String> {
    let pairs = match value {
        Value::Dict(dict) => dict.iter().cloned().collect(),
        Value::Str(_) | Value::Markup(_) => Vec::new(),
        value if is_iterable(value) => {
            let mut pairs = Vec::new();
            for pair in collect(value, run)? {
                let pair = collect(&pair, run)?;
                let Ok([key, value]) = <[Value; 2]>::try_from(pair) else {
                    return value_error("urlencode takes pairs");
                };
                pairs.push((key, value));
            }
            pairs
        }
        _ => Vec::new(),
    };
    if pairs.is_empty()
        && !(matches!(value, Value::Dict(_)) || is_iterable(value) && value.as_str().is_none())
    {
        return quoted(value, false, run);
    }
    let mut query = String::new();
    for (at, (key, value)) in pairs.iter().enumerate() {
        if at > 0 {
            query.push('&');
        }
        query.push_str(&quoted(key, true, run)?);
        query.push('=');
        query.push_str(&quoted(value, true, run)?);
    }
    Ok(query)
}

fn quoted(value: &Value, query: bool, run: &mut Run) -> Outcome<String> {
    let bytes = match value {
        Value::Bytes(bytes) => bytes.to_vec(),
        value => to_str(value, run)?.as_bytes().to_vec(),
    };
    run.pay_bytes(bytes.len() * 3)?;
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                text.push(byte as char);
            }
            b'/' if !query => text.push('/'),
            b' ' if query => text.push('+'),
            byte => _ = write!(text, "%{byte:02X}"),
        }
    }
    Ok(text)
}

/// Without comments and tags, white space as single spaces, and character references replaced.
fn strip_tags(text: &str) -> Outcome<String> {
    let mut text = text.to_owned();
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let mut kept = String::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find(open) {
            let Some(end) = rest[start..].find(close) else {
                break;
            };
            kept.push_str(&rest[..start]);
            rest = &rest[start + end + close.len()..];
        }
        kept.push_str(rest);
        text = kept;
    }
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    unescaped(&words.join(" "))
}

fn unescaped(text: &str) -> Outcome<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let known = [
            ("amp;", '&'),
            ("lt;", '<'),
            ("gt;", '>'),
            ("quot;", '"'),
            ("#39;", '\''),
            ("#34;", '"'),
        ];
        if let Some((name, c)) = known.iter().find(|(name, _)| rest.starts_with(name)) {
            plain.push(*c);
            rest = &rest[name.len()..];
        } else if rest.starts_with(|c: char| c == '#' || c.is_ascii_alphabetic()) {
            return other("striptags: this character reference is not supported");
        } else {
            plain.push('&');
        }
    }
    plain.push_str(rest);
    Ok(plain)
}
