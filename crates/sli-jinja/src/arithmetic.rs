//! Python's arithmetic.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::error::{Kind, Outcome, fail, type_error};
use crate::format::percent;
use crate::numbers::{as_float, quotient, to_float, zero_division};
use crate::operators::Binary;
use crate::run::Run;
use crate::text::escape;
use crate::value::Value;

/// Bits of the largest integer.
const MOST_BITS: u64 = 1 << 20;

/// `left operator right`.
pub(crate) fn binary(
    operator: Binary,
    left: &Value,
    right: &Value,
    run: &mut Run,
) -> Outcome<Value> {
    if let (Value::Int(one), Value::Int(other)) = (left, right)
        && let Some(value) = small(operator, *one, *other)
    {
        return Ok(Value::Int(value));
    }
    if operator == Binary::Mod && left.as_str().is_some() {
        return percent::format(left, right, run);
    }
    if let Value::Undefined(reason) = left {
        return fail(Kind::Other, &**reason);
    }
    if let Value::Undefined(reason) = right {
        return fail(Kind::Other, &**reason);
    }
    match operator {
        Binary::Add => {
            if let Some(value) = concatenated(left, right, run)? {
                return Ok(value);
            }
        }
        Binary::Mul => {
            if let Some(value) = repeated(left, right, run)? {
                return Ok(value);
            }
        }
        _ => {}
    }
    match (left.as_int(), right.as_int()) {
        (Some(one), Some(other)) => integers(operator, &one, &other, run),
        _ => match (as_float(left)?, as_float(right)?) {
            (Some(one), Some(other)) => floats(operator, one, other),
            _ => type_error(format!(
                "this operation is not supported between `{}` and `{}`",
                left.type_name(),
                right.type_name()
            )),
        },
    }
}

fn small(operator: Binary, one: i64, other: i64) -> Option<i64> {
    match operator {
        Binary::Add => one.checked_add(other),
        Binary::Sub => one.checked_sub(other),
        Binary::Mul => one.checked_mul(other),
        Binary::FloorDiv if other != 0 => {
            let quotient = one.checked_div(other)?;
            let inexact = one % other != 0 && (one < 0) != (other < 0);
            Some(quotient - i64::from(inexact))
        }
        Binary::Mod if other != 0 => {
            let rest = one.checked_rem(other)?;
            Some(if rest != 0 && (rest < 0) != (other < 0) {
                rest + other
            } else {
                rest
            })
        }
        _ => None,
    }
}

fn concatenated(left: &Value, right: &Value, run: &mut Run) -> Outcome<Option<Value>> {
    Ok(Some(match (left, right) {
        (Value::Str(one), Value::Str(other)) => {
            run.pay_bytes(one.len() + other.len())?;
            Value::from(format!("{one}{other}"))
        }
        (Value::Str(one), Value::Markup(other)) => {
            run.pay_bytes(6 * one.len() + other.len())?;
            Value::Markup(format!("{}{other}", escape(one)).into())
        }
        (Value::Markup(one), Value::Str(other)) => {
            run.pay_bytes(one.len() + 6 * other.len())?;
            Value::Markup(format!("{one}{}", escape(other)).into())
        }
        (Value::Markup(one), Value::Markup(other)) => {
            run.pay_bytes(one.len() + other.len())?;
            Value::Markup(format!("{one}{other}").into())
        }
        (Value::Bytes(one), Value::Bytes(other)) => {
            run.pay_bytes(one.len() + other.len())?;
            Value::Bytes(one.iter().chain(&**other).copied().collect())
        }
        (Value::List(one), Value::List(other)) => {
            run.pay((one.len() + other.len()) as u64)?;
            Value::list(one.iter().chain(&**other).cloned().collect())
        }
        (Value::Tuple(one) | Value::Group(one), Value::Tuple(other) | Value::Group(other)) => {
            run.pay((one.len() + other.len()) as u64)?;
            Value::tuple(one.iter().chain(&**other).cloned().collect())
        }
        _ => return Ok(None),
    }))
}

