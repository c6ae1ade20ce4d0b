//! Floats in a given number of digits.

use crate::error::{Outcome, other};

/// Longest precision.
pub(crate) const MOST_DIGITS: usize = 100_000;

/// How a float is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `e`: with an exponent.
    Exponent,
    /// `f`: without one.
    Fixed,
    /// `g`: whichever is shorter.
    General,
    /// As `g`, but never like an integer.
    Plain,
}

/// The digits of a float that is not negative; `alternate` keeps the point and zeros.
pub(crate) fn write(
    value: f64,
    style: Style,
    precision: usize,
    alternate: bool,
) -> Outcome<String> {
    if precision > MOST_DIGITS {
        return other("a precision is too large");
    }
    if value.is_nan() {
        return Ok("nan".into());
    }
    if value.is_infinite() {
        return Ok("inf".into());
    }
    Ok(match style {
        Style::Fixed => {
            let text = format!("{value:.precision$}");
            if alternate && precision == 0 {
                text + "."
            } else {
                text
            }
        }
        Style::Exponent => {
            let (mantissa, exponent) = parts(value, precision);
            let point = if alternate && precision == 0 { "." } else { "" };
            format!("{mantissa}{point}{}", exponent_text(exponent))
        }
        Style::General | Style::Plain => general(value, style, precision, alternate),
    })
}

fn general(value: f64, style: Style, precision: usize, alternate: bool) -> String {
    let digits = precision.max(1);
    let (mantissa, exponent) = parts(value, digits - 1);
    let most = digits as i64 - i64::from(style == Style::Plain);
    let text = if exponent < -4 || i64::from(exponent) >= most {
        let mantissa = if alternate {
            with_point(&mantissa)
        } else {
            without_zeros(&mantissa)
        };
        return format!("{mantissa}{}", exponent_text(exponent));
    } else {
        let decimals = (digits as i64 - 1 - i64::from(exponent)).max(0) as usize;
        format!("{value:.decimals$}")
    };
    if alternate {
        return with_point(&text);
    }
    let text = without_zeros(&text);
    if style == Style::Plain && !text.contains('.') {
        text + ".0"
    } else {
        text
    }
}

fn with_point(text: &str) -> String {
    if text.contains('.') {
        text.into()
    } else {
        format!("{text}.")
    }
}

fn without_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text.into()
    }
}

/// Mantissa and exponent.
fn parts(value: f64, precision: usize) -> (String, i32) {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.into(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

fn exponent_text(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("e{sign}{:02}", exponent.abs())
}
