//! Iterators: what is gone through once, and lazily.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::compare::equal;
use crate::dict::{Dict, hash};
use crate::error::{Kind, Outcome, fail, type_error};
use crate::filters::{Mapping, Selection};
use crate::run::{LoopCondition, Run};
use crate::value::{Range, Value, View};

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
    Shared(Rc<RefCell<Iter>>),
    Map(Box<Iter>, Rc<Mapping>),
    Select(Box<Iter>, Rc<Selection>),
    Unique(Box<Iter>, Rc<Mapping>, Vec<(u64, Value)>),
    Batch(Box<Iter>, Option<i64>, Option<Value>, Option<Vec<Value>>),
    Condition(Box<Iter>, Rc<LoopCondition>),
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
        Value::Loop(_) => return fail(Kind::Other, "going through `loop` is not supported"),
        value => {
            return type_error(format!("a `{}` cannot be gone through", value.type_name()));
        }
    })
}

/// `list(value)`.
pub(crate) fn collect(value: &Value, run: &mut Run<'_>) -> Outcome<Vec<Value>> {
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

impl Iter {
    /// The next item.
    pub fn next(&mut self, run: &mut Run<'_>) -> Outcome<Option<Value>> {
        run.pay(1)?;
        Ok(match self {
            Self::Done => None,
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
                (*at <= range.len()).then(|| range.get(*at - 1))
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
            Self::Map(source, mapping) => match source.next(run)? {
                Some(item) => Some(mapping.of(&item, run)?),
                None => None,
            },
            Self::Select(source, selection) => loop {
                match source.next(run)? {
                    Some(item) if selection.takes(&item, run)? => break Some(item),
                    Some(_) => {}
                    None => break None,
                }
            },
            Self::Unique(source, key, seen) => loop {
                let Some(item) = source.next(run)? else {
                    break None;
                };
                let key = key.of(&item, run)?;
                let hashed = hash(&key)?;
                let mut known = false;
                for (other, value) in seen.iter() {
                    known = known || (*other == hashed && equal(value, &key)?);
                }
                run.pay(seen.len() as u64 / 8)?;
                if !known {
                    seen.push((hashed, key));
                    break Some(item);
                }
            },
            Self::Batch(source, size, fill, held) => {
                let Some(mut batch) = held.take() else {
                    return Ok(None);
                };
                loop {
                    match source.next(run)? {
                        Some(item) => {
                            if *size == Some(batch.len() as i64) {
                                *held = Some(vec![item]);
                                break Some(Value::list(batch));
                            }
                            batch.push(item);
                        }
                        None if batch.is_empty() => break None,
                        None => {
                            if let (Some(fill), Some(size)) = (fill, *size) {
                                let more = size.saturating_sub(batch.len() as i64).max(0);
                                run.pay_bytes(
                                    usize::try_from(more)
                                        .unwrap_or(usize::MAX)
                                        .saturating_mul(64),
                                )?;
                                for _ in 0..more {
                                    batch.push(fill.clone());
                                }
                            }
                            break Some(Value::list(batch));
                        }
                    }
                }
            }
            Self::Condition(source, condition) => loop {
                match source.next(run)? {
                    Some(item) => {
                        if let Some(item) = run.loop_takes(condition, &item)? {
                            break Some(item);
                        }
                    }
                    None => break None,
                }
            },
        })
    }
}
