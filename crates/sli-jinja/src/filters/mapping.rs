//! What filters make of each item: an attribute of it, or what another filter makes.

use std::rc::Rc;

use crate::access;
use crate::error::Outcome;
use crate::run::Run;
use crate::unicode::{is_digit, lower};
use crate::value::{Args, Value};

/// What applies the filter of a name.
pub(super) type Filter = fn(&str, &Value, Args, &mut Run) -> Outcome<Value>;

/// What is made of each item.
#[derive(Debug)]
pub(super) enum Mapping {
    Attribute {
        parts: Vec<Value>,
        default: Option<Value>,
        ignore_case: bool,
    },
    Filter(Rc<str>, Args, Filter),
}

impl Mapping {
    pub fn attribute(attribute: &Value, default: Option<Value>, ignore_case: bool) -> Self {
        Self::Attribute {
            parts: attribute_parts(attribute),
            default: default.filter(|default| !default.is_none()),
            ignore_case,
        }
    }

    pub fn of(&self, item: &Value, run: &mut Run) -> Outcome<Value> {
        match self {
            Self::Attribute {
                parts,
                default,
                ignore_case: ignoring,
            } => {
                let mut found = item.clone();
                for part in parts {
                    found = access::item(&found, part, run)?;
                    if let Some(default) = default
                        && found.is_undefined()
                    {
                        found = default.clone();
                    }
                }
                Ok(if *ignoring { ignore_case(found) } else { found })
            }
            Self::Filter(name, args, apply) => apply(name, item, args.clone(), run),
        }
    }
}

/// The key by which items are compared: an attribute, or themselves.
pub(super) fn key_of(attribute: Option<&Value>, sensitive: Option<&Value>) -> Outcome<Mapping> {
    let sensitive = sensitive.map_or(Ok(false), Value::is_true)?;
    let attribute = attribute.unwrap_or(&Value::None);
    Ok(Mapping::attribute(attribute, None, !sensitive))
}

/// The steps of an attribute such as `a.b.0`.
fn attribute_parts(attribute: &Value) -> Vec<Value> {
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
pub(super) fn ignore_case(value: Value) -> Value {
    match &value {
        Value::Str(text) | Value::Markup(text) => Value::from(lower(text)),
        _ => value,
    }
}
