//! Jinja2's filters.

mod groups;
mod html;
mod lazy;
mod mapping;
mod names;
mod numbers;
mod sequences;
mod strings;
mod wrap;

use crate::access;
use crate::error::{Outcome, other, type_error};
use crate::json;
use crate::run::Run;
use crate::value::{Args, Value};

pub(crate) use names::is_known;

/// Applies a filter.
pub(crate) fn apply(name: &str, value: &Value, args: Args, run: &mut Run) -> Outcome<Value> {
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
        "count" | "first" | "items" | "join" | "last" | "length" | "list" | "reverse" | "slice"
        | "sum" => sequences::apply(name, value, &args, run),
        "dictsort" | "groupby" | "max" | "min" | "sort" => groups::apply(name, value, &args, run),
        // What is mapped by a filter comes back to here, for each item.
        "map" => lazy::map(value, args, apply, run),
        "batch" | "reject" | "rejectattr" | "select" | "selectattr" | "unique" => {
            lazy::apply(name, value, args)
        }
        "capitalize" | "center" | "format" | "indent" | "lower" | "pprint" | "replace"
        | "string" | "title" | "trim" | "truncate" | "upper" | "wordcount" | "wordwrap" => {
            strings::apply(name, value, &args, run)
        }
        name => other(format!("no filter named `{name}`")),
    }
}

/// `value.name` without looking for an item.
fn attribute_only(value: &Value, name: &Value, run: &mut Run) -> Outcome<Value> {
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
