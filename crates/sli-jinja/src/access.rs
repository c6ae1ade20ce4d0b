//! Attributes, items and slices, as the sandbox lets templates reach them.

use std::rc::Rc;

use crate::attributes;
use crate::error::{Kind, Outcome, fail, type_error, value_error};
use crate::iterate::length;
use crate::range::Range;
use crate::run::Run;
use crate::text;
use crate::value::Value;

/// `value.name`: the attribute, else the item.
pub(crate) fn attribute(value: &Value, name: &str, run: &mut Run) -> Outcome<Value> {
    if let Value::Undefined(reason) = value
        && !attributes::is_hidden(value, name)
    {
        return fail(Kind::Other, &**reason);
    }
    if let Some(found) = own_attribute(value, name, run)? {
        return Ok(found);
    }
    let key = Value::str(name);
    Ok(subscript(value, &key)?.unwrap_or_else(|| missing(value, &key)))
}

/// `value[key]`: the item, else the attribute.
pub(crate) fn item(value: &Value, key: &Value, run: &mut Run) -> Outcome<Value> {
    if let Value::Undefined(reason) = value {
        return fail(Kind::Other, &**reason);
    }
    if let Some(found) = subscript(value, key)? {
        return Ok(found);
    }
    if let Some(name) = key.as_str()
        && let Some(found) = own_attribute(value, name, run)?
    {
        return Ok(found);
    }
    Ok(missing(value, key))
}

fn missing(value: &Value, key: &Value) -> Value {
    let key = match key {
        Value::Str(key) | Value::Markup(key) => format!("`{key}`"),
        Value::Int(key) => key.to_string(),
        key => format!("a `{}`", key.type_name()),
    };
    Value::undefined(format!("a `{}` has no {key}", value.type_name()))
}

/// Python's attribute of a value; what the sandbox does not give is undefined.
pub(crate) fn own_attribute(value: &Value, name: &str, run: &mut Run) -> Outcome<Option<Value>> {
    if let Value::Namespace(namespace) = value {
        return Ok(namespace.borrow().get_str(name).cloned());
    }
    if name.starts_with('_') {
        let hidden = attributes::is_hidden(value, name);
        return Ok(hidden.then(|| Value::undefined(format!("`{name}` is not for templates"))));
    }
    if attributes::is_refused(value, name) {
        let reason = format!("`{name}` would change a `{}`", value.type_name());
        return Ok(Some(Value::undefined(reason)));
    }
    if attributes::has_method(value, name) {
        return Ok(Some(Value::Method(Rc::new((value.clone(), name.into())))));
    }
    Ok(match (value, name) {
        (Value::Object(object), name) => object.attribute(name, run)?,
        (Value::Bool(flag), "real" | "numerator") => Some(Value::Int(i64::from(*flag))),
        (Value::Int(_) | Value::Big(_), "real" | "numerator") | (Value::Float(_), "real") => {
            Some(value.clone())
        }
        (Value::Bool(_) | Value::Int(_) | Value::Big(_), "imag") => Some(Value::Int(0)),
        (Value::Bool(_) | Value::Int(_) | Value::Big(_), "denominator") => Some(Value::Int(1)),
        (Value::Float(_), "imag") => Some(Value::Float(0.0)),
        (Value::Range(range), "start") => Some(Value::Int(range.start)),
        (Value::Range(range), "stop") => Some(Value::Int(range.stop)),
        (Value::Range(range), "step") => Some(Value::Int(range.step)),
        (Value::Group(items), "grouper") => items.first().cloned(),
        (Value::Group(items), "list") => items.get(1).cloned(),
        _ => None,
    })
}

