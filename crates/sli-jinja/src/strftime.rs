//! `datetime.strftime` over glibc's, in the C locale and for a time without a zone.

use chrono::{Datelike, NaiveDateTime, Timelike};

use crate::error::{Outcome, value_error};
use crate::run::Run;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// `now.strftime(format)`.
pub(crate) fn strftime(format: &str, run: &mut Run) -> Outcome<String> {
    let now = run.now;
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, piece) = directive(rest, now)?;
        run.pay_bytes(piece.len())?;
        run.pay(1)?;
        text.push_str(&piece);
        rest = &rest[length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// How a number is filled up.
#[derive(Clone, Copy, PartialEq)]
enum Pad {
    Default,
    None,
    Space,
    Zero,
}

/// Flags and width of a directive.
struct Shape {
    pad: Pad,
    width: Option<usize>,
    upper: bool,
    swap: bool,
}

/// The directive at the beginning: its length, and its text.
fn directive(rest: &str, now: NaiveDateTime) -> Outcome<(usize, String)> {
    let mut shape = Shape {
        pad: Pad::Default,
        width: None,
        upper: false,
        swap: false,
    };
    let bytes = rest.as_bytes();
    if bytes.len() == 1 {
        return Ok((1, "%".into()));
    }
    // Python itself replaces these, where nothing stands between.
    match bytes.get(1) {
        Some(b'f') => {
            let micros = now.nanosecond() % 1_000_000_000 / 1000;
            return Ok((2, format!("{micros:06}")));
        }
        Some(b'z' | b'Z') => return Ok((2, String::new())),
        _ => {}
    }
    let mut at = 1;
    while let Some(flag) = bytes.get(at) {
        match flag {
            b'_' => shape.pad = Pad::Space,
            b'-' => shape.pad = Pad::None,
            b'0' => shape.pad = Pad::Zero,
            b'^' => shape.upper = true,
            b'#' => shape.swap = true,
            _ => break,
        }
        at += 1;
    }
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        let width = shape.width.unwrap_or(0).saturating_mul(10);
        shape.width = Some(width.saturating_add(usize::from(digit - b'0')));
        at += 1;
    }
    if shape.width.is_some_and(|width| width > 1024) {
        return value_error("a time format has too large a width");
    }
    let modifier = bytes.get(at).copied().filter(|c| matches!(c, b'E' | b'O'));
    at += usize::from(modifier.is_some());
    let Some(&kind) = bytes.get(at) else {
        return Ok((rest.len(), rest.to_owned()));
    };
    if !kind.is_ascii() {
        return Ok((at, rest[..at].to_owned()));
    }
    let length = at + 1;
    let allowed = match modifier {
        Some(b'E') => b"cCxXyYz".contains(&kind),
        Some(_) => b"deHImMSuUVwWy".contains(&kind),
        None => true,
    };
    let text = if allowed {
        value(kind, &shape, now)?
    } else {
        None
    };
    Ok((length, text.unwrap_or_else(|| rest[..length].to_owned())))
}

/// The text of a directive; nothing if there is none of this letter.
fn value(kind: u8, shape: &Shape, now: NaiveDateTime) -> Outcome<Option<String>> {
    let hour12 = match now.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let weekday = now.weekday().num_days_from_sunday();
    let number = |value: i64, digits: usize, fill: char| number(value, digits, fill, shape);
    let word = |text: &str| {
        let text = if shape.upper || shape.swap {
            text.to_ascii_uppercase()
        } else {
            text.to_owned()
        };
        padded(text, shape)
    };
    let composed = |format: &str| -> Outcome<Option<String>> {
        let mut text = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            text.push_str(&rest[..at]);
            let (length, piece) = directive(&rest[at..], now)?;
            text.push_str(&piece);
            rest = &rest[at + length..];
        }
        text.push_str(rest);
        if shape.upper {
            text = text.to_ascii_uppercase();
        }
        Ok(Some(padded(text, shape)))
    };
    let day_name = DAYS.get(weekday as usize).copied().unwrap_or("");
    let month_name = MONTHS.get(now.month0() as usize).copied().unwrap_or("");
    let (iso, ordinal) = (now.iso_week(), i64::from(now.ordinal0()));
    let weeks = |first: i64| (ordinal + 7 - first) / 7;
    Ok(Some(match kind {
        b'%' => "%".into(),
        b'n' => "\n".into(),
        b't' => "\t".into(),
        b'a' => word(&day_name[..3.min(day_name.len())]),
        b'A' => word(day_name),
        b'b' | b'h' => word(&month_name[..3.min(month_name.len())]),
        b'B' => word(month_name),
        b'p' => {
            let text = if now.hour() < 12 { "AM" } else { "PM" };
            padded(
                if shape.swap {
                    text.to_lowercase()
                } else {
                    text.into()
                },
                shape,
            )
        }
        b'P' => padded(if now.hour() < 12 { "am" } else { "pm" }.into(), shape),
        b'd' => number(now.day().into(), 2, '0'),
        b'e' => number(now.day().into(), 2, ' '),
        b'H' => number(now.hour().into(), 2, '0'),
        b'k' => number(now.hour().into(), 2, ' '),
        b'I' => number(hour12.into(), 2, '0'),
        b'l' => number(hour12.into(), 2, ' '),
        b'M' => number(now.minute().into(), 2, '0'),
        b'S' => number(now.second().into(), 2, '0'),
        b'm' => number(now.month().into(), 2, '0'),
        b'j' => number(ordinal + 1, 3, '0'),
        b'u' => number(i64::from(now.weekday().number_from_monday()), 1, '0'),
        b'w' => number(weekday.into(), 1, '0'),
        b'U' => number(weeks(i64::from(weekday)), 2, '0'),
        b'W' => number(weeks(i64::from((weekday + 6) % 7)), 2, '0'),
        b'V' => number(iso.week().into(), 2, '0'),
        b'G' => number(iso.year().into(), 4, '0'),
        b'g' => number(i64::from(iso.year()).rem_euclid(100), 2, '0'),
        b'Y' => number(now.year().into(), 4, '0'),
        b'y' => number(i64::from(now.year()).rem_euclid(100), 2, '0'),
        b'C' => number(i64::from(now.year()).div_euclid(100), 2, '0'),
        b'c' => return composed("%a %b %e %H:%M:%S %Y"),
        b'D' | b'x' => return composed("%m/%d/%y"),
        b'F' => return composed("%Y-%m-%d"),
        b'r' => return composed("%I:%M:%S %p"),
        b'R' => return composed("%H:%M"),
        b'T' | b'X' => return composed("%H:%M:%S"),
        b's' => return value_error("the time format %s depends on the zone"),
        // A time without a zone has neither.
        b'z' | b'Z' => String::new(),
        _ => return Ok(None),
    }))
}

fn number(value: i64, digits: usize, fill: char, shape: &Shape) -> String {
    let plain = value.to_string();
    let (fill, digits) = match shape.pad {
        Pad::None => return plain,
        Pad::Default => (fill, digits),
        Pad::Space => (' ', digits),
        Pad::Zero => ('0', digits),
    };
    let width = shape.width.unwrap_or(0).max(digits);
    let missing = width.saturating_sub(plain.len());
    fill.to_string().repeat(missing) + &plain
}

/// A word up to the width.
fn padded(text: String, shape: &Shape) -> String {
    if shape.pad == Pad::None {
        return text;
    }
    let fill = if shape.pad == Pad::Zero { "0" } else { " " };
    let missing = shape.width.unwrap_or(0).saturating_sub(text.len());
    fill.repeat(missing) + &text
}
