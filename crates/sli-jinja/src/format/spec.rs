//! `format(value, spec)`: Python's little language of formats.

use num_traits::Signed;

use super::float::{self, MOST_DIGITS, Style};
use crate::error::{Error, Outcome, type_error, value_error};
use crate::numbers::as_float;
use crate::repr;
use crate::run::Run;
use crate::text::{length, part};
use crate::value::Value;

#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    no_negative_zero: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn parse(text: &str) -> Outcome<Spec> {
    let all: Vec<char> = text.chars().collect();
    let mut spec = Spec::default();
    let is_align = |c: Option<&char>| matches!(c, Some('<' | '>' | '=' | '^'));
    let mut at = 0;
    if is_align(all.get(1)) {
        (spec.fill, spec.align) = (all.first().copied(), all.get(1).copied());
        at = 2;
    } else if is_align(all.first()) {
        spec.align = all.first().copied();
        at = 1;
    }
    if let Some(sign @ ('+' | '-' | ' ')) = all.get(at) {
        spec.sign = Some(*sign);
        at += 1;
    }
    if all.get(at) == Some(&'z') {
        spec.no_negative_zero = true;
        at += 1;
    }
    if all.get(at) == Some(&'#') {
        spec.alternate = true;
        at += 1;
    }
    if spec.fill.is_none() && all.get(at) == Some(&'0') {
        spec.zero = true;
        at += 1;
    }
    spec.width = number(&all, &mut at)?.unwrap_or(0);
    if let Some(grouping @ (',' | '_')) = all.get(at) {
        spec.grouping = Some(*grouping);
        at += 1;
        if matches!(all.get(at), Some(',' | '_')) {
            return value_error("a format groups in two ways");
        }
    }
    if all.get(at) == Some(&'.') {
        at += 1;
        spec.precision = number(&all, &mut at)?;
        if spec.precision.is_none() {
            return value_error("a format lacks its precision");
        }
    }
    spec.kind = all.get(at).copied();
    if all.len() > at + 1 {
        return value_error(format!("`{text}` is no format"));
    }
    Ok(spec)
}

fn number(all: &[char], at: &mut usize) -> Outcome<Option<usize>> {
    let mut number = None;
    while let Some(digit) = all.get(*at).and_then(|c| c.to_digit(10)) {
        let value = number.unwrap_or(0usize);
        let value = value.saturating_mul(10).saturating_add(digit as usize);
        if value > i32::MAX as usize {
            return Err(Error::steps());
        }
        number = Some(value);
        *at += 1;
    }
    Ok(number)
}

/// `format(value, spec)`.
pub(super) fn format(value: &Value, text: &str, run: &mut Run) -> Outcome<String> {
    if text.is_empty() {
        return Ok(repr::to_str(value, run)?.to_string());
    }
    match value {
        Value::Str(whole) | Value::Markup(whole) => string(whole, &parse(text)?, run),
        Value::Float(float) => float_text(*float, &parse(text)?, run),
        value if value.as_int().is_some() => int(value, &parse(text)?, run),
        value => type_error(format!(
            "a `{}` takes no format, `{text}` is one",
            value.type_name()
        )),
    }
}

fn string(whole: &str, spec: &Spec, run: &mut Run) -> Outcome<String> {
    let wrong = !matches!(spec.kind, None | Some('s'))
        || spec.sign.is_some()
        || spec.no_negative_zero
        || spec.alternate
        || spec.align == Some('=')
        || spec.grouping.is_some();
    if wrong {
        return value_error("a string does not take this format");
    }
    let whole = match spec.precision {
        Some(precision) => part(whole, 0, precision),
        None => whole,
    };
    aligned("", whole, spec, '<', run)
}

/// Fills up to the width.
fn aligned(sign: &str, body: &str, spec: &Spec, default: char, run: &mut Run) -> Outcome<String> {
    let missing = spec.width.saturating_sub(length(sign) + length(body));
    run.pay_bytes(missing.saturating_mul(4))?;
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    let fill = |count: usize| fill.to_string().repeat(count);
    let align = spec.align.unwrap_or(default);
    Ok(match align {
        '<' => format!("{sign}{body}{}", fill(missing)),
        '^' => format!(
            "{}{sign}{body}{}",
            fill(missing / 2),
            fill(missing - missing / 2)
        ),
        '=' => format!("{sign}{}{body}", fill(missing)),
        _ => format!("{}{sign}{body}", fill(missing)),
    })
}

