//! Strings that are taken apart.

use crate::arguments::{int_or, text};
use crate::error::{Outcome, value_error};
use crate::run::Run;
use crate::text::lines;
use crate::unicode::is_space;
use crate::value::{Args, Value};

/// `split`, `rsplit`.
pub(super) fn split(
    value: &Value,
    whole: &str,
    name: &str,
    args: &Args,
    run: &mut Run,
) -> Outcome<Value> {
    let [separator, most] = args.bind(name, ["sep", "maxsplit"], 0)?;
    let most = int_or(most.as_ref(), -1, name)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    run.pay_bytes(whole.len())?;
    let from_right = name == "rsplit";
    let separator = separator.filter(|separator| !separator.is_none());
    let parts: Vec<&str> = match &separator {
        None if from_right => words_from_right(whole, most),
        None => words(whole, most),
        Some(separator) => {
            let separator = text(separator, name)?;
            if separator.is_empty() {
                return value_error("empty separator");
            }
            let pieces = most.saturating_add(1);
            if from_right {
                let mut parts: Vec<&str> = whole.rsplitn(pieces, &**separator).collect();
                parts.reverse();
                parts
            } else {
                whole.splitn(pieces, &**separator).collect()
            }
        }
    };
    run.pay(parts.len() as u64)?;
    Ok(Value::list(
        parts.into_iter().map(|part| value.like(part)).collect(),
    ))
}

fn words(whole: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = whole.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(is_space);
        match end {
            Some(end) if parts.len() < most => {
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            _ => {
                // What is left over keeps the white space at its end.
                parts.push(rest);
                break;
            }
        }
    }
    parts
}

fn words_from_right(whole: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = whole.trim_end_matches(is_space);
    while !rest.is_empty() {
        let start = rest
            .char_indices()
            .rev()
            .find(|(_, c)| is_space(*c))
            .map(|(at, c)| at + c.len_utf8());
        match start {
            Some(start) if parts.len() < most => {
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end_matches(is_space);
            }
            _ => {
                parts.push(rest);
                break;
            }
        }
    }
    parts.reverse();
    parts
}

/// `splitlines`.
pub(super) fn split_lines(value: &Value, whole: &str, args: &Args) -> Outcome<Value> {
    let [keep] = args.bind("splitlines", ["keepends"], 0)?;
    let keep = keep.map_or(Ok(false), |keep| keep.is_true())?;
    let lines = lines(whole, keep);
    Ok(Value::list(
        lines.into_iter().map(|line| value.like(line)).collect(),
    ))
}

/// `strip`, `lstrip`, `rstrip`.
pub(crate) fn strip<'a>(whole: &'a str, name: &str, chars: Option<&Value>) -> Outcome<&'a str> {
    let chars = match chars.filter(|chars| !chars.is_none()) {
        Some(chars) => Some(text(chars, name)?),
        None => None,
    };
    let is_off = |c: char| match chars {
        Some(chars) => chars.contains(c),
        None => is_space(c),
    };
    let mut rest = whole;
    if name != "rstrip" {
        rest = rest.trim_start_matches(is_off);
    }
    if name != "lstrip" {
        rest = rest.trim_end_matches(is_off);
    }
    Ok(rest)
}
