//! Python's comparisons.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use num_bigint::BigInt;
use num_traits::FromPrimitive;

use crate::dict::Key;
use crate::error::{Kind, Outcome, fail, type_error};
use crate::value::{Value, View};

/// How deeply values may hold each other where they are walked.
pub(crate) const DEEPEST: usize = 900;

/// `one == other`.
pub(crate) fn equal(one: &Value, other: &Value) -> Outcome<bool> {
    equal_at(one, other, 0)
}

fn equal_at(one: &Value, other: &Value, depth: usize) -> Outcome<bool> {
    if depth > DEEPEST {
        return fail(Kind::Other, "values hold each other too deeply");
    }
    Ok(match (one, other) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(one) | Value::Markup(one), Value::Str(other) | Value::Markup(other)) => {
            one == other
        }
        (Value::Bytes(one), Value::Bytes(other)) => one == other,
        (Value::List(one), Value::List(other)) => equal_items(one, other, depth)?,
        (Value::Tuple(one) | Value::Group(one), Value::Tuple(other) | Value::Group(other)) => {
            equal_items(one, other, depth)?
        }
        (Value::Dict(one), Value::Dict(other)) => {
            if Rc::ptr_eq(one, other) {
                return Ok(true);
            }
            if one.len() != other.len() {
                return Ok(false);
            }
            for (key, value) in one.iter() {
                match other.get(key)? {
                    Some(found) if is_or_equal(value, found, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::View(one, View::Keys), Value::View(other, View::Keys)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, _)| matches!(other.get(key), Ok(Some(_))))
        }
        (Value::View(one, View::Items), Value::View(other, View::Items)) => {
            return equal_at(
                &Value::Dict(Rc::clone(one)),
                &Value::Dict(Rc::clone(other)),
                depth,
            );
        }
        (Value::Range(one), Value::Range(other)) => {
            let length = one.len();
            length == other.len()
                && (length == 0
                    || (one.start == other.start && (length == 1 || one.step == other.step)))
        }
        (Value::Iter(one), Value::Iter(other)) => Rc::ptr_eq(one, other),
        (Value::Namespace(one), Value::Namespace(other)) => Rc::ptr_eq(one, other),
        (Value::Object(one), Value::Object(other)) => Rc::ptr_eq(one, other),
        (Value::Method(one), Value::Method(other)) => one.1 == other.1 && is_same(&one.0, &other.0),
        _ => numbers(one, other) == Some(Some(Ordering::Equal)),
    })
}

fn equal_items(one: &Rc<Vec<Value>>, other: &Rc<Vec<Value>>, depth: usize) -> Outcome<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    for (one, other) in one.iter().zip(other.iter()) {
        if !is_or_equal(one, other, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Items of containers are alike if they are the same thing or equal.
fn is_or_equal(one: &Value, other: &Value, depth: usize) -> Outcome<bool> {
    Ok(is_identical(one, other) || equal_at(one, other, depth)?)
}

/// Whether two values are one thing in memory for certain.
fn is_identical(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::List(one), Value::List(other)) | (Value::Tuple(one), Value::Tuple(other)) => {
            Rc::ptr_eq(one, other)
        }
        (Value::Dict(one), Value::Dict(other)) => Rc::ptr_eq(one, other),
        _ => false,
    }
}

/// Python's `is`, which is certain for what can be told apart.
pub(crate) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::None, Value::None) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Int(one), Value::Int(other)) => one == other,
        (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
        (Value::Str(one), Value::Str(other)) => one == other,
        (Value::Tuple(one), Value::Tuple(other)) if one.is_empty() && other.is_empty() => true,
        (Value::Undefined(one), Value::Undefined(other)) => Rc::ptr_eq(one, other),
        (Value::Iter(_) | Value::Namespace(_) | Value::Object(_), _) => {
            equal(one, other).unwrap_or(false)
        }
        _ => is_identical(one, other),
    }
}

impl Key for Value {
    fn hash(&self) -> Outcome<u64> {
        let mut hasher = DefaultHasher::new();
        add_to_hash(self, &mut hasher)?;
        Ok(hasher.finish())
    }

    fn equals(&self, other: &Self) -> Outcome<bool> {
        equal(self, other)
    }

    fn of_text(text: &str) -> Self {
        Self::str(text)
    }

    fn text(&self) -> Option<&str> {
        self.as_str().map(|text| &**text)
    }
}

fn add_to_hash(value: &Value, hasher: &mut DefaultHasher) -> Outcome<()> {
    match value {
        Value::None => 1u8.hash(hasher),
        Value::Bool(value) => BigInt::from(*value).hash(hasher),
        Value::Int(value) => BigInt::from(*value).hash(hasher),
        Value::Big(value) => value.hash(hasher),
        Value::Float(value) => match BigInt::from_f64(*value) {
            Some(whole) if value.fract() == 0.0 => whole.hash(hasher),
            _ => value.to_bits().hash(hasher),
        },
        Value::Str(text) | Value::Markup(text) => text.hash(hasher),
        Value::Bytes(bytes) => bytes.hash(hasher),
        Value::Tuple(items) | Value::Group(items) => {
            for item in &**items {
                add_to_hash(item, hasher)?;
            }
        }
        Value::Range(range) => range.len().hash(hasher),
        Value::Undefined(_) => 2u8.hash(hasher),
        Value::List(_) | Value::Dict(_) | Value::View(..) => {
            return type_error(format!("unhashable type: `{}`", value.type_name()));
        }
        // All others are told apart when they are compared.
        _ => 3u8.hash(hasher),
    }
    Ok(())
}

