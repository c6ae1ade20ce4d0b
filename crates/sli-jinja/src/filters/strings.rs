//! Filters for strings.

use std::rc::Rc;

use super::wrap;
use crate::arguments::text;
use crate::compare::{DEEPEST, sort};
use crate::error::{Outcome, other};
use crate::format::percent;
use crate::iterate;
use crate::methods::{padded, replaced, strip};
use crate::repr::{repr, to_str};
use crate::run::Run;
use crate::text::{length, lines, part};
use crate::unicode::{self, is_space, is_word};
use crate::value::{Args, Dict, Value};

pub(super) fn apply(name: &str, value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    match name {
        "string" => {
            args.only::<0>(name, 0)?;
            Ok(match value {
                Value::Markup(_) => value.clone(),
                value => Value::Str(to_str(value, run)?),
            })
        }
        "capitalize" | "lower" | "upper" | "title" => {
            args.only::<0>(name, 0)?;
            let whole = to_str(value, run)?;
            run.pay_bytes(whole.len())?;
            if name == "title" {
                return Ok(Value::from(title(&whole)));
            }
            Ok(value.like(match name {
                "capitalize" => unicode::capitalize(&whole),
                "lower" => unicode::lower(&whole),
                _ => unicode::upper(&whole),
            }))
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"], 0)?;
            let whole = to_str(value, run)?;
            Ok(value.like(strip(&whole, "strip", chars.as_ref())?))
        }
        "center" => {
            let [width] = args.bind(name, ["width"], 0)?;
            let width = width.map_or(Ok(80), |width| width.to_i64(name))?;
            let whole = to_str(value, run)?;
            padded(value, &whole, "center", width, ' ', run)
        }
        "replace" => {
            let [from, to, most] = args.bind(name, ["old", "new", "count"], 2)?;
            let most = match most.filter(|most| !most.is_none()) {
                Some(most) => most.to_i64(name)?,
                None => -1,
            };
            let whole = to_str(value, run)?;
            let from = to_str(&from.unwrap_or(Value::None), run)?;
            let to = to_str(&to.unwrap_or(Value::None), run)?;
            replaced(&whole, &from, &to, most, run).map(Value::from)
        }
        "format" => {
            if !args.positional.is_empty() && !args.keyword.is_empty() {
                return other("format takes values by position or by name, not both");
            }
            let whole = match value {
                Value::Markup(_) => value.clone(),
                value => Value::Str(to_str(value, run)?),
            };
            let values = if args.keyword.is_empty() {
                Value::tuple(args.positional.clone())
            } else {
                let mut dict = Dict::default();
                for (name, value) in &args.keyword {
                    dict.set_str(name, value.clone());
                }
                Value::dict(dict)
            };
            percent::format(&whole, &values, run)
        }
        "wordcount" => {
            args.only::<0>(name, 0)?;
            let whole = to_str(value, run)?;
            run.pay_bytes(whole.len())?;
            let words = whole.split(|c| !is_word(c)).filter(|word| !word.is_empty());
            Ok(Value::length(words.count()))
        }
        "wordwrap" => wrapped(value, args, run),
        "truncate" => truncated(value, args, run),
        "indent" => indented(value, args, run),
        _ => {
            args.only::<0>(name, 0)?;
            pretty(value, run).map(Value::from)
        }
    }
}

/// The text of a value that must be a string.
fn must_be_text<'a>(value: &'a Value, name: &str) -> Outcome<&'a Rc<str>> {
    match value {
        Value::Undefined(reason) => other(&**reason),
        value => text(value, name),
    }
}