fn repeated(left: &Value, right: &Value, run: &mut Run) -> Outcome<Option<Value>> {
    let is_sequence = |value: &Value| {
        matches!(
            value,
            Value::Str(_)
                | Value::Markup(_)
                | Value::Bytes(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Group(_)
        )
    };
    let (sequence, times) = if is_sequence(left) {
        (left, right)
    } else if is_sequence(right) {
        (right, left)
    } else {
        return Ok(None);
    };
    if times.as_int().is_none() {
        return type_error(format!(
            "a `{}` cannot be multiplied by a `{}`",
            sequence.type_name(),
            times.type_name()
        ));
    }
    let times = usize::try_from(times.to_i64("times")?.max(0)).unwrap_or(usize::MAX);
    let bytes = |length: usize, run: &mut Run| run.pay_bytes(length.saturating_mul(times));
    Ok(Some(match sequence {
        Value::Str(text) | Value::Markup(text) => {
            bytes(text.len(), run)?;
            let times = if text.is_empty() { 0 } else { times };
            sequence.like(text.repeat(times))
        }
        Value::Bytes(items) => {
            bytes(items.len(), run)?;
            Value::Bytes(
                items
                    .repeat(if items.is_empty() { 0 } else { times })
                    .into(),
            )
        }
        other => {
            let Some(items) = other.as_items() else {
                return Ok(None);
            };
            bytes(items.len().saturating_mul(64), run)?;
            let times = if items.is_empty() { 0 } else { times };
            let mut all = Vec::new();
            for _ in 0..times {
                all.extend_from_slice(items);
            }
            if matches!(other, Value::List(_)) {
                Value::list(all)
            } else {
                Value::tuple(all)
            }
        }
    }))
}

fn integers(operator: Binary, one: &BigInt, other: &BigInt, run: &mut Run) -> Outcome<Value> {
    let bits = one.bits() + other.bits();
    if bits > MOST_BITS {
        return fail(Kind::Other, "an integer is too large");
    }
    run.pay(1 + (bits / 64) * (bits / 64) / 64)?;
    let value = match operator {
        Binary::Add => one + other,
        Binary::Sub => one - other,
        Binary::Mul => one * other,
        Binary::Div => return quotient(one, other).map(Value::Float),
        Binary::FloorDiv | Binary::Mod if other.is_zero() => return zero_division(),
        Binary::FloorDiv => one.div_floor(other),
        Binary::Mod => one.mod_floor(other),
        Binary::Pow => {
            if other.is_negative() {
                return floats(operator, to_float(one)?, to_float(other)?);
            }
            let exponent = other.to_u64().unwrap_or(u64::MAX);
            if one.bits() > 1 && exponent.saturating_mul(one.bits()) > MOST_BITS {
                return fail(Kind::Other, "an integer is too large");
            }
            let result_bits = exponent.saturating_mul(one.bits()).min(MOST_BITS);
            run.pay((result_bits / 64) * (result_bits / 64) / 64)?;
            let exponent = if one.bits() > 1 {
                exponent as u32
            } else {
                (exponent % 2) as u32 + 2 * u32::from(exponent > 1)
            };
            one.pow(exponent)
        }
    };
    Ok(Value::from(value))
}

fn floats(operator: Binary, one: f64, other: f64) -> Outcome<Value> {
    let value = match operator {
        Binary::Add => one + other,
        Binary::Sub => one - other,
        Binary::Mul => one * other,
        Binary::Div | Binary::FloorDiv | Binary::Mod if other == 0.0 => return zero_division(),
        Binary::Div => one / other,
        Binary::FloorDiv => floor_division(one, other).0,
        Binary::Mod => floor_division(one, other).1,
        Binary::Pow => power(one, other)?,
    };
    Ok(Value::Float(value))
}

/// Quotient and rest, the rest with the sign of the divisor.
fn floor_division(one: f64, other: f64) -> (f64, f64) {
    let mut rest = one % other;
    let mut quotient = (one - rest) / other;
    if rest == 0.0 {
        rest = 0.0f64.copysign(other);
    } else if (other < 0.0) != (rest < 0.0) {
        rest += other;
        quotient -= 1.0;
    }
    let quotient = if quotient == 0.0 {
        0.0f64.copysign(one / other)
    } else {
        let floor = quotient.floor();
        if quotient - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        }
    };
    (quotient, rest)
}

fn power(one: f64, other: f64) -> Outcome<f64> {
    if one == 0.0 && other < 0.0 {
        return fail(Kind::Other, "0.0 cannot be raised to a negative power");
    }
    if one < 0.0 && other.is_finite() && other.fract() != 0.0 && one.is_finite() {
        return fail(Kind::Other, "complex numbers are not supported");
    }
    let value = one.powf(other);
    if value.is_infinite() && one.is_finite() && other.is_finite() {
        return fail(Kind::Other, "the result is too large");
    }
    Ok(value)
}
