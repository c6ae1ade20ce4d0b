//! The variable `loop`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::ast::For;
use crate::compare::equal;
use crate::error::Outcome;
use crate::iterate::{Iter, iterate};
use crate::run::{Activation, Run};
use crate::value::Value;

/// State of a loop.
#[derive(Debug)]
pub(crate) struct Loop {
    iter: Iter,
    /// What is gone through, for its length; nothing if it is a generator.
    sized: Option<usize>,
    length: Option<usize>,
    index0: i64,
    before: Option<Value>,
    current: Option<Value>,
    after: Option<Value>,
    changed: Option<Vec<Value>>,
    pub depth0: usize,
    /// What a recursive loop does, and where.
    pub recurse: Option<(Rc<For>, Rc<Activation>)>,
}

impl Loop {
    pub fn new(
        iter: Iter,
        sized: Option<usize>,
        depth0: usize,
        recurse: Option<(Rc<For>, Rc<Activation>)>,
    ) -> Self {
        Self {
            iter,
            sized,
            length: None,
            index0: -1,
            before: None,
            current: None,
            after: None,
            changed: None,
            depth0,
            recurse,
        }
    }

    pub fn index(&self) -> i64 {
        self.index0 + 1
    }
}

/// `len` of what a loop goes through; nothing if it has none.
pub(crate) fn sized(value: &Value) -> Option<usize> {
    match value {
        Value::Undefined(_) => Some(0),
        Value::Str(text) | Value::Markup(text) => Some(crate::text::length(text)),
        Value::Bytes(bytes) => Some(bytes.len()),
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => Some(items.len()),
        Value::Dict(dict) | Value::View(dict, _) => Some(dict.len()),
        Value::Range(range) => usize::try_from(range.len()).ok(),
        _ => None,
    }
}

type State = Rc<RefCell<Loop>>;

/// The next item of a loop, which is the current one then.
pub(crate) fn advance(state: &State, run: &mut Run<'_>) -> Outcome<Option<Value>> {
    let after = state.borrow_mut().after.take();
    let next = match after {
        Some(next) => Some(next),
        None => pull(state, run)?,
    };
    let mut state = state.borrow_mut();
    if let Some(next) = &next {
        state.index0 += 1;
        state.before = state.current.take();
        state.current = Some(next.clone());
    }
    Ok(next)
}

/// An item of the iterator, which may need the loop's own variables meanwhile.
fn pull(state: &State, run: &mut Run<'_>) -> Outcome<Option<Value>> {
    let mut iter = std::mem::replace(&mut state.borrow_mut().iter, Iter::Done);
    let next = iter.next(run);
    state.borrow_mut().iter = iter;
    next
}

fn peek(state: &State, run: &mut Run<'_>) -> Outcome<Option<Value>> {
    let after = state.borrow().after.clone();
    if after.is_some() {
        return Ok(after);
    }
    let next = pull(state, run)?;
    state.borrow_mut().after.clone_from(&next);
    Ok(next)
}

/// `loop.length`.
pub(crate) fn length(state: &State, run: &mut Run<'_>) -> Outcome<i64> {
    let known = {
        let state = state.borrow();
        state.length.or(state.sized)
    };
    let length = match known {
        Some(length) => length,
        None => {
            let mut rest = Vec::new();
            while let Some(item) = pull(state, run)? {
                rest.push(item);
            }
            let mut state = state.borrow_mut();
            let passed = usize::try_from(state.index()).unwrap_or(0);
            let length = rest.len() + passed + usize::from(state.after.is_some());
            state.iter = Iter::Items(Rc::new(rest), 0);
            length
        }
    };
    state.borrow_mut().length = Some(length);
    Ok(length as i64)
}

/// An attribute of `loop` that is no method; nothing if it has none of this name.
pub(crate) fn attribute(state: &State, name: &str, run: &mut Run<'_>) -> Outcome<Option<Value>> {
    let index0 = state.borrow().index0;
    Ok(Some(match name {
        "index" => Value::Int(index0 + 1),
        "index0" => Value::Int(index0),
        "revindex" => Value::Int(length(state, run)? - index0),
        "revindex0" => Value::Int(length(state, run)? - index0 - 1),
        "length" => Value::Int(length(state, run)?),
        "first" => Value::Bool(index0 == 0),
        "last" => Value::Bool(peek(state, run)?.is_none()),
        "depth" => Value::length(state.borrow().depth0 + 1),
        "depth0" => Value::length(state.borrow().depth0),
        "previtem" if index0 == 0 => Value::undefined("there is no previous item"),
        "previtem" => {
            let before = state.borrow().before.clone();
            before.unwrap_or_else(|| Value::undefined("there is no previous item"))
        }
        "nextitem" => {
            peek(state, run)?.unwrap_or_else(|| Value::undefined("there is no next item"))
        }
        _ => return Ok(None),
    }))
}

/// `loop.changed(..)`.
pub(crate) fn changed(state: &State, values: Vec<Value>) -> Outcome<bool> {
    let last = state.borrow().changed.clone();
    if let Some(last) = last
        && equal(&Value::tuple(last), &Value::tuple(values.clone()))?
    {
        return Ok(false);
    }
    state.borrow_mut().changed = Some(values);
    Ok(true)
}

/// `loop.cycle(..)`.
pub(crate) fn cycle(state: &State, values: &[Value]) -> Outcome<Value> {
    let index0 = state.borrow().index0;
    let count = values.len() as i64;
    if count == 0 {
        return crate::error::type_error("no items for cycling given");
    }
    Ok(values[index0.rem_euclid(count) as usize].clone())
}

/// What a `for` goes through.
pub(crate) fn source(value: &Value) -> Outcome<(Iter, Option<usize>)> {
    Ok((iterate(value)?, sized(value)))
}