/// Each word with a capital; words end at spaces and opening signs.
fn title(whole: &str) -> String {
    let parts = |c: char| matches!(c, '-' | '(' | '{' | '[' | '<') || is_space(c);
    let mut titled = String::with_capacity(whole.len());
    let mut rest = whole;
    while !rest.is_empty() {
        let end = rest.find(parts).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let first = word.chars().next().map_or(0, char::len_utf8);
        titled.push_str(&unicode::upper(&word[..first]));
        titled.push_str(&unicode::lower(&word[first..]));
        let gap = after.len() - after.trim_start_matches(parts).len();
        titled.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    titled
}

fn wrapped(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let names = [
        "width",
        "break_long_words",
        "wrapstring",
        "break_on_hyphens",
    ];
    let [width, long, between, hyphens] = args.bind("wordwrap", names, 0)?;
    let width = width.map_or(Ok(79), |width| width.to_i64("wordwrap"))?;
    let long = long.map_or(Ok(true), |long| long.is_true())?;
    let hyphens = hyphens.map_or(Ok(true), |hyphens| hyphens.is_true())?;
    let between = between.filter(|between| !between.is_none());
    let between = match &between {
        Some(between) => text(between, "wordwrap")?.to_string(),
        None => "\n".into(),
    };
    let whole = must_be_text(value, "wordwrap")?;
    run.pay_bytes(whole.len().saturating_mul(8))?;
    let mut all = Vec::new();
    for line in lines(whole, false) {
        let wrapped = wrap::wrap(line, width, long, hyphens)?;
        run.pay_bytes(wrapped.len().saturating_mul(between.len()))?;
        all.push(wrapped.join(&between));
    }
    run.pay_bytes(all.len().saturating_mul(between.len()))?;
    Ok(Value::from(all.join(&between)))
}

fn truncated(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let names = ["length", "killwords", "end", "leeway"];
    let [most, kill, end, leeway] = args.bind("truncate", names, 0)?;
    let most = most.map_or(Ok(255), |most| most.to_i64("truncate"))?;
    let kill = kill.map_or(Ok(false), |kill| kill.is_true())?;
    let end = end.unwrap_or_else(|| Value::str("..."));
    let end = text(&end, "truncate")?;
    let leeway = match leeway.filter(|leeway| !leeway.is_none()) {
        Some(leeway) => leeway.to_i64("truncate")?,
        None => 5,
    };
    let end_length = length(end) as i64;
    if most < end_length || leeway < 0 {
        return other("truncate keeps as many characters as it adds, at least");
    }
    if value.as_str().is_none() && iterate::length(value, run)? <= most.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let whole = must_be_text(value, "truncate")?;
    if length(whole) as i64 <= most.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let kept = part(whole, 0, (most - end_length) as usize);
    let kept = match kept.rfind(' ') {
        Some(at) if !kill => &kept[..at],
        _ => kept,
    };
    Ok(value.like(format!("{kept}{end}")))
}

fn indented(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"], 0)?;
    let first = first.map_or(Ok(false), |first| first.is_true())?;
    let blank = blank.map_or(Ok(false), |blank| blank.is_true())?;
    let indentation = match width {
        None => "    ".to_owned(),
        Some(Value::Str(text) | Value::Markup(text)) => text.to_string(),
        Some(width) => {
            let width = usize::try_from(width.to_i64("indent")?).unwrap_or(0);
            run.pay_bytes(width)?;
            " ".repeat(width)
        }
    };
    let whole = format!("{}\n", must_be_text(value, "indent")?);
    let lines = lines(&whole, false);
    run.pay_bytes(whole.len() + lines.len().saturating_mul(indentation.len()))?;
    let mut text = String::new();
    if first {
        text.push_str(&indentation);
    }
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            text.push('\n');
            if blank || !line.is_empty() {
                text.push_str(&indentation);
            }
        }
        text.push_str(line);
    }
    Ok(value.like(text))
}

/// `pprint`, where it fits on a line.
fn pretty(value: &Value, run: &mut Run) -> Outcome<String> {
    let text = repr(&with_sorted_keys(value, 0)?, run)?;
    if length(&text) > 80 {
        return other("pprint of more than a line is not supported");
    }
    Ok(text)
}

/// `pprint` sorts the keys of mappings.
fn with_sorted_keys(value: &Value, depth: usize) -> Outcome<Value> {
    if depth > DEEPEST {
        return other("values hold each other too deeply");
    }
    let all = |items: &[Value]| {
        let items = items.iter().map(|item| with_sorted_keys(item, depth + 1));
        items.collect::<Outcome<Vec<_>>>()
    };
    Ok(match value {
        Value::Dict(dict) => {
            let mut entries = Vec::new();
            for (key, value) in dict.iter() {
                entries.push((key.clone(), with_sorted_keys(value, depth + 1)?));
            }
            sort(&mut entries, false)?;
            let mut sorted = Dict::default();
            for (key, value) in entries {
                sorted.set(key, value)?;
            }
            Value::dict(sorted)
        }
        Value::List(items) => Value::list(all(items)?),
        Value::Tuple(items) => Value::tuple(all(items)?),
        value => value.clone(),
    })
}
