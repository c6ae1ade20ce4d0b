//! Template text to tokens, with `trim_blocks` and `lstrip_blocks`.
//!
//! `\r\n` and `\r` are `\n` before anything else, and one line end at the end of the template is dropped.

use crate::error::{Error, Kind, Outcome, other};
use crate::literal;
use crate::token::{OPERATORS, Token, TokenKind};
use crate::unicode::is_space;

/// The tokens of a template, with [`TokenKind::End`] at the end.
pub(crate) fn tokens(source: &str) -> Outcome<Vec<Token>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer {
        source: &source,
        at: 0,
        line: 1,
        line_starting: true,
        open: Vec::new(),
        tokens: Vec::new(),
    };
    lexer.run()?;
    let line = lexer.line;
    lexer.tokens.push(Token {
        line,
        kind: TokenKind::End,
    });
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    /// The last match ended with a line end.
    line_starting: bool,
    /// Closing brackets that are expected.
    open: Vec<char>,
    tokens: Vec<Token>,
}

/// White space that a tag takes off the text before it.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    None,
    Minus,
    Plus,
}

/// What a tag begins.
#[derive(Clone, Copy, PartialEq)]
enum Begin {
    Raw,
    Comment,
    Block,
    Variable,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: TokenKind) {
        self.tokens.push(Token {
            line: self.line,
            kind,
        });
    }

    /// Goes on by `bytes`, counting lines.
    fn advance(&mut self, bytes: usize) {
        let passed = &self.source[self.at..self.at + bytes];
        self.line += passed.matches('\n').count() as u32;
        self.line_starting = passed.ends_with('\n');
        self.at += bytes;
    }

    fn run(&mut self) -> Outcome<()> {
        while self.at < self.source.len() {
            let rest = self.rest();
            let Some((start, begin, sign, length)) = find_tag(rest) else {
                self.push(TokenKind::Data(rest.to_owned()));
                self.advance(rest.len());
                break;
            };
            let text = stripped(
                &rest[..start],
                sign,
                begin == Begin::Variable,
                self.line_starting,
            );
            if !text.is_empty() {
                self.push(TokenKind::Data(text.to_owned()));
            }
            self.advance(start + length);
            match begin {
                Begin::Raw => self.raw()?,
                Begin::Comment => self.comment()?,
                Begin::Block => {
                    self.push(TokenKind::BlockBegin);
                    self.tag(true)?;
                }
                Begin::Variable => {
                    self.push(TokenKind::VariableBegin);
                    self.tag(false)?;
                }
            }
        }
        Ok(())
    }

    fn comment(&mut self) -> Outcome<()> {
        let rest = self.rest();
        let Some(end) = rest.find("#}") else {
            return other("a comment has no end").map_err(|error: Error| error.at(self.line));
        };
        // The sign is looked for first, one character earlier.
        let before = rest[..end].chars().next_back();
        let length = match before {
            Some('-') => end + 2 + leading_space(&rest[end + 2..]),
            Some('+') => end + 2,
            _ => end + 2 + trimmed_newline(&rest[end + 2..]),
        };
        self.advance(length);
        Ok(())
    }

    fn raw(&mut self) -> Outcome<()> {
        let rest = self.rest();
        let found = rest.match_indices("{%").find_map(|(start, _)| {
            let (sign, inner) = sign_of(&rest[start + 2..]);
            let inner = inner.trim_start_matches(is_space).strip_prefix("endraw")?;
            let inner = inner.trim_start_matches(is_space);
            let after = if let Some(after) = inner.strip_prefix("+%}") {
                after
            } else if let Some(after) = inner.strip_prefix("-%}") {
                after.trim_start_matches(is_space)
            } else {
                let after = inner.strip_prefix("%}")?;
                &after[trimmed_newline(after)..]
            };
            Some((start, sign, rest.len() - after.len()))
        });
        let Some((start, sign, end)) = found else {
            return other("a raw block has no end").map_err(|error: Error| error.at(self.line));
        };
        let text = stripped(&rest[..start], sign, false, self.line_starting);
        if !text.is_empty() {
            self.push(TokenKind::Data(text.to_owned()));
        }
        self.advance(end);
        Ok(())
    }

    /// The tokens of a tag, up to its end.
    fn tag(&mut self, block: bool) -> Outcome<()> {
        self.open.clear();
        loop {
            let rest = self.rest();
            if self.open.is_empty()
                && let Some(length) = end_of_tag(rest, block)
            {
                self.push(if block {
                    TokenKind::BlockEnd
                } else {
                    TokenKind::VariableEnd
                });
                self.advance(length);
                return Ok(());
            }
            let Some(first) = rest.chars().next() else {
                return Ok(());
            };
            if is_space(first) {
                self.advance(leading_space(rest));
                continue;
            }
            let after_dot = self.source[..self.at].ends_with('.');
            let line = self.line;
            let (kind, length) = one(rest, after_dot).map_err(|error| error.at(line))?;
            if let TokenKind::Operator(operator) = kind {
                self.balance(operator)?;
            }
            self.push(kind);
            self.advance(length);
        }
    }

    fn balance(&mut self, operator: &str) -> Outcome<()> {
        match operator {
            "{" => self.open.push('}'),
            "(" => self.open.push(')'),
            "[" => self.open.push(']'),
            "}" | ")" | "]" => {
                let expected = self.open.pop().map(String::from);
                if expected.as_deref() != Some(operator) {
                    return other(format!("unexpected `{operator}`"))
                        .map_err(|error: Error| error.at(self.line));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The first token of a text that does not begin with white space, and its length.
fn one(rest: &str, after_dot: bool) -> Outcome<(TokenKind, usize)> {
    if let Some((kind, length)) = literal::number(rest, after_dot)? {
        return Ok((kind, length));
    }
    let name: usize = rest
        .chars()
        .take_while(|&c| c.is_alphanumeric() || c == '_')
        .map(char::len_utf8)
        .sum();
    if name > 0 {
        let text = &rest[..name];
        if text.starts_with(|c: char| c.is_numeric()) {
            return other("invalid character in identifier");
        }
        return Ok((TokenKind::Name(text.to_owned()), name));
    }
    if rest.starts_with(['"', '\''])
        && let Some(length) = literal::string_length(rest)
    {
        let text = literal::unescape(&rest[1..length - 1])?;
        return Ok((TokenKind::Text(text), length));
    }
    let operator = OPERATORS
        .iter()
        .find(|operator| rest.starts_with(**operator));
    match operator {
        Some(operator) => Ok((TokenKind::Operator(operator), operator.len())),
        None => Err(Error::new(
            Kind::Other,
            format!("unexpected `{}`", rest.chars().next().unwrap_or(' ')),
        )),
    }
}

/// The first tag: where, what, its sign, and how long its beginning is.
fn find_tag(rest: &str) -> Option<(usize, Begin, Sign, usize)> {
    let bytes = rest.as_bytes();
    let mut from = 0;
    while let Some(found) = rest[from..].find('{') {
        let start = from + found;
        let begin = match bytes.get(start + 1) {
            Some(b'%') => Begin::Block,
            Some(b'#') => Begin::Comment,
            Some(b'{') => Begin::Variable,
            _ => {
                from = start + 1;
                continue;
            }
        };
        let (sign, inner) = sign_of(&rest[start + 2..]);
        if begin == Begin::Block
            && let Some(length) = raw_begin(inner)
        {
            let length = rest.len() - start - inner.len() + length;
            return Some((start, Begin::Raw, sign, length));
        }
        let length = rest.len() - start - inner.len();
        return Some((start, begin, sign, length));
    }
    None
}

/// Length of `raw %}` after the sign of a block.
fn raw_begin(inner: &str) -> Option<usize> {
    let after = inner.trim_start_matches(is_space).strip_prefix("raw")?;
    let after = after.trim_start_matches(is_space);
    let after = match after.strip_prefix("-%}") {
        Some(after) => after.trim_start_matches(is_space),
        None => after.strip_prefix("%}")?,
    };
    Some(inner.len() - after.len())
}

fn sign_of(inner: &str) -> (Sign, &str) {
    match inner.as_bytes().first() {
        Some(b'-') => (Sign::Minus, &inner[1..]),
        Some(b'+') => (Sign::Plus, &inner[1..]),
        _ => (Sign::None, inner),
    }
}

/// Text before a tag without the white space that the tag takes off.
fn stripped(text: &str, sign: Sign, variable: bool, line_starting: bool) -> &str {
    match sign {
        Sign::Minus => text.trim_end_matches(is_space),
        Sign::None if !variable => {
            let line = text.rfind('\n').map_or(0, |newline| newline + 1);
            let indentation = &text[line..];
            if (line > 0 || line_starting) && indentation.chars().all(is_space) {
                &text[..line]
            } else {
                text
            }
        }
        Sign::None | Sign::Plus => text,
    }
}

/// Length of the end of a tag that stands here.
fn end_of_tag(rest: &str, block: bool) -> Option<usize> {
    let end = if block { "%}" } else { "}}" };
    if let Some(after) = rest
        .strip_prefix('-')
        .and_then(|rest| rest.strip_prefix(end))
    {
        return Some(3 + leading_space(after));
    }
    if block && rest.starts_with("+%}") {
        return Some(3);
    }
    let after = rest.strip_prefix(end)?;
    Some(2 + if block { trimmed_newline(after) } else { 0 })
}

fn trimmed_newline(rest: &str) -> usize {
    usize::from(rest.starts_with('\n'))
}

fn leading_space(rest: &str) -> usize {
    rest.len() - rest.trim_start_matches(is_space).len()
}
