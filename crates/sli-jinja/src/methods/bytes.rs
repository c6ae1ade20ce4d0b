//! Methods of bytes, which `str.encode` gives.

use std::fmt::Write;
use std::rc::Rc;

use crate::arguments::{text, wrong_type};
use crate::error::{Outcome, other, value_error};
use crate::value::{Args, Value};

pub(super) fn call(bytes: &Rc<[u8]>, name: &str, args: &Args) -> Outcome<Value> {
    match name {
        "decode" => {
            let [encoding, errors] = args.bind(name, ["encoding", "errors"], 0)?;
            check_encoding(encoding.as_ref())?;
            if errors.is_some() {
                return other("decode() with `errors` is not supported");
            }
            match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Value::str(text)),
                Err(error) => value_error(error.to_string()),
            }
        }
        "hex" => {
            args.only::<0>(name, 0)?;
            let mut text = String::new();
            for byte in &**bytes {
                let _ = write!(text, "{byte:02x}");
            }
            Ok(Value::from(text))
        }
        _ => {
            let [part] = args.only(name, 1)?;
            let part = part.unwrap_or(Value::None);
            let Value::Bytes(part) = &part else {
                return wrong_type(name, &part);
            };
            Ok(match name {
                "startswith" => Value::Bool(bytes.starts_with(part)),
                "endswith" => Value::Bool(bytes.ends_with(part)),
                _ if part.is_empty() => Value::length(bytes.len() + 1),
                _ => {
                    let (mut count, mut at) = (0, 0);
                    while at + part.len() <= bytes.len() {
                        if bytes[at..].starts_with(part) {
                            count += 1;
                            at += part.len();
                        } else {
                            at += 1;
                        }
                    }
                    Value::Int(count)
                }
            })
        }
    }
}

/// Only UTF-8 and ASCII are known.
pub(super) fn check_encoding(encoding: Option<&Value>) -> Outcome<bool> {
    let Some(encoding) = encoding else {
        return Ok(false);
    };
    let name = text(encoding, "encoding")?
        .to_ascii_lowercase()
        .replace('_', "-");
    match name.as_str() {
        "utf-8" | "utf8" => Ok(false),
        "ascii" | "us-ascii" => Ok(true),
        _ => other(format!("the encoding `{name}` is not supported")),
    }
}

/// `str.encode`.
pub(super) fn encode(whole: &str, args: &Args) -> Outcome<Value> {
    let [encoding, errors] = args.bind("encode", ["encoding", "errors"], 0)?;
    let ascii = check_encoding(encoding.as_ref())?;
    let errors = match &errors {
        Some(errors) => text(errors, "errors")?.to_string(),
        None => "strict".into(),
    };
    if !ascii || whole.is_ascii() {
        return Ok(Value::Bytes(whole.as_bytes().into()));
    }
    match errors.as_str() {
        "strict" => value_error("the text is not ASCII"),
        "ignore" => {
            let kept: String = whole.chars().filter(char::is_ascii).collect();
            Ok(Value::Bytes(kept.as_bytes().into()))
        }
        "replace" => {
            let kept = whole.chars().map(|c| if c.is_ascii() { c } else { '?' });
            Ok(Value::Bytes(kept.collect::<String>().as_bytes().into()))
        }
        _ => other(format!("encode() with `{errors}` is not supported")),
    }
}
