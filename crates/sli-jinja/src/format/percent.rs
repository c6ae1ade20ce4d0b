//! `format % values`.

use num_bigint::BigInt;
use num_traits::Signed;

use super::float::{self, Style};
use crate::error::{Error, Kind, Outcome, fail, other, type_error, value_error};
use crate::numbers::{as_float, truncated};
use crate::repr::{repr, to_str, write_escape};
use crate::run::Run;
use crate::text::{escape, length, part};
use crate::value::Value;

/// What the values are.
struct Values<'a> {
    given: &'a Value,
    items: Vec<Value>,
    next: usize,
    is_tuple: bool,
}

impl Values<'_> {
    fn next(&mut self) -> Outcome<Value> {
        self.next += 1;
        match self.items.get(self.next - 1) {
            Some(item) => Ok(item.clone()),
            None => type_error("not enough arguments for the format string"),
        }
    }
}

/// One conversion.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of C")]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// `left % right`, where `left` is a string.
pub(crate) fn format(left: &Value, right: &Value, run: &mut Run) -> Outcome<Value> {
    let Some(source) = left.as_str() else {
        return type_error("% takes a string here");
    };
    let escaped = matches!(left, Value::Markup(_));
    let mut values = match right {
        Value::Tuple(items) | Value::Group(items) => Values {
            given: right,
            items: (**items).clone(),
            next: 0,
            is_tuple: true,
        },
        one => Values {
            given: one,
            items: vec![one.clone()],
            next: 0,
            is_tuple: false,
        },
    };
    let mut text = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let rest: String = chars.clone().collect();
        let (length, piece) = conversion(&rest, &mut values, escaped, run)?;
        run.pay_bytes(rest.len() + piece.len())?;
        text.push_str(&piece);
        for _ in 0..length {
            chars.next();
        }
    }
    // Whatever has items by key may have more than are named.
    let is_mapping = !values.is_tuple
        && matches!(
            right,
            Value::Dict(_)
                | Value::List(_)
                | Value::Range(_)
                | Value::Bytes(_)
                | Value::Undefined(_)
        );
    if values.next < values.items.len() && !is_mapping {
        return type_error("not all arguments are converted by the format string");
    }
    run.pay_bytes(text.len())?;
    Ok(left.like(text))
}

/// Characters after the sign, and what they become.
fn conversion(
    rest: &str,
    values: &mut Values<'_>,
    escaped: bool,
    run: &mut Run,
) -> Outcome<(usize, String)> {
    let all: Vec<char> = rest.chars().collect();
    let mut at = 0;
    let peek = |at: usize| all.get(at).copied();
    let mut named = None;
    if peek(at) == Some('(') {
        let Value::Dict(dict) = values.given else {
            return type_error("the format string needs a mapping");
        };
        let (mut depth, start) = (1, at + 1);
        while depth > 0 {
            at += 1;
            match peek(at) {
                Some('(') => depth += 1,
                Some(')') => depth -= 1,
                Some(_) => {}
                None => return value_error("a key of the format string has no end"),
            }
        }
        let key: String = all[start..at].iter().collect();
        at += 1;
        match dict.get_str(&key) {
            Some(value) => named = Some(value.clone()),
            None => return fail(Kind::Lookup, format!("the mapping has no `{key}`")),
        }
    }
    let mut c = Conversion::default();
    while let Some(flag) = peek(at) {
        match flag {
            '-' => c.left = true,
            '+' => c.plus = true,
            ' ' => c.space = true,
            '#' => c.alternate = true,
            '0' => c.zero = true,
            _ => break,
        }
        at += 1;
    }
    if peek(at) == Some('*') {
        at += 1;
        let width = star(values)?;
        c.left |= width < 0;
        c.width = width.unsigned_abs() as usize;
    } else {
        c.width = digits(&all, &mut at)?;
    }
    if peek(at) == Some('.') {
        at += 1;
        c.precision = Some(if peek(at) == Some('*') {
            at += 1;
            usize::try_from(star(values)?).unwrap_or(0)
        } else {
            digits(&all, &mut at)?
        });
    }
    if matches!(peek(at), Some('h' | 'l' | 'L')) {
        at += 1;
    }
    let Some(kind) = peek(at) else {
        return value_error("the format string is incomplete");
    };
    at += 1;
    if kind == '%' {
        return Ok((at, "%".into()));
    }
    run.pay_bytes(c.width.saturating_add(c.precision.unwrap_or(0)))?;
    let value = match named {
        Some(value) => {
            values.next = values.items.len();
            value
        }
        None => values.next()?,
    };
    let text = one(kind, &value, &c, escaped, run)?;
    Ok((at, text))
}

