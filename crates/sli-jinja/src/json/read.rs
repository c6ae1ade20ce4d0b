//! `json.loads`.

use num_bigint::BigInt;

use crate::value::{Dict, Value};

/// How deeply lists and objects may hold each other.
const DEEPEST: usize = 500;
/// Digits of the longest integer.
const MOST_DIGITS: usize = 4300;

/// The value of a text; an error says what is wrong where.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    read_whole(text, |reader| reader.value(0))
}

/// The texts of the items of a list.
pub(crate) fn items(text: &str) -> Result<Vec<&str>, String> {
    let mut items = Vec::new();
    read_whole(text, |reader| {
        reader.each_item(|reader| {
            let start = reader.at;
            reader.value(1)?;
            items.push(&text[start..reader.at]);
            Ok(())
        })
    })?;
    Ok(items)
}

/// The keys of an object and the texts of their values.
pub(crate) fn members(text: &str) -> Result<Vec<(String, &str)>, String> {
    let mut members = Vec::new();
    read_whole(text, |reader| {
        reader.each_member(|reader, key| {
            let start = reader.at;
            reader.value(1)?;
            members.push((key, &text[start..reader.at]));
            Ok(())
        })
    })?;
    Ok(members)
}

/// Reads a text of which nothing may be left.
fn read_whole<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, String>,
) -> Result<T, String> {
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let value = read(&mut reader)?;
    reader.space();
    if reader.at < text.len() {
        return reader.wrong("nothing more");
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong<T>(&self, expected: &str) -> Result<T, String> {
        Err(format!("expected {expected} at byte {}", self.at))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err("lists and objects hold each other too deeply".into());
        }
        for (word, value) in [
            ("null", Value::None),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
            ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        ] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        match self.peek() {
            Some(b'"') => self.string().map(Value::from),
            Some(b'[') => self.list(depth),
            Some(b'{') => self.object(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.wrong("a value"),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        self.each_item(|reader| {
            items.push(reader.value(depth + 1)?);
            Ok(())
        })?;
        Ok(Value::list(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        let mut dict = Dict::default();
        self.each_member(|reader, key| {
            let value = reader.value(depth + 1)?;
            dict.set_str(&key, value);
            Ok(())
        })?;
        Ok(Value::dict(dict))
    }

    /// Reads a list, each item by `item`.
    fn each_item(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.peek() != Some(b'[') {
            return self.wrong("a list");
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("`,` or `]`"),
            }
        }
    }

    /// Reads an object, each value by `member`, which gets its key.
    fn each_member(
        &mut self,
        mut member: impl FnMut(&mut Self, String) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.peek() != Some(b'{') {
            return self.wrong("an object");
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.wrong("a key");
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return self.wrong("`:`");
            }
            self.at += 1;
            self.space();
            member(self, key)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("`,` or `}`"),
            }
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = self.rest().as_bytes();
        let digits = |from: usize| {
            rest.get(from..)
                .unwrap_or_default()
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let sign = usize::from(rest.first() == Some(&b'-'));
        let whole = digits(sign);
        if whole == 0 || (whole > 1 && rest.get(sign) == Some(&b'0')) {
            return self.wrong("a number");
        }
        let mut end = sign + whole;
        let mut is_float = false;
        if rest.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
            is_float = true;
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + signed);
            if exponent > 0 {
                end += 1 + signed + exponent;
                is_float = true;
            }
        }
        let text = &self.rest()[..end];
        let value = if is_float {
            text.parse().ok().map(Value::Float)
        } else if whole > MOST_DIGITS {
            None
        } else {
            BigInt::parse_bytes(text.as_bytes(), 10).map(Value::from)
        };
        match value {
            Some(value) => {
                self.at += end;
                Ok(value)
            }
            None => self.wrong("a number of at most 4300 digits"),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = rest
                .find(|c| matches!(c, '"' | '\\') || c < ' ')
                .unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = self.escape()?;
                    text.push(c);
                }
                _ => return self.wrong("the end of a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let kind = self.peek();
        self.at += 1;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit()?;
                if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let second = self.unit()?;
                    let pair = char::decode_utf16([first, second]).next();
                    if let Some(Ok(c)) = pair {
                        return Ok(c);
                    }
                }
                match char::from_u32(u32::from(first)) {
                    Some(c) => c,
                    None => return self.wrong("a character, not half of one"),
                }
            }
            _ => return self.wrong("an escape"),
        })
    }

    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        let is_hex = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u16::from_str_radix(digits, 16) {
            Ok(unit) if is_hex => {
                self.at += 4;
                Ok(unit)
            }
            _ => self.wrong("four hexadecimal digits"),
        }
    }
}