/// How two numbers compare: nothing if one is no number, nothing inside if one is NaN.
#[expect(
    clippy::option_option,
    reason = "no numbers at all, and numbers without an order, are two things"
)]
fn numbers(one: &Value, other: &Value) -> Option<Option<Ordering>> {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => Some(one.partial_cmp(other)),
        (Value::Float(one), _) => {
            let other = other.as_int()?;
            Some(float_and_int(*one, &other))
        }
        (_, Value::Float(other)) => {
            let one = one.as_int()?;
            Some(float_and_int(*other, &one).map(Ordering::reverse))
        }
        (Value::Int(one), Value::Int(other)) => Some(Some(one.cmp(other))),
        _ => Some(Some(one.as_int()?.cmp(&other.as_int()?))),
    }
}

fn float_and_int(float: f64, int: &BigInt) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    let Some(whole) = BigInt::from_f64(float.trunc()) else {
        return Some(if float > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        });
    };
    let fraction = float.fract();
    Some(
        whole
            .cmp(int)
            .then(fraction.partial_cmp(&0.0).unwrap_or(Ordering::Equal)),
    )
}

/// How two values that can be ordered compare; nothing inside for NaN.
pub(crate) fn order(one: &Value, other: &Value, sign: &str) -> Outcome<Option<Ordering>> {
    order_at(one, other, sign, 0)
}

fn order_at(one: &Value, other: &Value, sign: &str, depth: usize) -> Outcome<Option<Ordering>> {
    if depth > DEEPEST {
        return fail(Kind::Other, "values hold each other too deeply");
    }
    if let Some(ordering) = numbers(one, other) {
        return Ok(ordering);
    }
    match (one, other) {
        (Value::Str(one) | Value::Markup(one), Value::Str(other) | Value::Markup(other)) => {
            Ok(Some(one.cmp(other)))
        }
        (Value::Bytes(one), Value::Bytes(other)) => Ok(Some(one.cmp(other))),
        (Value::List(one), Value::List(other))
        | (Value::Tuple(one) | Value::Group(one), Value::Tuple(other) | Value::Group(other)) => {
            for (one, other) in one.iter().zip(other.iter()) {
                if !is_or_equal(one, other, depth + 1)? {
                    return order_at(one, other, sign, depth + 1);
                }
            }
            Ok(Some(one.len().cmp(&other.len())))
        }
        (Value::Undefined(reason), _) | (_, Value::Undefined(reason)) => {
            fail(Kind::Other, &**reason)
        }
        _ => type_error(format!(
            "`{sign}` is not supported between `{}` and `{}`",
            one.type_name(),
            other.type_name()
        )),
    }
}

/// `one < other`.
pub(crate) fn less(one: &Value, other: &Value) -> Outcome<bool> {
    if let (Value::View(..), Value::View(..)) = (one, other) {
        return fail(Kind::Other, "comparisons of views are not supported");
    }
    Ok(order(one, other, "<")? == Some(Ordering::Less))
}

/// Sorts stably by keys, as Python does.
pub(crate) fn sort(items: &mut Vec<(Value, Value)>, reverse: bool) -> Outcome<()> {
    let mut failed = None;
    // Whatever is wrong with the order of such keys, an error is the result.
    let by = |one: &(Value, Value), two: &(Value, Value), failed: &mut Option<_>| match less(
        &one.0, &two.0,
    )
    .and_then(|is_less| {
        if is_less {
            Ok(Ordering::Less)
        } else if less(&two.0, &one.0)? {
            Ok(Ordering::Greater)
        } else {
            Ok(Ordering::Equal)
        }
    }) {
        Ok(ordering) => ordering,
        Err(error) => {
            failed.get_or_insert(error);
            Ordering::Equal
        }
    };
    if reverse {
        items.reverse();
    }
    let mut sorted = std::mem::take(items);
    merge_sort(&mut sorted, &mut |one, two| by(one, two, &mut failed));
    if reverse {
        sorted.reverse();
    }
    *items = sorted;
    failed.map_or(Ok(()), Err)
}

/// A stable sort that bears any order.
fn merge_sort<T: Clone>(items: &mut [T], by: &mut dyn FnMut(&T, &T) -> Ordering) {
    if items.len() < 2 {
        return;
    }
    let (left, right) = items.split_at_mut(items.len() / 2);
    merge_sort(left, by);
    merge_sort(right, by);
    let (left, right) = (left.to_vec(), right.to_vec());
    let (mut at_left, mut at_right) = (0, 0);
    for item in items.iter_mut() {
        let from_left = match (left.get(at_left), right.get(at_right)) {
            (Some(one), Some(two)) => by(two, one) != Ordering::Less,
            (left, _) => left.is_some(),
        };
        if from_left {
            item.clone_from(&left[at_left]);
            at_left += 1;
        } else {
            item.clone_from(&right[at_right]);
            at_right += 1;
        }
    }
}
