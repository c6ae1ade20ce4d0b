//! Methods of values, as templates may call them.

mod bytes;
mod numbers;
mod predicates;
mod search;
mod split;
mod string;

use std::rc::Rc;

use crate::compare::equal;
use crate::comparison::contains;
use crate::error::{Outcome, other, value_error};
use crate::iterate::collect;
use crate::run::Run;
use crate::value::{Args, Dict, Value, View};

pub(crate) use predicates::{is_lower_text, is_upper_text};
pub(crate) use split::strip;
pub(crate) use string::{padded, replaced};

/// Calls a method.
pub(crate) fn call(value: &Value, name: &str, args: Args, run: &mut Run) -> Outcome<Value> {
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
                if contains(&view, &item, run)? {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }
        Value::Object(object) => object.call_method(name, args, run),
        value => other(format!("a `{}` has no method `{name}`", value.type_name())),
    }
}

fn dict_method(dict: &Rc<Dict>, name: &str, args: &Args, run: &mut Run) -> Outcome<Value> {
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
pub(crate) fn from_keys(args: &Args, run: &mut Run) -> Outcome<Value> {
    let [keys, value] = args.only("fromkeys", 1)?;
    let value = value.unwrap_or(Value::None);
    let mut dict = Dict::default();
    for key in collect(&keys.unwrap_or(Value::None), run)? {
        dict.set(key, value.clone())?;
    }
    Ok(Value::dict(dict))
}

fn list_method(items: &[Value], name: &str, args: &Args, run: &mut Run) -> Outcome<Value> {
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
