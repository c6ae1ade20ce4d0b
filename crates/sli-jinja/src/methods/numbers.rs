//! Methods of numbers.

use num_bigint::BigInt;

use crate::error::{Kind, Outcome, fail, other};
use crate::value::{Args, Value};

pub(super) fn call(value: &Value, name: &str, args: &Args) -> Outcome<Value> {
    match (value, name) {
        (Value::Float(float), "is_integer") => {
            args.none(name)?;
            Ok(Value::Bool(float.is_finite() && float.fract() == 0.0))
        }
        (Value::Float(float), "as_integer_ratio") => {
            args.none(name)?;
            ratio(*float)
        }
        (_, "conjugate") => {
            args.none(name)?;
            Ok(match value.as_int() {
                Some(int) => Value::from(int),
                None => value.clone(),
            })
        }
        (value, name) => {
            let Some(int) = value.as_int() else {
                return other(format!("`{name}` of a float is not supported"));
            };
            match name {
                "bit_length" => {
                    args.none(name)?;
                    Ok(Value::Int(int.bits() as i64))
                }
                "bit_count" => {
                    args.none(name)?;
                    let ones: u32 = int.iter_u64_digits().map(u64::count_ones).sum();
                    Ok(Value::Int(i64::from(ones)))
                }
                "as_integer_ratio" => {
                    args.none(name)?;
                    Ok(Value::tuple(vec![Value::from(int), Value::Int(1)]))
                }
                _ => other(format!("`{name}` of an integer is not supported")),
            }
        }
    }
}

fn ratio(float: f64) -> Outcome<Value> {
    if !float.is_finite() {
        return fail(Kind::Value, "infinity and NaN have no ratio");
    }
    if float == 0.0 {
        return Ok(Value::tuple(vec![Value::Int(0), Value::Int(1)]));
    }
    let bits = float.to_bits();
    let power = (bits >> 52 & 0x7ff) as i64;
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, power) = if power == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, power - 1075)
    };
    let zeros = i64::from(mantissa.trailing_zeros());
    let (mantissa, power) = (mantissa >> zeros, power + zeros);
    let mut above = BigInt::from(mantissa);
    let mut below = BigInt::from(1);
    if power >= 0 {
        above <<= power as u64;
    } else {
        below <<= (-power) as u64;
    }
    if float < 0.0 {
        above = -above;
    }
    Ok(Value::tuple(vec![Value::from(above), Value::from(below)]))
}
