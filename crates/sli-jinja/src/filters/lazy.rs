//! Filters whose items are made when they are asked for.

use std::iter;
use std::rc::Rc;

use super::mapping::{Filter, Mapping, key_of};
use crate::compare::equal;
use crate::dict::Key;
use crate::error::{Outcome, other};
use crate::iterate::{Iter, iterate};
use crate::run::Run;
use crate::tests;
use crate::value::{Args, Iterate, Value};

pub(super) fn apply(name: &str, value: &Value, args: Args) -> Outcome<Value> {
    match name {
        "batch" => {
            let [count, fill] = args.bind(name, ["linecount", "fill_with"], 1)?;
            let count = count.and_then(|count| match count {
                Value::Float(float) if float.fract() == 0.0 => Some(float as i64),
                count => count.as_i64(),
            });
            let fill = fill.filter(|fill| !fill.is_none());
            Ok(Value::iter(Batches {
                source: iterate(value)?,
                size: count,
                fill,
                held: Some(Vec::new()),
            }))
        }
        "unique" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"], 0)?;
            let key = key_of(attribute.as_ref(), sensitive.as_ref())?;
            Ok(Value::iter(Unique {
                source: iterate(value)?,
                key,
                seen: Vec::new(),
            }))
        }
        _ => select(name, value, args),
    }
}

/// `map`, by an attribute or by what applies another filter.
pub(super) fn map(value: &Value, mut args: Args, apply: Filter, run: &mut Run) -> Outcome<Value> {
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
        Mapping::Filter(name, args, apply)
    };
    run.pay(1)?;
    Ok(Value::iter(Mapped {
        source: iterate(value)?,
        mapping,
    }))
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
    Ok(Value::iter(Selected {
        source: iterate(value)?,
        attribute,
        test,
        rejects: name.starts_with("reject"),
    }))
}

/// What is made of items.
#[derive(Debug)]
struct Mapped {
    source: Iter,
    mapping: Mapping,
}

impl Iterate for Mapped {
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>> {
        run.pay(1)?;
        match self.source.next(run)? {
            Some(item) => self.mapping.of(&item, run).map(Some),
            None => Ok(None),
        }
    }
}

/// Items that a test, or their truth, lets through.
#[derive(Debug)]
struct Selected {
    source: Iter,
    attribute: Option<Mapping>,
    test: Option<(Rc<str>, Args)>,
    rejects: bool,
}

impl Selected {
    fn takes(&self, item: &Value, run: &mut Run) -> Outcome<bool> {
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

impl Iterate for Selected {
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>> {
        run.pay(1)?;
        while let Some(item) = self.source.next(run)? {
            if self.takes(&item, run)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }
}

/// Items whose keys were not there before.
#[derive(Debug)]
struct Unique {
    source: Iter,
    key: Mapping,
    /// Keys and their hashes.
    seen: Vec<(u64, Value)>,
}

impl Iterate for Unique {
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>> {
        run.pay(1)?;
        while let Some(item) = self.source.next(run)? {
            let key = self.key.of(&item, run)?;
            let hashed = key.hash()?;
            let mut known = false;
            for (other, value) in &self.seen {
                known = known || (*other == hashed && equal(value, &key)?);
            }
            run.pay(self.seen.len() as u64 / 8)?;
            if !known {
                self.seen.push((hashed, key));
                return Ok(Some(item));
            }
        }
        Ok(None)
    }
}

/// Items in lists of a size.
#[derive(Debug)]
struct Batches {
    source: Iter,
    /// Nothing: no list ends before the items do.
    size: Option<i64>,
    fill: Option<Value>,
    /// The list that is begun; nothing at the end.
    held: Option<Vec<Value>>,
}

impl Iterate for Batches {
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>> {
        run.pay(1)?;
        let Some(mut batch) = self.held.take() else {
            return Ok(None);
        };
        while let Some(item) = self.source.next(run)? {
            if self.size == Some(batch.len() as i64) {
                self.held = Some(vec![item]);
                return Ok(Some(Value::list(batch)));
            }
            batch.push(item);
        }
        if batch.is_empty() {
            return Ok(None);
        }
        if let (Some(fill), Some(size)) = (&self.fill, self.size) {
            let more = usize::try_from(size.saturating_sub(batch.len() as i64)).unwrap_or(0);
            run.pay_bytes(more.saturating_mul(64))?;
            batch.extend(iter::repeat_n(fill, more).cloned());
        }
        Ok(Some(Value::list(batch)))
    }
}
