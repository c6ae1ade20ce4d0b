//! Numbers of Python: what they are as floats and integers, their quotients, and rounding.

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{FromPrimitive, Signed, ToPrimitive, Zero};

use crate::error::{Kind, Outcome, fail, type_error};
use crate::value::Value;

/// What a division by zero is.
pub(crate) fn zero_division<T>() -> Outcome<T> {
    fail(Kind::Other, "division by zero")
}

/// The quotient of two integers, correctly rounded.
pub(crate) fn quotient(one: &BigInt, other: &BigInt) -> Outcome<f64> {
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

/// The quotient of two floats.
pub(crate) fn float_quotient(one: f64, other: f64) -> Outcome<f64> {
    if other == 0.0 {
        return zero_division();
    }
    Ok(one / other)
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
