//! Filters for sequences and mappings.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{apply as apply_filter, attribute_parts, ignore_case};
use crate::access;
use crate::arguments::Args;
use crate::arithmetic::binary;
use crate::compare::{equal, less, sort};
use crate::error::{Outcome, other, type_error};
use crate::iterate::{Iter, collect, iterate};
use crate::methods::reversed;
use crate::operators::Binary;
use crate::run::Run;
use crate::tests;
use crate::value::{Value, View};

/// What is made of each item.
#[derive(Debug)]
pub(crate) enum Mapping {
    Attribute {
        parts: Vec<Value>,
        default: Option<Value>,
        ignore_case: bool,
    },
    Filter(Rc<str>, Args),
}

impl Mapping {
    fn attribute(attribute: &Value, default: Option<Value>, ignore_case: bool) -> Self {
        Self::Attribute {
            parts: attribute_parts(attribute),
            default: default.filter(|default| !default.is_none()),
            ignore_case,
        }
    }

    pub fn of(&self, item: &Value, run: &mut Run<'_>) -> Outcome<Value> {
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
            Self::Filter(name, args) => apply_filter(name, item, args.clone(), run),
        }
    }
}

/// Which items are kept.
#[derive(Debug)]
pub(crate) struct Selection {
    attribute: Option<Mapping>,
    test: Option<(Rc<str>, Args)>,
    rejects: bool,
}

impl Selection {
    pub fn takes(&self, item: &Value, run: &mut Run<'_>) -> Outcome<bool> {
        let value = match &self.attribute {
            Some(attribute) => attribute.of(item, run)?,
            None => item.clone(),
        };
        let holds = match &self.test {
            Some((name, args)) => tests::apply(name, &value, args, run)?,
            None => value.is_true()?,
        };
        Ok(holds != self.rejects)
    }
}

pub(super) fn apply(name: &str, value: &Value, args: Args, run: &mut Run<'_>) -> Outcome<Value> {
    match name {
        "length" | "count" => {
            args.only::<0>(name, 0)?;
            run.length(value).map(Value::Int)
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
        "join" => join(value, &args, run),
        "map" => map(value, args, run),
        "select" | "selectattr" | "reject" | "rejectattr" => select(name, value, args),
        "batch" => {
            let [count, fill] = args.bind(name, ["linecount", "fill_with"], 1)?;
            let count = count.and_then(|count| match count {
                Value::Float(float) if float.fract() == 0.0 => Some(float as i64),
                count => count.as_i64(),
            });
            let fill = fill.filter(|fill| !fill.is_none());
            Ok(Value::iter(Iter::Batch(
                Box::new(iterate(value)?),
                count,
                fill,
                Some(Vec::new()),
            )))
        }
        "slice" => slices(value, &args, run),
        "unique" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let key = key_of(attribute.as_ref(), sensitive.as_ref())?;
            Ok(Value::iter(Iter::Unique(
                Box::new(iterate(value)?),
                Rc::new(key),
                Vec::new(),
            )))
        }
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
        "dictsort" => dict_sort(value, &args, run),
        "groupby" => group_by(value, &args, run),
        "min" | "max" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let key = key_of(attribute.as_ref(), sensitive.as_ref())?;
            extreme(name == "max", value, &key, run)
        }
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

fn key_of(attribute: Option<&Value>, sensitive: Option<&Value>) -> Outcome<Mapping> {
    let sensitive = sensitive.map_or(Ok(false), Value::is_true)?;
    let attribute = attribute.unwrap_or(&Value::None);
    Ok(Mapping::attribute(attribute, None, !sensitive))
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

fn sorted(mut keyed: Vec<(Value, Value)>, reverse: bool, run: &mut Run<'_>) -> Outcome<Vec<Value>> {
    let count = keyed.len() as u64;
    run.pay(count * u64::from(64 - count.leading_zeros()))?;
    sort(&mut keyed, reverse)?;
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

fn join(value: &Value, args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"], 0)?;
    let separator = match &separator {
        Some(separator) => run.string(separator)?,
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
        let part = run.string(&item)?;
        run.pay_bytes(part.len() + separator.len())?;
        if !first {
            joined.push_str(&separator);
        }
        first = false;
        joined.push_str(&part);
    }
    Ok(Value::from(joined))
}

fn map(value: &Value, mut args: Args, run: &mut Run<'_>) -> Outcome<Value> {
    if !value.is_true()? {
        return Ok(Value::iter(Iter::Done));
    }
    let mapping = if args.positional.is_empty()
        && let Some(attribute) = args.take("attribute")
    {
        let default = args.take("default");
        if let Some((name, _)) = args.keyword.first() {
            return other(format!("map has no argument `{name}`"));
        }
        Mapping::attribute(&attribute, default, false)
    } else {
        if args.positional.is_empty() {
            return other("map needs a filter");
        }
        let name = args.positional.remove(0);
        let name = match &name {
            Value::Undefined(reason) => return other(&**reason),
            name => match name.as_str() {
                Some(name) => Rc::clone(name),
                None => return other("map needs the name of a filter"),
            },
        };
        Mapping::Filter(name, args)
    };
    run.pay(1)?;
    Ok(Value::iter(Iter::Map(
        Box::new(iterate(value)?),
        Rc::new(mapping),
    )))
}

fn select(name: &str, value: &Value, mut args: Args) -> Outcome<Value> {
    if !value.is_true()? {
        return Ok(Value::iter(Iter::Done));
    }
    let attribute = if name.ends_with("attr") {
        if args.positional.is_empty() {
            return other(format!("{name} needs an attribute"));
        }
        let attribute = args.positional.remove(0);
        Some(Mapping::attribute(&attribute, None, false))
    } else {
        None
    };
    let test = if args.positional.is_empty() {
        None
    } else {
        let test = args.positional.remove(0);
        match test.as_str() {
            Some(test) => Some((Rc::clone(test), args)),
            None => return other(format!("{name} needs the name of a test")),
        }
    };
    let selection = Selection {
        attribute,
        test,
        rejects: name.starts_with("reject"),
    };
    Ok(Value::iter(Iter::Select(
        Box::new(iterate(value)?),
        Rc::new(selection),
    )))
}

fn slices(value: &Value, args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
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

fn dict_sort(value: &Value, args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
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

fn group_by(value: &Value, args: &Args, run: &mut Run<'_>) -> Outcome<Value> {
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

fn extreme(largest: bool, value: &Value, key: &Mapping, run: &mut Run<'_>) -> Outcome<Value> {
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
