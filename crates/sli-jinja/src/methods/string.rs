//! Methods of strings.

use super::{bytes, predicates, search, split};
use crate::arguments::{int_or, text, wrong_type};
use crate::error::{Outcome, other, type_error, value_error};
use crate::format::brace;
use crate::iterate::iterate;
use crate::run::Run;
use crate::text::{escape, length};
use crate::unicode;
use crate::value::{Args, Dict, Iterate, Value};

/// Calls a method of `value`, whose text is `whole`.
pub(super) fn call(
    value: &Value,
    whole: &str,
    name: &str,
    args: &Args,
    run: &mut Run,
) -> Outcome<Value> {
    run.pay_bytes(whole.len())?;
    if let Some(answer) = predicates::answer(whole, name) {
        args.none(name)?;
        return Ok(Value::Bool(answer));
    }
    let changed: fn(&str) -> String = match name {
        "capitalize" => unicode::capitalize,
        "casefold" => unicode::casefold,
        "lower" => unicode::lower,
        "swapcase" => unicode::swapcase,
        "title" => unicode::title,
        "upper" => unicode::upper,
        _ => return call_with(value, whole, name, args, run),
    };
    args.none(name)?;
    Ok(value.like(changed(whole)))
}

fn call_with(value: &Value, whole: &str, name: &str, args: &Args, run: &mut Run) -> Outcome<Value> {
    match name {
        "find" | "rfind" | "index" | "rindex" | "count" => search::find(whole, name, args, run),
        "startswith" | "endswith" => search::at_end(whole, name, args),
        "partition" | "rpartition" => search::partition(value, whole, name, args),
        "split" | "rsplit" => split::split(value, whole, name, args, run),
        "splitlines" => split::split_lines(value, whole, args),
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.only(name, 0)?;
            Ok(value.like(split::strip(whole, name, chars.as_ref())?))
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.only(name, 1)?;
            let part = part.unwrap_or(Value::None);
            let part = text(&part, name)?;
            let rest = if name == "removeprefix" {
                whole.strip_prefix(&**part)
            } else {
                whole.strip_suffix(&**part)
            };
            Ok(value.like(rest.unwrap_or(whole)))
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = args.only(name, 1)?;
            let width = width.unwrap_or(Value::None).to_i64(name)?;
            let fill = match &fill {
                Some(fill) => {
                    let fill = text(fill, name)?;
                    let mut chars = fill.chars();
                    match (chars.next(), chars.next()) {
                        (Some(fill), None) => fill,
                        _ => return type_error("the fill must be one character"),
                    }
                }
                None => ' ',
            };
            padded(value, whole, name, width, fill, run)
        }
        "zfill" => {
            let [width] = args.only(name, 1)?;
            let width = width.unwrap_or(Value::None).to_i64(name)?;
            let zeros = missing(whole, width, run)?;
            let at = usize::from(whole.starts_with(['+', '-']));
            let (sign, digits) = whole.split_at(at);
            Ok(value.like(format!("{sign}{}{digits}", "0".repeat(zeros))))
        }
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"], 0)?;
            let size = int_or(size.as_ref(), 8, name)?;
            expand_tabs(whole, size, run).map(|text| value.like(text))
        }
        "replace" => {
            let [from, to, most] = args.only(name, 2)?;
            let (from, to) = (from.unwrap_or(Value::None), to.unwrap_or(Value::None));
            let most = int_or(most.as_ref(), -1, name)?;
            let to = like_argument(value, text(&to, name)?, &to);
            replaced(whole, text(&from, name)?, &to, most, run).map(|text| value.like(text))
        }
        "join" => {
            let [items] = args.only(name, 1)?;
            join(value, whole, &items.unwrap_or(Value::None), run)
        }
        "format" => brace::format(value, args, run).map(|text| value.like(text)),
        "format_map" => {
            let [mapping] = args.only(name, 1)?;
            let Some(Value::Dict(mapping)) = mapping else {
                return type_error("format_map() takes a mapping");
            };
            brace::format_map(value, &mapping, run).map(|text| value.like(text))
        }
        "encode" => bytes::encode(whole, args),
        "translate" => {
            let [table] = args.only(name, 1)?;
            translate(whole, &table.unwrap_or(Value::None)).map(|text| value.like(text))
        }
        "maketrans" => make_table(args),
        _ => other(format!("the method `{name}` of strings is not supported")),
    }
}

/// An argument for a string: escaped if that one counts as escaped and this does not.
fn like_argument(value: &Value, text: &str, argument: &Value) -> String {
    match (value, argument) {
        (Value::Markup(_), Value::Str(_)) => escape(text).into_owned(),
        _ => text.to_owned(),
    }
}

