//! Expressions: operators by how strongly they bind.

use super::cursor::Parser;
use crate::ast::Expr;
use crate::error::Outcome;
use crate::operators::{Binary, Comparison};
use crate::token::TokenKind;

impl Parser {
    /// An expression, or several with commas between.
    pub(super) fn tuple(
        &mut self,
        conditions: bool,
        ends: &[&str],
        in_brackets: bool,
    ) -> Outcome<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            if self.is_tuple_end(ends) {
                break;
            }
            items.push(self.expression(conditions)?);
            if !self.is_operator(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            if let Some(item) = items.pop() {
                return Ok(item);
            }
            if !in_brackets {
                return self.unexpected("an expression");
            }
        }
        Ok(Expr::Tuple(items))
    }

    pub(super) fn expression(&mut self, conditions: bool) -> Outcome<Expr> {
        self.deeper(|parser| {
            if conditions {
                parser.conditional()
            } else {
                parser.or()
            }
        })
    }

    fn conditional(&mut self) -> Outcome<Expr> {
        let mut value = self.or()?;
        while self.skip_name("if") {
            let test = self.or()?;
            let otherwise = if self.skip_name("else") {
                Some(self.deeper(Self::conditional)?)
            } else {
                None
            };
            value = Expr::Condition(Box::new((test, value, otherwise)));
        }
        Ok(value)
    }

    fn or(&mut self) -> Outcome<Expr> {
        let mut left = self.and()?;
        while self.skip_name("or") {
            left = Expr::Or(Box::new((left, self.and()?)));
        }
        Ok(left)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut left = self.not()?;
        while self.skip_name("and") {
            left = Expr::And(Box::new((left, self.not()?)));
        }
        Ok(left)
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.skip_name("not") {
            let negated = self.deeper(Self::not)?;
            return Ok(Expr::Not(Box::new(negated)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek() {
                TokenKind::Operator("==") => Comparison::Eq,
                TokenKind::Operator("!=") => Comparison::Ne,
                TokenKind::Operator("<") => Comparison::Lt,
                TokenKind::Operator("<=") => Comparison::Le,
                TokenKind::Operator(">") => Comparison::Gt,
                TokenKind::Operator(">=") => Comparison::Ge,
                TokenKind::Name(name) if name == "in" => Comparison::In,
                TokenKind::Name(name)
                    if name == "not"
                        && matches!(self.peek_second(), TokenKind::Name(name) if name == "in") =>
                {
                    self.at += 1;
                    Comparison::NotIn
                }
                _ => break,
            };
            self.at += 1;
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() {
            Ok(first)
        } else {
            Ok(Expr::Compare(Box::new(first), rest))
        }
    }

    fn sum(&mut self) -> Outcome<Expr> {
        let mut left = self.concat()?;
        loop {
            let operator = match self.peek() {
                TokenKind::Operator("+") => Binary::Add,
                TokenKind::Operator("-") => Binary::Sub,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(operator, Box::new((left, self.concat()?)));
        }
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_operator("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Outcome<Expr> {
        let mut left = self.power()?;
        loop {
            let operator = match self.peek() {
                TokenKind::Operator("*") => Binary::Mul,
                TokenKind::Operator("/") => Binary::Div,
                TokenKind::Operator("//") => Binary::FloorDiv,
                TokenKind::Operator("%") => Binary::Mod,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expr::Binary(operator, Box::new((left, self.power()?)));
        }
    }

    fn power(&mut self) -> Outcome<Expr> {
        let mut left = self.unary(true)?;
        while self.skip_operator("**") {
            left = Expr::Binary(Binary::Pow, Box::new((left, self.unary(true)?)));
        }
        Ok(left)
    }
}
