//! Comparisons, as operators and tests make them.

use std::cmp::Ordering::{Equal, Greater, Less};

use crate::arguments::text;
use crate::compare::{equal, is_same, order};
use crate::error::Outcome;
use crate::iterate::iterate;
use crate::operators::Comparison;
use crate::run::Run;
use crate::value::{Iterate, Value, View};

/// Whether a comparison holds.
pub(crate) fn compare(
    comparison: Comparison,
    one: &Value,
    two: &Value,
    run: &mut Run,
) -> Outcome<bool> {
    run.pay(1)?;
    Ok(match comparison {
        Comparison::Eq => equal(one, two)?,
        Comparison::Ne => !equal(one, two)?,
        Comparison::Lt => order(one, two, "<")? == Some(Less),
        Comparison::Le => matches!(order(one, two, "<=")?, Some(Less | Equal)),
        Comparison::Gt => order(one, two, ">")? == Some(Greater),
        Comparison::Ge => matches!(order(one, two, ">=")?, Some(Greater | Equal)),
        Comparison::In => contains(two, one, run)?,
        Comparison::NotIn => !contains(two, one, run)?,
    })
}

/// `item in container`.
pub(crate) fn contains(container: &Value, item: &Value, run: &mut Run) -> Outcome<bool> {
    match container {
        Value::Str(whole) | Value::Markup(whole) => {
            let part = text(item, "`in` a string")?;
            run.pay_bytes(whole.len())?;
            Ok(whole.contains(&**part))
        }
        Value::Dict(dict) | Value::View(dict, View::Keys) => Ok(dict.get(item)?.is_some()),
        Value::Range(range) if item.as_int().is_some() || matches!(item, Value::Float(_)) => {
            let whole = match item {
                Value::Float(value) if value.fract() == 0.0 => *value as i64,
                item => match item.as_i64() {
                    Some(value) => value,
                    None => return Ok(false),
                },
            };
            Ok(range.contains(whole))
        }
        container => {
            let mut iter = iterate(container)?;
            while let Some(found) = iter.next(run)? {
                if is_same(&found, item) && !matches!(found, Value::Float(_))
                    || equal(&found, item)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
