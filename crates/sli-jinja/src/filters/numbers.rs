//! Filters for numbers.

use num_bigint::BigInt;

use crate::arguments::text;
use crate::error::{Kind, Outcome, other, type_error};
use crate::format;
use crate::numbers::{absolute, as_float, float_quotient, quotient, round, to_float, truncated};
use crate::unicode::{decimal_value, is_space};
use crate::value::{Args, Value};

pub(super) fn apply(name: &str, value: &Value, args: &Args) -> Outcome<Value> {
    match name {
        "abs" => {
            args.only::<0>(name, 0)?;
            absolute(value)
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"], 0)?;
            to_int(value, &default.unwrap_or(Value::Int(0)), base.as_ref())
        }
        "float" => {
            let [default] = args.bind(name, ["default"], 0)?;
            let default = default.unwrap_or(Value::Float(0.0));
            Ok(float_of(value)?.map_or(default, Value::Float))
        }
        "round" => {
            let [precision, method] = args.bind(name, ["precision", "method"], 0)?;
            rounded(value, precision, method)
        }
        _ => {
            let [binary] = args.bind(name, ["binary"], 0)?;
            let binary = binary.map_or(Ok(false), |binary| binary.is_true())?;
            match float_of(value)? {
                Some(bytes) => file_size(bytes, binary).map(Value::from),
                None => type_error("filesizeformat takes a number"),
            }
        }
    }
}

/// `float(value)`; nothing where that is a `TypeError` or `ValueError`.
fn float_of(value: &Value) -> Outcome<Option<f64>> {
    match value {
        Value::Undefined(reason) => other(&**reason),
        Value::Str(text) | Value::Markup(text) => Ok(parse_float(text)),
        value => as_float(value),
    }
}

fn to_int(value: &Value, default: &Value, base: Option<&Value>) -> Outcome<Value> {
    let whole = match value {
        Value::Undefined(reason) => return other(&**reason),
        Value::Str(text) | Value::Markup(text) => match base {
            None => parse_int(text, 10),
            Some(base) => base.as_i64().and_then(|base| parse_int(text, base)),
        },
        Value::Float(float) => match truncated(*float) {
            Ok(whole) => return Ok(whole),
            Err(error) if error.kind() == Kind::Value => None,
            Err(error) => return Err(error),
        },
        value => value.as_int(),
    };
    if let Some(whole) = whole {
        return Ok(Value::from(whole));
    }
    // "42.23" is 42.
    match float_of(value) {
        Ok(Some(float)) if float.is_finite() => truncated(float),
        _ => Ok(default.clone()),
    }
}

/// `int(text, base)`.
pub(crate) fn parse_int(text: &str, base: i64) -> Option<BigInt> {
    let text = text.trim_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = |sign: char| {
        let rest = digits.strip_prefix('0')?;
        let rest = rest.strip_prefix([sign, sign.to_ascii_uppercase()])?;
        Some(rest.strip_prefix('_').unwrap_or(rest))
    };
    let (base, digits) = match base {
        0 => {
            if let Some(digits) = prefixed('x') {
                (16, digits)
            } else if let Some(digits) = prefixed('o') {
                (8, digits)
            } else if let Some(digits) = prefixed('b') {
                (2, digits)
            } else if digits.starts_with('0') && digits.contains(|c| !matches!(c, '0' | '_')) {
                return None;
            } else {
                (10, digits)
            }
        }
        16 => (16, prefixed('x').unwrap_or(digits)),
        8 => (8, prefixed('o').unwrap_or(digits)),
        2 => (2, prefixed('b').unwrap_or(digits)),
        3..=36 => (base as u32, digits),
        _ => return None,
    };
    if digits.is_empty()
        || digits.starts_with('_')
        || digits.ends_with('_')
        || digits.contains("__")
    {
        return None;
    }
    let mut plain = String::new();
    for c in digits.chars().filter(|&c| c != '_') {
        let value = decimal_value(c).or_else(|| c.to_digit(36))?;
        if value >= base {
            return None;
        }
        plain.push(char::from_digit(value, 36)?);
    }
    if plain.len() > 4300 && !base.is_power_of_two() {
        return None;
    }
    let value = BigInt::parse_bytes(plain.as_bytes(), base)?;
    Some(if negative { -value } else { value })
}

