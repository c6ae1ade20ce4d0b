//! Requests and answers on a line.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

/// When every file came where it is.
pub(crate) const MODIFIED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The bytes that were asked for.
    pub range: Option<Range<u64>>,
    /// What it said of who asks.
    pub authorization: Option<String>,
    /// It came to the second host.
    pub second: bool,
}

/// A part of an address as it was before it was escaped.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The next line of a request; `None`: nobody asks any more.
fn read_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let count = input.take(1 << 16).read_line(&mut line).ok()?;
    (count > 0).then_some(line)
}

pub(crate) fn read_request(input: &mut impl BufRead, second: bool) -> Option<Request> {
    let line = read_line(input)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut range, mut authorization) = (None, None);
    loop {
        let line = read_line(input)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                range = Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1);
            }
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(Request {
        method,
        target,
        range,
        authorization,
        second,
    })
}

pub(crate) fn head(
    out: &mut TcpStream,
    status: u16,
    headers: &[(&str, String)],
    length: usize,
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        text.extend([*name, ": ", value.as_str(), "\r\n"]);
    }
    text += "\r\n";
    out.write_all(text.as_bytes())
}

pub(crate) fn respond(
    out: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
    request: &Request,
) -> std::io::Result<()> {
    head(out, status, headers, body.len())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    out.write_all(body)
}
