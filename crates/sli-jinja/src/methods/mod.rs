//! Methods of values, as templates may call them.

mod bytes;
mod numbers;
mod predicates;
mod search;
mod split;
mod string;

use std::rc::Rc;

use crate::arguments::Args;
use crate::compare::equal;
use crate::dict::Dict;
use crate::error::{Outcome, other, type_error, value_error};
use crate::iterate::{Iter, collect};
use crate::loops;
use crate::run::Run;
use crate::value::{Function, Value, View};

pub(crate) use predicates::{is_lower_text, is_upper_text};
pub(crate) use split::strip;
pub(crate) use string::{padded, replaced};

const STRING: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
const BYTES: [&str; 5] = ["decode", "hex", "count", "startswith", "endswith"];
const LIST: [&str; 3] = ["copy", "count", "index"];
const LIST_CHANGES: [&str; 8] = [
    "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove",
];
const TUPLE: [&str; 2] = ["count", "index"];
const DICT: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const DICT_CHANGES: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];
const INT: [&str; 6] = [
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "from_bytes",
    "to_bytes",
];
const FLOAT: [&str; 5] = [
    "as_integer_ratio",
    "conjugate",
    "fromhex",
    "hex",
    "is_integer",
];
/// Attributes that every object has, among those that templates do not see.
const HIDDEN: [&str; 12] = [
    "__class__",
    "__doc__",
    "__init__",
    "__eq__",
    "__dir__",
    "__hash__",
    "__str__",
    "__repr__",
    "__new__",
    "__reduce__",
    "__sizeof__",
    "__format__",
];
const HIDDEN_SIZED: [&str; 4] = ["__len__", "__getitem__", "__iter__", "__contains__"];

/// Whether a value has a method.
pub(crate) fn has(value: &Value, name: &str) -> bool {
    let names: &[&str] = match value {
        Value::Str(_) | Value::Markup(_) => {
            return STRING.contains(&name)
                || (matches!(value, Value::Markup(_)) && matches!(name, "striptags" | "unescape"));
        }
        Value::Bytes(_) => &BYTES,
        Value::List(_) => &LIST,
        Value::Tuple(_) | Value::Group(_) | Value::Range(_) => &TUPLE,
        Value::Dict(_) => &DICT,
        Value::Bool(_) | Value::Int(_) | Value::Big(_) => &INT,
        Value::Float(_) => &FLOAT,
        Value::View(_, View::Keys | View::Items) => &["isdisjoint"],
        Value::Loop(_) => &["cycle", "changed"],
        Value::Cycler(_) => &["next", "reset"],
        Value::Function(Function::Dict) => &["fromkeys"],
        _ => &[],
    };
    names.contains(&name)
}

/// Whether a method would change its value, which the sandbox refuses.
pub(crate) fn is_refused(value: &Value, name: &str) -> bool {
    match value {
        Value::List(_) => LIST_CHANGES.contains(&name),
        Value::Dict(_) => DICT_CHANGES.contains(&name),
        _ => false,
    }
}

