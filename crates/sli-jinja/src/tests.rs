//! Jinja2's tests: what may follow `is`.

use crate::arithmetic::binary;
use crate::compare::{equal, is_same};
use crate::comparison::{compare, contains};
use crate::dict::Key;
use crate::error::{Outcome, other, type_error};
use crate::filters::is_known as is_filter;
use crate::iterate::is_iterable;
use crate::methods::{is_lower_text, is_upper_text};
use crate::operators::{Binary, Comparison};
use crate::repr::to_str;
use crate::run::Run;
use crate::value::{Args, Value};

const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Whether there is a test of this name.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
}

/// Applies a test.
pub(crate) fn apply(name: &str, value: &Value, args: &Args, run: &mut Run) -> Outcome<bool> {
    run.pay(1)?;
    let comparison = match name {
        "==" | "eq" | "equalto" => Some(Comparison::Eq),
        "!=" | "ne" => Some(Comparison::Ne),
        ">" | "gt" | "greaterthan" => Some(Comparison::Gt),
        ">=" | "ge" => Some(Comparison::Ge),
        "<" | "lt" | "lessthan" => Some(Comparison::Lt),
        "<=" | "le" => Some(Comparison::Le),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [with] = args.only(name, 1)?;
        return compare(comparison, value, &with.unwrap_or(Value::None), run);
    }
    match name {
        "in" => {
            let [container] = args.bind(name, ["seq"], 1)?;
            return contains(&container.unwrap_or(Value::None), value, run);
        }
        "sameas" => {
            let [with] = args.bind(name, ["other"], 1)?;
            return Ok(is_same(value, &with.unwrap_or(Value::None)));
        }
        "divisibleby" => {
            let [by] = args.bind(name, ["num"], 1)?;
            let rest = binary(Binary::Mod, value, &by.unwrap_or(Value::None), run)?;
            return equal(&rest, &Value::Int(0));
        }
        _ => {}
    }
    if !is_known(name) {
        return other(format!("no test named `{name}`"));
    }
    args.only::<0>(name, 0)?;
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_) | Value::Big(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(
            value,
            Value::Bool(_) | Value::Int(_) | Value::Big(_) | Value::Float(_)
        ),
        "string" => value.as_str().is_some(),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Undefined(_)
                | Value::Str(_)
                | Value::Markup(_)
                | Value::Bytes(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Group(_)
                | Value::Dict(_)
                | Value::Range(_)
        ),
        "iterable" => is_iterable(value),
        "callable" => match value {
            Value::Undefined(_) | Value::Method(_) => true,
            Value::Object(object) => object.is_callable(),
            _ => false,
        },
        "escaped" => matches!(value, Value::Markup(_)),
        "even" | "odd" => {
            let rest = binary(Binary::Mod, value, &Value::Int(2), run)?;
            equal(&rest, &Value::Int(i64::from(name == "odd")))?
        }
        "lower" => is_lower_text(&to_str(value, run)?),
        "upper" => is_upper_text(&to_str(value, run)?),
        "filter" | "test" => match value.as_str() {
            Some(text) if name == "filter" => is_filter(text),
            Some(text) => is_known(text),
            None => {
                value.hash()?;
                false
            }
        },
        name => return type_error(format!("the test `{name}` is not supported")),
    })
}
