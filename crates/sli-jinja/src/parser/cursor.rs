//! Where a parser stands in its tokens.

use std::rc::Rc;

use crate::ast::Block;
use crate::error::{Error, Kind, Outcome};
use crate::lexer::tokens;
use crate::token::{Token, TokenKind};

/// How deeply tags and brackets may hold each other.
const DEEPEST: usize = 200;

/// A template that is being parsed.
pub(super) struct Parser {
    tokens: Vec<Token>,
    pub at: usize,
    depth: usize,
    /// Blocks that were met.
    pub blocks: Vec<(Rc<str>, Block)>,
}

const END: &TokenKind = &TokenKind::End;

impl Parser {
    pub fn new(source: &str) -> Outcome<Self> {
        Ok(Self {
            tokens: tokens(source)?,
            at: 0,
            depth: 0,
            blocks: Vec::new(),
        })
    }

    pub fn peek(&self) -> &TokenKind {
        self.tokens.get(self.at).map_or(END, |token| &token.kind)
    }

    pub fn peek_second(&self) -> &TokenKind {
        self.tokens
            .get(self.at + 1)
            .map_or(END, |token| &token.kind)
    }

    pub fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens
            .get(self.at.min(last))
            .map_or(1, |token| token.line)
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Outcome<T> {
        Err(Error::new(Kind::Other, message).at(self.line()))
    }

    pub fn unexpected<T>(&self, expected: &str) -> Outcome<T> {
        self.fail(format!(
            "expected {expected}, got {}",
            self.peek().describe()
        ))
    }

    /// Goes down a level, which must not be too deep.
    pub fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.fail("too much is nested");
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), TokenKind::Operator(found) if *found == operator)
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), TokenKind::Name(found) if found == name)
    }

    pub fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    pub fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub fn expect_operator(&mut self, operator: &str) -> Outcome<()> {
        if self.skip_operator(operator) {
            Ok(())
        } else {
            self.unexpected(&format!("`{operator}`"))
        }
    }

    pub fn expect_name(&mut self, name: &str) -> Outcome<()> {
        if self.skip_name(name) {
            Ok(())
        } else {
            self.unexpected(&format!("`{name}`"))
        }
    }

    pub fn name(&mut self) -> Outcome<Rc<str>> {
        match self.peek() {
            TokenKind::Name(name) => {
                let name = name.as_str().into();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub fn block_end(&mut self) -> Outcome<()> {
        if *self.peek() == TokenKind::BlockEnd {
            self.at += 1;
            Ok(())
        } else {
            self.unexpected("the end of the tag")
        }
    }

    /// Whether a tuple without brackets ends here.
    pub fn is_tuple_end(&self, ends: &[&str]) -> bool {
        match self.peek() {
            TokenKind::VariableEnd | TokenKind::BlockEnd | TokenKind::Operator(")") => true,
            TokenKind::Name(name) => ends.contains(&name.as_str()),
            _ => false,
        }
    }
}

/// Names that are values.
pub(super) fn is_constant(name: &str) -> bool {
    matches!(name, "true" | "false" | "none" | "True" | "False" | "None")
}