/// `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let mut plain = String::new();
    let chars: Vec<char> = text.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        if c == '_' {
            let is_digit = |at: Option<usize>| {
                at.and_then(|at| chars.get(at))
                    .is_some_and(|&c| decimal_value(c).is_some())
            };
            if !is_digit(at.checked_sub(1)) || !is_digit(Some(at + 1)) {
                return None;
            }
            continue;
        }
        match decimal_value(c).and_then(|value| char::from_digit(value, 10)) {
            Some(digit) => plain.push(digit),
            None => plain.push(c),
        }
    }
    let lower = plain.to_ascii_lowercase();
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    let is_word = matches!(unsigned, "inf" | "infinity" | "nan");
    if !is_word && !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    lower.parse().ok()
}

fn rounded(value: &Value, precision: Option<Value>, method: Option<Value>) -> Outcome<Value> {
    let precision = precision.unwrap_or(Value::Int(0));
    let method = method.unwrap_or_else(|| Value::str("common"));
    let method = text(&method, "round")?;
    if let Value::Undefined(reason) = value {
        return other(&**reason);
    }
    let upwards = match &**method {
        "common" => {
            // Python's own `round` without digits gives an integer.
            if precision.is_none() {
                return match value {
                    Value::Float(_) => match round(value, 0)? {
                        Value::Float(float) => truncated(float),
                        value => Ok(value),
                    },
                    value => round(value, 0),
                };
            }
            let precision = precision.to_i64("round")?;
            let rounded = round(value, precision)?;
            return Ok(rounded);
        }
        "ceil" => true,
        "floor" => false,
        _ => return other("the method must be common, ceil or floor"),
    };
    let precision = precision.to_i64("round")?;
    let Ok(power) = i32::try_from(precision) else {
        return other("a precision is too large");
    };
    if power > 300 {
        return other("a precision is too large");
    }
    // 10**precision is an integer where the precision is not negative.
    if power >= 0 {
        let unit = BigInt::from(10).pow(power as u32);
        if let Some(int) = value.as_int() {
            return quotient(&(int * &unit), &unit).map(Value::Float);
        }
        let Some(float) = as_float(value)? else {
            return type_error("round takes a number");
        };
        let scaled = float * to_float(&unit)?;
        let whole = truncated(if upwards {
            scaled.ceil()
        } else {
            scaled.floor()
        })?;
        let whole = whole.as_int().unwrap_or_default();
        return quotient(&whole, &unit).map(Value::Float);
    }
    let Some(float) = as_float(value)? else {
        return type_error("round takes a number");
    };
    let unit = 10f64.powi(power);
    let scaled = float * unit;
    let whole = if upwards {
        scaled.ceil()
    } else {
        scaled.floor()
    };
    // Python's whole numbers have no negative zero.
    float_quotient(whole + 0.0, unit).map(Value::Float)
}

fn file_size(bytes: f64, binary: bool) -> Outcome<String> {
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    let prefixes = if binary {
        ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
    } else {
        ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        let Value::Int(whole) = truncated(bytes)? else {
            return other("a size is too large");
        };
        return Ok(format!("{whole} Bytes"));
    }
    let mut unit = base * base;
    for (at, prefix) in prefixes.iter().enumerate() {
        if bytes < unit || at + 1 == prefixes.len() {
            let shown = format::write(base * bytes / unit, format::Style::Fixed, 1, false)?;
            return Ok(format!("{shown} {prefix}"));
        }
        unit *= base;
    }
    other("a size is too large")
}
