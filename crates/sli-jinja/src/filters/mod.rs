//! Jinja2's filters.

mod html;
mod numbers;
mod sequences;
mod strings;
mod wrap;

use std::rc::Rc;

use crate::access;
use crate::arguments::Args;
use crate::error::{Outcome, other, type_error};
use crate::json;
use crate::run::Run;
use crate::unicode::{is_digit, lower};
use crate::value::Value;

pub(crate) use sequences::{Mapping, Selection};

const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// Whether there is a filter of this name.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
}

/// Applies a filter.
pub(crate) fn apply(name: &str, value: &Value, args: Args, run: &mut Run<'_>) -> Outcome<Value> {
    match name {
        "default" | "d" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"], 0)?;
            let boolean = boolean.map_or(Ok(false), |boolean| boolean.is_true())?;
            if value.is_undefined() || (boolean && !value.is_true()?) {
                return Ok(default.unwrap_or_else(|| Value::str("")));
            }
            Ok(value.clone())
        }
        "attr" => {
            let [attribute] = args.bind(name, ["name"], 1)?;
            attribute_only(value, &attribute.unwrap_or(Value::None), run)
        }
        "tojson" => json::filter(value, &args, run).map(Value::from),
        "random" => other("`random` gives another item each time"),
        "abs" | "int" | "float" | "round" | "filesizeformat" => numbers::apply(name, value, &args),
        "e" | "escape" | "forceescape" | "safe" | "striptags" | "urlencode" | "urlize"
        | "xmlattr" => html::apply(name, value, &args, run),
        "batch" | "count" | "dictsort" | "first" | "groupby" | "items" | "join" | "last"
        | "length" | "list" | "map" | "max" | "min" | "reject" | "rejectattr" | "reverse"
        | "select" | "selectattr" | "slice" | "sort" | "sum" | "unique" => {
            sequences::apply(name, value, args, run)
        }
        "capitalize" | "center" | "format" | "indent" | "lower" | "pprint" | "replace"
        | "string" | "title" | "trim" | "truncate" | "upper" | "wordcount" | "wordwrap" => {
            strings::apply(name, value, &args, run)
        }
        name => other(format!("no filter named `{name}`")),
    }
}

/// `value.name` without looking for an item.
fn attribute_only(value: &Value, name: &Value, run: &mut Run<'_>) -> Outcome<Value> {
    let Some(text) = name.as_str() else {
        return type_error("an attribute has a name");
    };
    if let Value::Undefined(reason) = value {
        return other(&**reason);
    }
    let found = access::own_attribute(value, text, run)?;
    Ok(found.unwrap_or_else(|| {
        Value::undefined(format!(
            "a `{}` has no attribute `{text}`",
            value.type_name()
        ))
    }))
}

/// The steps of an attribute such as `a.b.0`.
pub(crate) fn attribute_parts(attribute: &Value) -> Vec<Value> {
    match attribute {
        Value::None => Vec::new(),
        Value::Str(path) | Value::Markup(path) => path
            .split('.')
            .map(|part| match part.parse::<i64>() {
                Ok(index) if !part.is_empty() && part.chars().all(is_digit) => Value::Int(index),
                _ => Value::str(part),
            })
            .collect(),
        other => vec![other.clone()],
    }
}

/// Small letters for strings.
pub(crate) fn ignore_case(value: Value) -> Value {
    match &value {
        Value::Str(text) | Value::Markup(text) => Value::from(lower(text)),
        _ => value,
    }
}

/// A string as it is, everything else as its text.
pub(crate) fn soft_str(value: &Value, run: &mut Run<'_>) -> Outcome<Rc<str>> {
    run.string(value)
}

/// The text of a value that must be a string.
pub(crate) fn must_be_text<'a>(value: &'a Value, name: &str) -> Outcome<&'a Rc<str>> {
    match value {
        Value::Undefined(reason) => other(&**reason),
        value => crate::arguments::text(value, name),
    }
}