/// Characters that a text lacks to a width.
fn missing(whole: &str, width: i64, run: &mut Run) -> Outcome<usize> {
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(length(whole));
    run.pay_bytes(missing.saturating_mul(4))?;
    Ok(missing)
}

/// `center`, `ljust`, `rjust`.
pub(crate) fn padded(
    value: &Value,
    whole: &str,
    name: &str,
    width: i64,
    fill: char,
    run: &mut Run,
) -> Outcome<Value> {
    let missing = missing(whole, width, run)?;
    let left = match name {
        "rjust" => missing,
        "ljust" => 0,
        // The odd one goes to the left where the width is odd.
        _ => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
    };
    let fill = |count: usize| fill.to_string().repeat(count);
    Ok(value.like(format!("{}{whole}{}", fill(left), fill(missing - left))))
}

fn expand_tabs(whole: &str, size: i64, run: &mut Run) -> Outcome<String> {
    let mut expanded = String::new();
    let mut column = 0;
    for c in whole.chars() {
        match c {
            '\t' if size > 0 => {
                let spaces = size - column % size;
                run.pay_bytes(usize::try_from(spaces).unwrap_or(usize::MAX))?;
                expanded.push_str(&" ".repeat(spaces as usize));
                column += spaces;
            }
            '\t' => {}
            '\n' | '\r' => {
                expanded.push(c);
                column = 0;
            }
            c => {
                expanded.push(c);
                column += 1;
            }
        }
    }
    Ok(expanded)
}

/// `whole.replace(from, to, most)`.
pub(crate) fn replaced(
    whole: &str,
    from: &str,
    to: &str,
    most: i64,
    run: &mut Run,
) -> Outcome<String> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = if from.is_empty() {
        length(whole) + 1
    } else {
        whole.matches(from).count()
    };
    let added = to.len().saturating_mul(count.min(most));
    run.pay_bytes(whole.len().saturating_add(added))?;
    Ok(whole.replacen(from, to, most))
}

/// `separator.join(items)`.
fn join(value: &Value, separator: &str, items: &Value, run: &mut Run) -> Outcome<Value> {
    let mut joined = String::new();
    let mut iter = iterate(items)?;
    let mut first = true;
    while let Some(item) = iter.next(run)? {
        let Some(part) = item.as_str() else {
            return wrong_type("join", &item);
        };
        let part = like_argument(value, part, &item);
        run.pay_bytes(separator.len() + part.len())?;
        if !first {
            joined.push_str(separator);
        }
        first = false;
        joined.push_str(&part);
    }
    Ok(value.like(joined))
}

fn translate(whole: &str, table: &Value) -> Outcome<String> {
    let Value::Dict(table) = table else {
        return other("translate() with this table is not supported");
    };
    let mut translated = String::new();
    for c in whole.chars() {
        match table.get(&Value::Int(i64::from(c as u32)))? {
            None => translated.push(c),
            Some(Value::None) => {}
            Some(Value::Str(text) | Value::Markup(text)) => translated.push_str(text),
            Some(value) => match value.as_i64().and_then(|code| u32::try_from(code).ok()) {
                Some(code) => match char::from_u32(code) {
                    Some(c) => translated.push(c),
                    None => return value_error("a table leads to no character"),
                },
                None => return wrong_type("translate", value),
            },
        }
    }
    Ok(translated)
}

/// `str.maketrans(..)`.
fn make_table(args: &Args) -> Outcome<Value> {
    let [from, to, without] = args.only("maketrans", 1)?;
    let mut table = Dict::default();
    let from = from.unwrap_or(Value::None);
    let code = |c: char| Value::Int(i64::from(c as u32));
    let Some(to) = to else {
        let Value::Dict(given) = &from else {
            return type_error("maketrans() takes a mapping if it gets one argument");
        };
        for (key, value) in given.iter() {
            let key = match key.as_str() {
                Some(text) => {
                    let mut chars = text.chars();
                    match (chars.next(), chars.next()) {
                        (Some(c), None) => code(c),
                        _ => return value_error("the keys must be one character each"),
                    }
                }
                None if key.as_i64().is_some() => key.clone(),
                None => return wrong_type("maketrans", key),
            };
            table.set(key, value.clone())?;
        }
        return Ok(Value::dict(table));
    };
    let (from, to) = (text(&from, "maketrans")?, text(&to, "maketrans")?);
    if length(from) != length(to) {
        return value_error("the first two arguments must be equally long");
    }
    for (from, to) in from.chars().zip(to.chars()) {
        table.set(code(from), code(to))?;
    }
    if let Some(without) = without {
        for c in text(&without, "maketrans")?.chars() {
            table.set(code(c), Value::None)?;
        }
    }
    Ok(Value::dict(table))
}
