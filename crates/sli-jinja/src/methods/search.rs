//! Strings that are looked for in others.

use std::rc::Rc;

use crate::arguments::{int_or, text, wrong_type};
use crate::error::{Outcome, value_error};
use crate::run::Run;
use crate::text::{length, part};
use crate::value::{Args, Value};

/// The part of a text between two optional indices, and the first of them; nothing if they cross.
fn between<'a>(
    whole: &'a str,
    start: Option<&Value>,
    stop: Option<&Value>,
) -> Outcome<Option<(&'a str, i64)>> {
    let count = length(whole) as i64;
    let bound = |value: Option<&Value>, default: i64| {
        let value = value.filter(|value| !value.is_none());
        let value = int_or(value, default, "an index")?;
        Ok(if value < 0 {
            value.saturating_add(count).max(0)
        } else {
            value
        })
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, count)?.min(count));
    if start > stop {
        return Ok(None);
    }
    Ok(Some((part(whole, start as usize, stop as usize), start)))
}

/// `find`, `rfind`, `index`, `rindex`, `count`.
pub(super) fn find(whole: &str, name: &str, args: &Args, run: &mut Run) -> Outcome<Value> {
    let [wanted, start, stop] = args.only(name, 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let wanted = text(&wanted, name)?;
    run.pay_bytes(whole.len())?;
    let range = between(whole, start.as_ref(), stop.as_ref())?;
    if name == "count" {
        let count = range.map_or(0, |(range, _)| range.matches(&**wanted).count());
        return Ok(Value::length(count));
    }
    let found = range.and_then(|(range, start)| {
        let at = if name.starts_with('r') {
            range.rfind(&**wanted)
        } else {
            range.find(&**wanted)
        };
        at.map(|at| start + length(&range[..at]) as i64)
    });
    match found {
        Some(at) => Ok(Value::Int(at)),
        None if name.ends_with("index") => value_error("substring not found"),
        None => Ok(Value::Int(-1)),
    }
}

/// `startswith`, `endswith`.
pub(super) fn at_end(whole: &str, name: &str, args: &Args) -> Outcome<Value> {
    let [wanted, start, stop] = args.only(name, 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let all: Vec<Rc<str>> = match &wanted {
        Value::Tuple(items) => items
            .iter()
            .map(|item| text(item, name).cloned())
            .collect::<Outcome<_>>()?,
        wanted if wanted.as_str().is_some() => vec![Rc::clone(text(wanted, name)?)],
        wanted => return wrong_type(name, wanted),
    };
    let Some((range, _)) = between(whole, start.as_ref(), stop.as_ref())? else {
        return Ok(Value::Bool(false));
    };
    Ok(Value::Bool(all.iter().any(|wanted| {
        if name == "startswith" {
            range.starts_with(&**wanted)
        } else {
            range.ends_with(&**wanted)
        }
    })))
}

/// `partition`, `rpartition`.
pub(super) fn partition(value: &Value, whole: &str, name: &str, args: &Args) -> Outcome<Value> {
    let [separator] = args.only(name, 1)?;
    let separator = separator.unwrap_or(Value::None);
    let separator = text(&separator, name)?;
    if separator.is_empty() {
        return value_error("empty separator");
    }
    let from_right = name == "rpartition";
    let at = if from_right {
        whole.rfind(&**separator)
    } else {
        whole.find(&**separator)
    };
    let parts = match at {
        Some(at) => [&whole[..at], separator, &whole[at + separator.len()..]],
        None if from_right => ["", "", whole],
        None => [whole, "", ""],
    };
    Ok(Value::tuple(
        parts.into_iter().map(|part| value.like(part)).collect(),
    ))
}
