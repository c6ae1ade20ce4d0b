//! Iterators: what is gone through once, and lazily.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::{Kind, Outcome, fail, type_error};
use crate::range::Range;
use crate::run::Run;
use crate::text;
use crate::value::{Dict, Iterate, Value, View};

/// An iterator.
#[derive(Debug)]
pub(crate) enum Iter {
    Done,
    Items(Rc<Vec<Value>>, usize),
    Reversed(Rc<Vec<Value>>, usize),
    Queue(VecDeque<Value>),
    Chars(Rc<str>, usize),
    Bytes(Rc<[u8]>, usize),
    Range(Range, i64),
    View(Rc<Dict>, View, usize),
    ReversedView(Rc<Dict>, View, usize),
    Shared(Rc<RefCell<dyn Iterate>>),
    /// What is gone through in a way of its own.
    Own(Box<dyn Iterate>),
}

/// `iter(value)`.
pub(crate) fn iterate(value: &Value) -> Outcome<Iter> {
    Ok(match value {
        Value::Undefined(_) => Iter::Done,
        Value::Str(text) | Value::Markup(text) => Iter::Chars(Rc::clone(text), 0),
        Value::Bytes(bytes) => Iter::Bytes(Rc::clone(bytes), 0),
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            Iter::Items(Rc::clone(items), 0)
        }
        Value::Dict(dict) => Iter::View(Rc::clone(dict), View::Keys, 0),
        Value::View(dict, view) => Iter::View(Rc::clone(dict), *view, 0),
        Value::Range(range) => Iter::Range(*range, 0),
        Value::Iter(iter) => Iter::Shared(Rc::clone(iter)),
        Value::Object(object) => return Err(object.not_iterated()),
        value => {
            return type_error(format!("a `{}` cannot be gone through", value.type_name()));
        }
    })
}

/// Whether Python goes through a value.
pub(crate) fn is_iterable(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_iterable(),
        value => iterate(value).is_ok(),
    }
}

/// `len` of what tells it without being gone through; nothing for all else.
pub(crate) fn sized(value: &Value) -> Option<usize> {
    match value {
        Value::Undefined(_) => Some(0),
        Value::Str(text) | Value::Markup(text) => Some(text::length(text)),
        Value::Bytes(bytes) => Some(bytes.len()),
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => Some(items.len()),
        Value::Dict(dict) | Value::View(dict, _) => Some(dict.len()),
        Value::Range(range) => usize::try_from(range.len()).ok(),
        _ => None,
    }
}

/// `len(value)`.
pub(crate) fn length(value: &Value, run: &mut Run) -> Outcome<i64> {
    if let Value::Object(object) = value {
        return object.length(run);
    }
    match sized(value) {
        Some(length) => {
            if let Some(text) = value.as_str() {
                run.pay_bytes(text.len())?;
            }
            Ok(length as i64)
        }
        None => type_error(format!("a `{}` has no length", value.type_name())),
    }
}

/// `list(value)`.
pub(crate) fn collect(value: &Value, run: &mut Run) -> Outcome<Vec<Value>> {
    let mut iter = iterate(value)?;
    let mut items = Vec::new();
    while let Some(item) = iter.next(run)? {
        items.push(item);
    }
    Ok(items)
}

/// An entry of a mapping, as a view shows it.
pub(crate) fn entry((key, value): &(Value, Value), view: View) -> Value {
    match view {
        View::Keys => key.clone(),
        View::Values => value.clone(),
        View::Items => Value::tuple(vec![key.clone(), value.clone()]),
    }
}

/// `reversed(value)`; nothing if it cannot be.
pub(crate) fn reversed(value: &Value) -> Option<Value> {
    Some(Value::iter(match value {
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            Iter::Reversed(Rc::clone(items), items.len())
        }
        Value::Dict(dict) => Iter::ReversedView(Rc::clone(dict), View::Keys, dict.len()),
        Value::View(dict, view) => Iter::ReversedView(Rc::clone(dict), *view, dict.len()),
        Value::Range(range) => {
            let items: Vec<Value> = (0..range.len())
                .rev()
                .map(|at| Value::Int(range.get(at)))
                .collect();
            Iter::Items(Rc::new(items), 0)
        }
        Value::Str(text) | Value::Markup(text) => {
            let chars = text.chars().rev();
            Iter::Queue(chars.map(|c| Value::str(c.to_string())).collect())
        }
        Value::Bytes(bytes) => {
            let items = bytes.iter().rev().map(|&byte| Value::Int(i64::from(byte)));
            Iter::Queue(items.collect())
        }
        _ => return None,
    }))
}

impl Iterate for Iter {
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>> {
        if let Self::Own(iter) = self {
            return iter.next(run);
        }
        run.pay(1)?;
        Ok(match self {
            Self::Done | Self::Own(_) => None,
            Self::Items(items, at) => {
                *at += 1;
                items.get(*at - 1).cloned()
            }
            Self::Reversed(items, left) => match left.checked_sub(1) {
                Some(at) => {
                    *left = at;
                    items.get(at).cloned()
                }
                None => None,
            },
            Self::Queue(items) => items.pop_front(),
            Self::Chars(text, at) => {
                let c = text.get(*at..).and_then(|rest| rest.chars().next());
                c.map(|c| {
                    *at += c.len_utf8();
                    Value::str(c.encode_utf8(&mut [0; 4]))
                })
            }
            Self::Bytes(bytes, at) => {
                *at += 1;
                bytes.get(*at - 1).map(|&byte| Value::Int(i64::from(byte)))
            }
            Self::Range(range, at) => {
                *at += 1;
                (*at <= range.len()).then(|| Value::Int(range.get(*at - 1)))
            }
            Self::View(dict, view, at) => {
                *at += 1;
                dict.at(*at - 1).map(|found| entry(found, *view))
            }
            Self::ReversedView(dict, view, left) => match left.checked_sub(1) {
                Some(at) => {
                    *left = at;
                    dict.at(at).map(|found| entry(found, *view))
                }
                None => None,
            },
            Self::Shared(iter) => match iter.try_borrow_mut() {
                Ok(mut iter) => iter.next(run)?,
                Err(_) => return fail(Kind::Value, "the generator is at work already"),
            },
        })
    }
}
