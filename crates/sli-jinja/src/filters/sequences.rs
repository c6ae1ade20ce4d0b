//! Filters for sequences and mappings.

use std::collections::VecDeque;
use std::rc::Rc;

use super::mapping::Mapping;
use crate::arithmetic::binary;
use crate::error::{Outcome, other, type_error};
use crate::iterate::{self, Iter, collect, iterate, reversed};
use crate::operators::Binary;
use crate::repr::to_str;
use crate::run::Run;
use crate::value::{Args, Iterate, Value, View};

pub(super) fn apply(name: &str, value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    match name {
        "length" | "count" => {
            args.only::<0>(name, 0)?;
            iterate::length(value, run).map(Value::Int)
        }
        "list" => {
            args.only::<0>(name, 0)?;
            collect(value, run).map(Value::list)
        }
        "first" => {
            args.only::<0>(name, 0)?;
            let first = iterate(value)?.next(run)?;
            Ok(first.unwrap_or_else(|| Value::undefined("there is no first item")))
        }
        "last" => {
            args.only::<0>(name, 0)?;
            let reversed = match value {
                Value::Undefined(_) => Some(value.clone()),
                value => reversed(value),
            };
            let Some(reversed) = reversed else {
                return type_error(format!("a `{}` has no last item", value.type_name()));
            };
            let last = iterate(&reversed)?.next(run)?;
            Ok(last.unwrap_or_else(|| Value::undefined("there is no last item")))
        }
        "reverse" => {
            args.only::<0>(name, 0)?;
            if let Some(text) = value.as_str() {
                run.pay_bytes(text.len())?;
                let backwards: String = text.chars().rev().collect();
                return Ok(value.like(backwards));
            }
            if let Some(reversed) = reversed(value) {
                return Ok(reversed);
            }
            if value.is_undefined() {
                return Ok(Value::iter(Iter::Done));
            }
            let mut items = collect(value, run)?;
            items.reverse();
            Ok(Value::list(items))
        }
        "items" => {
            args.only::<0>(name, 0)?;
            match value {
                Value::Undefined(_) => Ok(Value::iter(Iter::Done)),
                Value::Dict(dict) => Ok(Value::iter(Iter::View(Rc::clone(dict), View::Items, 0))),
                _ => type_error("items takes a mapping"),
            }
        }
        "join" => join(value, args, run),
        "slice" => slices(value, args, run),
        _ => {
            let [attribute, start] = args.bind(name, ["attribute", "start"], 0)?;
            let key = attribute
                .filter(|attribute| !attribute.is_none())
                .map(|attribute| Mapping::attribute(&attribute, None, false));
            let mut total = start.unwrap_or(Value::Int(0));
            if total.as_str().is_some() {
                return type_error("strings are joined, not summed");
            }
            let mut iter = iterate(value)?;
            while let Some(item) = iter.next(run)? {
                let item = match &key {
                    Some(key) => key.of(&item, run)?,
                    None => item,
                };
                total = binary(Binary::Add, &total, &item, run)?;
            }
            Ok(total)
        }
    }
}

fn join(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"], 0)?;
    let separator = match &separator {
        Some(separator) => to_str(separator, run)?,
        None => "".into(),
    };
    let key = attribute
        .filter(|attribute| !attribute.is_none())
        .map(|attribute| Mapping::attribute(&attribute, None, false));
    let mut iter = iterate(value)?;
    let mut joined = String::new();
    let mut first = true;
    while let Some(item) = iter.next(run)? {
        let item = match &key {
            Some(key) => key.of(&item, run)?,
            None => item,
        };
        let part = to_str(&item, run)?;
        run.pay_bytes(part.len() + separator.len())?;
        if !first {
            joined.push_str(&separator);
        }
        first = false;
        joined.push_str(&part);
    }
    Ok(Value::from(joined))
}

fn slices(value: &Value, args: &Args, run: &mut Run) -> Outcome<Value> {
    let [count, fill] = args.bind("slice", ["slices", "fill_with"], 1)?;
    let count = count.unwrap_or(Value::None).to_i64("slice")?;
    let fill = fill.filter(|fill| !fill.is_none());
    let items = collect(value, run)?;
    if count == 0 {
        return other("slice makes one slice at least");
    }
    let Ok(count) = usize::try_from(count) else {
        return Ok(Value::iter(Iter::Done));
    };
    run.pay(count as u64)?;
    let (each, longer) = (items.len() / count, items.len() % count);
    let mut slices = VecDeque::new();
    let mut start = 0;
    for slice in 0..count {
        let end = start + each + usize::from(slice < longer);
        let mut part: Vec<Value> = items.get(start..end).unwrap_or_default().to_vec();
        if slice >= longer
            && let Some(fill) = &fill
        {
            part.push(fill.clone());
        }
        slices.push_back(Value::list(part));
        start = end;
    }
    Ok(Value::iter(Iter::Queue(slices)))
}
