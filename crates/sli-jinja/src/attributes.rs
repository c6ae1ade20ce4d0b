//! The names of attributes: methods, those that the sandbox refuses, and those that nobody sees.

use crate::error::{Kind, Outcome, fail};
use crate::value::{Value, View};

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
pub(crate) fn has_method(value: &Value, name: &str) -> bool {
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
        Value::Object(object) => object.methods(),
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

/// Namespaces keep no attributes that begin with an underscore.
pub(crate) fn check_namespace(name: &str) -> Outcome<()> {
    if name.starts_with('_') {
        return fail(
            Kind::Other,
            format!("a namespace keeps no attribute `{name}`"),
        );
    }
    Ok(())
}
