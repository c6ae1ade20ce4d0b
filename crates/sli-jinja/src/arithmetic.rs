//! Python's arithmetic.

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{FromPrimitive, Signed, ToPrimitive, Zero};

use crate::ast::Binary;
use crate::error::{Kind, Outcome, fail, type_error};
use crate::format::percent;
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
    run: &mut Run<'_>,
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

fn concatenated(left: &Value, right: &Value, run: &mut Run<'_>) -> Outcome<Option<Value>> {
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

fn repeated(left: &Value, right: &Value, run: &mut Run<'_>) -> Outcome<Option<Value>> {
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
    let bytes = |length: usize, run: &mut Run<'_>| run.pay_bytes(length.saturating_mul(times));
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

fn zero_division<T>() -> Outcome<T> {
    fail(Kind::Other, "division by zero")
}

fn integers(operator: Binary, one: &BigInt, other: &BigInt, run: &mut Run<'_>) -> Outcome<Value> {
    let bits = one.bits() + other.bits();
    if bits > MOST_BITS {
        return fail(Kind::Other, "an integer is too large");
    }
    run.pay(1 + (bits / 64) * (bits / 64) / 64)?;
    let value = match operator {
        Binary::Add => one + other,
        Binary::Sub => one - other,
        Binary::Mul => one * other,
        Binary::Div => return divide(one, other).map(Value::Float),
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

/// The quotient of two integers, correctly rounded.
fn divide(one: &BigInt, other: &BigInt) -> Outcome<f64> {
    if other.is_zero() {
        return zero_division();
    }
    let exact = 1i64 << 53;
    if let (Some(small), Some(divisor)) = (one.to_i64(), other.to_i64())
        && small.abs() <= exact
        && divisor.abs() <= exact
    {
        return Ok(small as f64 / divisor as f64);
    }
    if one.is_zero() {
        return Ok(0.0);
    }
    let negative = one.is_negative() != other.is_negative();
    let (one, other) = (one.magnitude(), other.magnitude());
    let shift = 66 + other.bits() as i64 - one.bits() as i64;
    let (above, below) = if shift >= 0 {
        (one << shift as u64, other.clone())
    } else {
        (one.clone(), other << (-shift) as u64)
    };
    let (quotient, rest) = above.div_rem(&below);
    let mut quotient = quotient.to_u128().unwrap_or(u128::MAX);
    if !rest.is_zero() {
        quotient |= 1;
    }
    // Halves, so that no step leaves the range.
    let half = (-shift / 2) as i32;
    let value = quotient as f64 * 2f64.powi(half) * 2f64.powi((-shift) as i32 - half);
    if value.is_infinite() {
        return fail(Kind::Other, "the result is too large for a float");
    }
    Ok(if negative { -value } else { value })
}

/// `float(integer)`.
pub(crate) fn to_float(value: &BigInt) -> Outcome<f64> {
    let float = match value.to_i64() {
        Some(small) => small as f64,
        None => rounded(value),
    };
    if float.is_infinite() {
        fail(Kind::Other, "the integer is too large for a float")
    } else {
        Ok(float)
    }
}

fn rounded(value: &BigInt) -> f64 {
    let magnitude = value.magnitude();
    let shift = magnitude.bits().saturating_sub(66);
    let top = magnitude >> shift;
    let mut bits = top.to_u128().unwrap_or(u128::MAX);
    if (&top << shift) != *magnitude {
        bits |= 1;
    }
    let float = if shift > 1100 {
        f64::INFINITY
    } else {
        bits as f64 * 2f64.powi(shift as i32 / 2) * 2f64.powi(shift as i32 - shift as i32 / 2)
    };
    if value.sign() == Sign::Minus {
        -float
    } else {
        float
    }
}

/// A number as a float; nothing if it is no number.
pub(crate) fn as_float(value: &Value) -> Outcome<Option<f64>> {
    Ok(match value {
        Value::Float(value) => Some(*value),
        value => match value.as_int() {
            Some(value) => Some(to_float(&value)?),
            None => None,
        },
    })
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

/// `-value` or `+value`.
pub(crate) fn signed(value: &Value, negative: bool) -> Outcome<Value> {
    match value {
        Value::Float(value) => Ok(Value::Float(if negative { -value } else { *value })),
        Value::Undefined(reason) => fail(Kind::Other, &**reason),
        value => match value.as_int() {
            Some(value) => Ok(Value::from(if negative { -value } else { value })),
            None => type_error(format!("a `{}` has no sign", value.type_name())),
        },
    }
}

/// `abs(value)`.
pub(crate) fn absolute(value: &Value) -> Outcome<Value> {
    match value {
        Value::Float(value) => Ok(Value::Float(value.abs())),
        value => match value.as_int() {
            Some(value) => Ok(Value::from(value.abs())),
            None => type_error(format!("a `{}` has no absolute value", value.type_name())),
        },
    }
}

/// `int(float)`.
pub(crate) fn truncated(value: f64) -> Outcome<Value> {
    match BigInt::from_f64(value.trunc()) {
        Some(whole) => Ok(Value::from(whole)),
        None if value.is_nan() => fail(Kind::Value, "NaN is no integer"),
        None => fail(Kind::Other, "infinity is no integer"),
    }
}

/// `round(value, digits)`.
pub(crate) fn round(value: &Value, digits: i64) -> Outcome<Value> {
    if let Value::Float(value) = value {
        return round_float(*value, digits).map(Value::Float);
    }
    let Some(int) = value.as_int() else {
        return type_error(format!("a `{}` cannot be rounded", value.type_name()));
    };
    if digits >= 0 {
        return Ok(Value::from(int));
    }
    if digits < -5000 {
        return Ok(Value::Int(0));
    }
    let unit = BigInt::from(10).pow((-digits) as u32);
    let (quotient, rest) = int.div_mod_floor(&unit);
    let twice: BigInt = rest * 2;
    let up = twice > unit || (twice == unit && quotient.is_odd());
    Ok(Value::from((quotient + i64::from(up)) * unit))
}

fn round_float(value: f64, digits: i64) -> Outcome<f64> {
    if !value.is_finite() || digits > 400 {
        return Ok(value);
    }
    if digits < -310 {
        return Ok(0.0f64.copysign(value));
    }
    if digits >= 0 {
        let text = format!("{value:.*}", digits as usize);
        return Ok(text.parse().unwrap_or(value));
    }
    // Whole digits: exact in integers, with what the fraction adds to a half.
    let Some(whole) = BigInt::from_f64(value.trunc()) else {
        return Ok(value);
    };
    let unit = BigInt::from(10).pow((-digits) as u32);
    let (quotient, rest) = whole.abs().div_mod_floor(&unit);
    let twice: BigInt = rest * 2;
    let up = twice > unit || (twice == unit && (value.fract() != 0.0 || quotient.is_odd()));
    let rounded = to_float(&((quotient + i64::from(up)) * unit))?;
    Ok(rounded.copysign(value))
}

/// Adds up, as Python's `sum` does.
pub(crate) fn sum(total: &Value, item: &Value, run: &mut Run<'_>) -> Outcome<Value> {
    binary(Binary::Add, total, item, run)
}

/// The quotient of two integers as a float.
pub(crate) fn quotient(one: &BigInt, other: &BigInt) -> Outcome<f64> {
    divide(one, other)
}

/// The quotient of two floats.
pub(crate) fn binary_floats(one: f64, other: f64) -> Outcome<f64> {
    if other == 0.0 {
        return zero_division();
    }
    Ok(one / other)
}