fn sign_text(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        (false, _) => "",
    }
}

fn int(value: &Value, spec: &Spec, run: &mut Run) -> Outcome<String> {
    let Some(int) = value.as_int() else {
        return type_error("not an integer");
    };
    let kind = spec.kind.unwrap_or('d');
    if matches!(kind, 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') {
        return float_text(as_float(value)?.unwrap_or(0.0), spec, run);
    }
    if spec.precision.is_some() || spec.no_negative_zero {
        return value_error("an integer takes no precision");
    }
    run.pay_bytes(int.bits() as usize)?;
    let (digits, prefix, group) = match kind {
        'd' | 'n' => (int.magnitude().to_string(), "", 3),
        'b' => (format!("{:b}", int.magnitude()), "0b", 4),
        'o' => (format!("{:o}", int.magnitude()), "0o", 4),
        'x' => (format!("{:x}", int.magnitude()), "0x", 4),
        'X' => (format!("{:X}", int.magnitude()), "0X", 4),
        'c' => {
            if spec.sign.is_some() || spec.alternate || spec.grouping.is_some() {
                return value_error("a character does not take this format");
            }
            let code = u32::try_from(&int).ok().and_then(char::from_u32);
            let Some(c) = code else {
                return value_error("there is no such character");
            };
            return aligned("", &c.to_string(), spec, '<', run);
        }
        kind => return value_error(format!("an integer takes no format `{kind}`")),
    };
    if (spec.grouping == Some(',') && group != 3) || (spec.grouping.is_some() && kind == 'n') {
        return value_error("this format cannot group");
    }
    let prefix = if spec.alternate { prefix } else { "" };
    let sign = format!("{}{prefix}", sign_text(int.is_negative(), spec));
    grouped(&sign, &digits, "", group, spec, run)
}

/// Sign, whole digits in groups, and the rest.
fn grouped(
    sign: &str,
    whole: &str,
    rest: &str,
    group: usize,
    spec: &Spec,
    run: &mut Run,
) -> Outcome<String> {
    let default = if spec.zero { '=' } else { '>' };
    let Some(separator) = spec.grouping else {
        return aligned(sign, &format!("{whole}{rest}"), spec, default, run);
    };
    let fills = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' }) == '0'
        && spec.align.unwrap_or(default) == '=';
    let mut count = whole.len();
    if fills {
        let room = spec.width.saturating_sub(sign.len() + rest.len());
        run.pay_bytes(room)?;
        while count + (count - 1) / group < room {
            count += 1;
        }
    }
    let digits = "0".repeat(count - whole.len()) + whole;
    let mut text = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (count - at).is_multiple_of(group) {
            text.push(separator);
        }
        text.push(c);
    }
    aligned(sign, &format!("{text}{rest}"), spec, default, run)
}

fn float_text(value: f64, spec: &Spec, run: &mut Run) -> Outcome<String> {
    let kind = spec.kind.unwrap_or(' ');
    let precision = spec.precision.unwrap_or(6);
    run.pay_bytes(precision)?;
    let number = value.abs();
    let mut text = match kind {
        ' ' => match spec.precision {
            None if !spec.alternate => repr::float(number),
            None => float::write(number, Style::Plain, 17, true)?,
            Some(precision) => float::write(number, Style::Plain, precision, spec.alternate)?,
        },
        'e' | 'E' => float::write(number, Style::Exponent, precision, spec.alternate)?,
        'f' | 'F' => float::write(number, Style::Fixed, precision, spec.alternate)?,
        'g' | 'G' | 'n' => float::write(number, Style::General, precision, spec.alternate)?,
        '%' => float::write(number * 100.0, Style::Fixed, precision, spec.alternate)? + "%",
        kind => return value_error(format!("a float takes no format `{kind}`")),
    };
    if precision > MOST_DIGITS {
        return value_error("a precision is too large");
    }
    if kind.is_ascii_uppercase() {
        text = text.to_ascii_uppercase();
    }
    let mut negative = value.is_sign_negative() && !value.is_nan();
    if spec.no_negative_zero && !text.contains(|c: char| c.is_ascii_digit() && c != '0') {
        negative = negative && !text.starts_with(|c: char| c.is_ascii_digit());
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (whole, rest) = text.split_at(end);
    if whole.is_empty() {
        let default = if spec.zero { '=' } else { '>' };
        return aligned(sign_text(negative, spec), rest, spec, default, run);
    }
    grouped(sign_text(negative, spec), whole, rest, 3, spec, run)
}
