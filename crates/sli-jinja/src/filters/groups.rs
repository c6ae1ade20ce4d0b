//! Filters that compare items: sorts, groups, the least and the largest.

use std::rc::Rc;

use super::mapping::{Mapping, ignore_case, key_of};
use crate::compare::{equal, less, sort};
use crate::error::{Outcome, other, type_error};
use crate::iterate::{collect, iterate};
use crate::run::Run;
use crate::value::{Args, Iterate, Value};

pub(super) fn apply(name: &str, value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    match name {
        "sort" => {
            let names = ["reverse", "case_sensitive", "attribute"];
            let [reverse, sensitive, attribute] = args.bind(name, names, 0)?;
            let reverse = reverse.map_or(Ok(false), |reverse| reverse.is_true())?;
            let sensitive = sensitive.map_or(Ok(false), |sensitive| sensitive.is_true())?;
            let keys = sort_keys(attribute.as_ref(), sensitive);
            let mut keyed = Vec::new();
            for item in collect(value, run)? {
                let key = keys.iter().map(|key| key.of(&item, run));
                keyed.push((Value::list(key.collect::<Outcome<_>>()?), item));
            }
            sorted(keyed, reverse, run).map(Value::list)
        }
        "dictsort" => dict_sort(value, args, run),
        "groupby" => group_by(value, args, run),
        _ => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let key = key_of(attribute.as_ref(), sensitive.as_ref())?;
            extreme(name == "max", value, &key, run)
        }
    }
}

/// Keys of a sort by several attributes: `a,b.c`.
fn sort_keys(attribute: Option<&Value>, sensitive: bool) -> Vec<Mapping> {
    match attribute {
        Some(Value::Str(names) | Value::Markup(names)) => names
            .split(',')
            .map(|name| Mapping::attribute(&Value::str(name), None, !sensitive))
            .collect(),
        other => {
            let attribute = other.unwrap_or(&Value::None);
            vec![Mapping::attribute(attribute, None, !sensitive)]
        }
    }
}

fn sorted(mut keyed: Vec<(Value, Value)>, reverse: bool, run: &mut Run) -> Outcome<Vec<Value>> {
    let count = keyed.len() as u64;
    run.pay(count * u64::from(64 - count.leading_zeros()))?;
    sort(&mut keyed, reverse)?;
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

fn dict_sort(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let names = ["case_sensitive", "by", "reverse"];
    let [sensitive, by, reverse] = args.bind("dictsort", names, 0)?;
    let sensitive = sensitive.map_or(Ok(false), |sensitive| sensitive.is_true())?;
    let reverse = reverse.map_or(Ok(false), |reverse| reverse.is_true())?;
    let by_value = match &by {
        None => false,
        Some(by) => match by.as_str().map(|by| &**by) {
            Some("key") => false,
            Some("value") => true,
            _ => return other("dictsort sorts by `key` or `value`"),
        },
    };
    let dict = match value {
        Value::Dict(dict) => dict,
        Value::Undefined(reason) => return other(&**reason),
        _ => return type_error("dictsort takes a mapping"),
    };
    let keyed = dict.iter().map(|(key, value)| {
        let by = if by_value { value } else { key }.clone();
        let by = if sensitive { by } else { ignore_case(by) };
        (by, Value::tuple(vec![key.clone(), value.clone()]))
    });
    sorted(keyed.collect(), reverse, run).map(Value::list)
}

fn group_by(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let names = ["attribute", "default", "case_sensitive"];
    let [attribute, default, sensitive] = args.bind("groupby", names, 1)?;
    let attribute = attribute.unwrap_or(Value::None);
    let sensitive = sensitive.map_or(Ok(false), |sensitive| sensitive.is_true())?;
    let key = Mapping::attribute(&attribute, default.clone(), !sensitive);
    let shown = Mapping::attribute(&attribute, default, false);
    let mut keyed = Vec::new();
    for item in collect(value, run)? {
        keyed.push((key.of(&item, run)?, item));
    }
    let count = keyed.len() as u64;
    run.pay(count * u64::from(64 - count.leading_zeros()))?;
    sort(&mut keyed, false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in keyed {
        match groups.last_mut() {
            Some((last, items)) if equal(last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut tuples = Vec::new();
    for (key, items) in groups {
        let shown = match items.first() {
            Some(first) if !sensitive => shown.of(first, run)?,
            _ => key,
        };
        tuples.push(Value::Group(Rc::new(vec![shown, Value::list(items)])));
    }
    Ok(Value::list(tuples))
}

fn extreme(largest: bool, value: &Value, key: &Mapping, run: &mut Run) -> Outcome<Value> {
    let mut iter = iterate(value)?;
    let Some(mut best) = iter.next(run)? else {
        return Ok(Value::undefined("the sequence was empty"));
    };
    let mut best_key = key.of(&best, run)?;
    while let Some(item) = iter.next(run)? {
        let item_key = key.of(&item, run)?;
        let better = if largest {
            less(&best_key, &item_key)?
        } else {
            less(&item_key, &best_key)?
        };
        if better {
            (best, best_key) = (item, item_key);
        }
    }
    Ok(best)
}