/// `value[key]`; nothing where Python raises a `TypeError` or `LookupError`.
fn subscript(value: &Value, key: &Value) -> Outcome<Option<Value>> {
    if let Value::Dict(dict) = value {
        return match dict.get(key) {
            Ok(found) => Ok(found.cloned()),
            Err(error) if error.kind() == Kind::Type => Ok(None),
            Err(error) => Err(error),
        };
    }
    let Some(index) = key.as_i64() else {
        return Ok(None);
    };
    Ok(match value {
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            at(index, items.len()).and_then(|at| items.get(at).cloned())
        }
        Value::Str(whole) | Value::Markup(whole) => {
            at(index, text::length(whole)).map(|at| value.like(text::part(whole, at, at + 1)))
        }
        Value::Bytes(bytes) => at(index, bytes.len())
            .and_then(|at| bytes.get(at))
            .map(|&byte| Value::Int(i64::from(byte))),
        Value::Range(range) => {
            let length = range.len();
            let index = if index < 0 { index + length } else { index };
            (0..length)
                .contains(&index)
                .then(|| Value::Int(range.get(index)))
        }
        _ => None,
    })
}

/// An index that may count from the end.
fn at(index: i64, length: usize) -> Option<usize> {
    let length = length as i64;
    let index = if index < 0 { index + length } else { index };
    (0..length).contains(&index).then_some(index as usize)
}

/// `value[start:stop:step]`.
pub(crate) fn slice(
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
    run: &mut Run,
) -> Outcome<Value> {
    let length = match value {
        Value::Undefined(reason) => return fail(Kind::Other, &**reason),
        Value::Str(_)
        | Value::Markup(_)
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Tuple(_)
        | Value::Group(_)
        | Value::Range(_) => length(value, run)?,
        value => {
            return type_error(format!("a `{}` cannot be sliced", value.type_name()));
        }
    };
    let (start, stop, step, count) = indices(start, stop, step, length)?;
    run.pay(count as u64 / 8)?;
    let indices = (0..count).map(|at| (start + at * step) as usize);
    Ok(match value {
        Value::Str(whole) | Value::Markup(whole) => {
            run.pay_bytes(whole.len())?;
            if step == 1 {
                let start = start as usize;
                return Ok(value.like(text::part(whole, start, start + count as usize)));
            }
            let chars: Vec<char> = whole.chars().collect();
            let sliced: String = indices.filter_map(|at| chars.get(at)).collect();
            value.like(sliced)
        }
        Value::Bytes(bytes) => {
            Value::Bytes(indices.filter_map(|at| bytes.get(at).copied()).collect())
        }
        Value::Range(range) => Value::Range(Range {
            start: range.start + start * range.step,
            stop: range.start + stop * range.step,
            step: range.step.saturating_mul(step),
        }),
        value => {
            let items = value.as_items().cloned().unwrap_or_default();
            let sliced = indices.filter_map(|at| items.get(at).cloned()).collect();
            if matches!(value, Value::List(_)) {
                Value::list(sliced)
            } else {
                Value::tuple(sliced)
            }
        }
    })
}

/// Start, stop, step and count of a slice.
fn indices(
    start: &Value,
    stop: &Value,
    step: &Value,
    length: i64,
) -> Outcome<(i64, i64, i64, i64)> {
    let number = |value: &Value| match value {
        Value::None => Ok(None),
        value => match value.as_int() {
            Some(_) => value.to_i64("a slice").map(Some),
            None => type_error("a slice takes integers"),
        },
    };
    let step = number(step)?.unwrap_or(1);
    if step == 0 {
        return value_error("the step of a slice must not be zero");
    }
    let step = step.max(-i64::MAX);
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let bound = |value: Option<i64>, default: i64| match value {
        None => default,
        Some(value) if value < 0 => value.saturating_add(length).max(lowest),
        Some(value) => value.min(highest),
    };
    let (first, last) = if step > 0 {
        (0, length)
    } else {
        (length - 1, -1)
    };
    let start = bound(number(start)?, first);
    let stop = bound(number(stop)?, last);
    let distance = if step > 0 {
        stop.saturating_sub(start)
    } else {
        start.saturating_sub(stop)
    };
    // Items at every step, the first included.
    let count = if distance > 0 {
        (distance - 1) / step.abs() + 1
    } else {
        0
    };
    Ok((start, stop, step, count))
}