/// Whether an attribute is there that templates do not see.
pub(crate) fn is_hidden(value: &Value, name: &str) -> bool {
    let sized = matches!(
        value,
        Value::Str(_)
            | Value::Markup(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Group(_)
            | Value::Dict(_)
            | Value::Range(_)
    );
    HIDDEN.contains(&name) || (sized && HIDDEN_SIZED.contains(&name))
}

/// Calls a method.
pub(crate) fn call(value: &Value, name: &str, args: Args, run: &mut Run<'_>) -> Outcome<Value> {
    match value {
        Value::Str(text) | Value::Markup(text) => string::call(value, text, name, &args, run),
        Value::Bytes(bytes) => bytes::call(bytes, name, &args),
        Value::Dict(dict) => dict_method(dict, name, &args, run),
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            if name == "copy" {
                args.only::<0>(name, 0)?;
                return Ok(Value::list((**items).clone()));
            }
            list_method(items, name, &args, run)
        }
        Value::Range(_) => {
            let items = collect(value, run)?;
            list_method(&items, name, &args, run)
        }
        Value::Bool(_) | Value::Int(_) | Value::Big(_) | Value::Float(_) => {
            numbers::call(value, name, &args)
        }
        Value::View(dict, view) => {
            let [items] = args.only(name, 1)?;
            for item in collect(&items.unwrap_or(Value::None), run)? {
                let view = Value::View(Rc::clone(dict), *view);
                if run.contains(&view, &item)? {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }
        Value::Loop(state) if name == "cycle" => loops::cycle(state, &args.positional),
        Value::Loop(state) => loops::changed(state, args.positional).map(Value::Bool),
        Value::Cycler(cycler) => {
            args.only::<0>(name, 0)?;
            let mut at = cycler.1.borrow_mut();
            if name == "reset" {
                *at = 0;
                return Ok(Value::None);
            }
            let current = cycler.0.get(*at).cloned().unwrap_or(Value::None);
            *at = (*at + 1) % cycler.0.len().max(1);
            Ok(current)
        }
        Value::Function(Function::Dict) => from_keys(&args, run),
        value => other(format!("a `{}` has no method `{name}`", value.type_name())),
    }
}

fn dict_method(dict: &Rc<Dict>, name: &str, args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
    Ok(match name {
        "get" => {
            let [key, default] = args.only("get", 1)?;
            let found = dict.get(&key.unwrap_or(Value::None))?;
            found.cloned().or(default).unwrap_or(Value::None)
        }
        "fromkeys" => return from_keys(args, run),
        name => {
            args.only::<0>(name, 0)?;
            match name {
                "items" => Value::View(Rc::clone(dict), View::Items),
                "keys" => Value::View(Rc::clone(dict), View::Keys),
                "values" => Value::View(Rc::clone(dict), View::Values),
                _ => Value::dict((**dict).clone()),
            }
        }
    })
}

/// `dict.fromkeys(keys, value)`.
fn from_keys(args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
    let [keys, value] = args.only("fromkeys", 1)?;
    let value = value.unwrap_or(Value::None);
    let mut dict = Dict::default();
    for key in collect(&keys.unwrap_or(Value::None), run)? {
        dict.set(key, value.clone())?;
    }
    Ok(Value::dict(dict))
}

fn list_method(items: &[Value], name: &str, args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
    run.pay(items.len() as u64)?;
    if name == "count" {
        let [wanted] = args.only("count", 1)?;
        let wanted = wanted.unwrap_or(Value::None);
        let mut count = 0;
        for item in items {
            count += i64::from(equal(item, &wanted)?);
        }
        return Ok(Value::Int(count));
    }
    let [wanted, start, stop] = args.only("index", 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let length = items.len() as i64;
    let bound = |value: Option<Value>, default: i64| match value {
        None => Ok(default),
        Some(value) => {
            let value = value.to_i64("index()")?;
            let value = if value < 0 {
                value.saturating_add(length).max(0)
            } else {
                value
            };
            Ok(value.min(length))
        }
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
    for at in start..stop {
        if let Some(item) = items.get(at as usize)
            && equal(item, &wanted)?
        {
            return Ok(Value::Int(at));
        }
    }
    value_error("the item is not in the list")
}

/// `reversed(value)`; nothing if it cannot be.
pub(crate) fn reversed(value: &Value) -> Option<Value> {
    Some(Value::iter(match value {
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            Iter::Reversed(Rc::clone(items), items.len())
        }
        Value::Dict(dict) => Iter::ReversedView(Rc::clone(dict), View::Keys, dict.len()),
        Value::View(dict, view) => Iter::ReversedView(Rc::clone(dict), *view, dict.len()),
        Value::Range(range) => {
            let items: Vec<Value> = (0..range.len()).rev().map(|at| range.get(at)).collect();
            Iter::Items(Rc::new(items), 0)
        }
        Value::Str(text) | Value::Markup(text) => {
            let chars = text.chars().rev();
            Iter::Queue(chars.map(|c| Value::str(c.to_string())).collect())
        }
        Value::Bytes(bytes) => {
            let items = bytes.iter().rev().map(|&byte| Value::Int(i64::from(byte)));
            Iter::Queue(items.collect())
        }
        _ => return None,
    }))
}

/// An argument that must be an integer, or a default.
pub(crate) fn int_or(value: Option<&Value>, default: i64, what: &str) -> Outcome<i64> {
    value.map_or(Ok(default), |value| value.to_i64(what))
}

/// Arguments of a method that takes none.
fn none(args: &Args, name: &str) -> Outcome<()> {
    args.only::<0>(name, 0).map(|_: [Option<Value>; 0]| ())
}

/// What cannot be right about the type of an argument.
fn wrong<T>(name: &str, value: &Value) -> Outcome<T> {
    type_error(format!("{name}() does not take a `{}`", value.type_name()))
}