fn star(values: &mut Values<'_>) -> Outcome<i64> {
    match values.next()? {
        value if value.as_i64().is_some() => Ok(value.as_i64().unwrap_or(0)),
        _ => type_error("* wants an integer"),
    }
}

fn digits(all: &[char], at: &mut usize) -> Outcome<usize> {
    let mut number = 0usize;
    while let Some(digit) = all.get(*at).and_then(|c| c.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(digit as usize);
        *at += 1;
    }
    if number > i32::MAX as usize {
        return Err(Error::steps());
    }
    Ok(number)
}

fn one(kind: char, value: &Value, c: &Conversion, escaped: bool, run: &mut Run) -> Outcome<String> {
    let (sign, prefix, body, numeric) = match kind {
        's' | 'r' | 'a' => {
            let mut text = match kind {
                's' => to_str(value, run)?.to_string(),
                _ => repr(value, run)?,
            };
            if escaped && !(kind == 's' && matches!(value, Value::Markup(_))) {
                text = escape(&text).into_owned();
            }
            if kind == 'a' {
                text = ascii(&text);
            }
            if let Some(precision) = c.precision {
                text = part(&text, 0, precision).to_owned();
            }
            (String::new(), "", text, false)
        }
        'c' => (String::new(), "", character(value)?, false),
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let int = integer(kind, value)?;
            let digits = match kind {
                'x' => format!("{:x}", int.magnitude()),
                'X' => format!("{:X}", int.magnitude()),
                'o' => format!("{:o}", int.magnitude()),
                _ => int.magnitude().to_string(),
            };
            let zeros = c.precision.unwrap_or(0).saturating_sub(digits.len());
            let prefix = match kind {
                'x' if c.alternate => "0x",
                'X' if c.alternate => "0X",
                'o' if c.alternate => "0o",
                _ => "",
            };
            let digits = "0".repeat(zeros) + &digits;
            (sign_of(int.is_negative(), c), prefix, digits, true)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let Some(number) = as_float(value)? else {
                return type_error(format!(
                    "%{kind} takes a number, not a `{}`",
                    value.type_name()
                ));
            };
            let style = match kind.to_ascii_lowercase() {
                'e' => Style::Exponent,
                'f' => Style::Fixed,
                _ => Style::General,
            };
            let precision = c.precision.unwrap_or(6);
            let mut text = float::write(number.abs(), style, precision, c.alternate)?;
            if kind.is_ascii_uppercase() {
                text = text.to_ascii_uppercase();
            }
            let negative = number.is_sign_negative() && !number.is_nan();
            (sign_of(negative, c), "", text, true)
        }
        kind => return value_error(format!("unsupported format character `{kind}`")),
    };
    let inner = sign.len() + prefix.len() + length(&body);
    let missing = c.width.saturating_sub(inner);
    Ok(if c.left {
        format!("{sign}{prefix}{body}{}", " ".repeat(missing))
    } else if numeric && c.zero {
        format!("{sign}{prefix}{}{body}", "0".repeat(missing))
    } else {
        format!("{}{sign}{prefix}{body}", " ".repeat(missing))
    })
}

fn sign_of(negative: bool, c: &Conversion) -> String {
    let sign = if negative {
        "-"
    } else if c.plus {
        "+"
    } else if c.space {
        " "
    } else {
        ""
    };
    sign.into()
}

fn integer(kind: char, value: &Value) -> Outcome<BigInt> {
    if let Some(int) = value.as_int() {
        return Ok(int);
    }
    if let Value::Float(float) = value
        && matches!(kind, 'd' | 'i' | 'u')
    {
        let whole = truncated(*float)?;
        return Ok(whole.as_int().unwrap_or_default());
    }
    type_error(format!(
        "%{kind} takes a number, not a `{}`",
        value.type_name()
    ))
}

fn character(value: &Value) -> Outcome<String> {
    if let Some(text) = value.as_str() {
        return if length(text) == 1 {
            Ok(text.to_string())
        } else {
            type_error("%c takes one character")
        };
    }
    match value.as_i64().map(u32::try_from) {
        Some(Ok(code)) if code < 0x11_0000 => match char::from_u32(code) {
            Some(c) => Ok(c.to_string()),
            None => other("%c gives no character"),
        },
        Some(_) => fail(Kind::Other, "%c takes a code below 0x110000"),
        None => type_error("%c takes a character or its code"),
    }
}

/// Characters beyond ASCII by their numbers.
pub(crate) fn ascii(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            plain.push(c);
        } else {
            write_escape(&mut plain, c);
        }
    }
    plain
}
