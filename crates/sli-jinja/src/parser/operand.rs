//! Operands: what stands between operators, with what follows it: attributes, subscripts, calls, filters and tests.

use std::rc::Rc;

use super::cursor::{Parser, is_constant};
use crate::ast::{Applied, Arguments, Expr, Literal, Name, Slice};
use crate::error::Outcome;
use crate::token::TokenKind;

impl Parser {
    pub(super) fn unary(&mut self, with_filter: bool) -> Outcome<Expr> {
        let mut node = if self.skip_operator("-") {
            let negated = self.deeper(|parser| parser.unary(false))?;
            Expr::Negative(Box::new(negated))
        } else if self.skip_operator("+") {
            let kept = self.deeper(|parser| parser.unary(false))?;
            Expr::Positive(Box::new(kept))
        } else {
            self.primary()?
        };
        node = self.postfix(node)?;
        if with_filter {
            node = self.filtered(node)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let node = match self.peek() {
            TokenKind::Name(name) => match name.as_str() {
                "true" | "True" => Expr::Literal(Literal::Bool(true)),
                "false" | "False" => Expr::Literal(Literal::Bool(false)),
                name if is_constant(name) => Expr::Literal(Literal::None),
                name => Expr::Name(Name::new(name)),
            },
            TokenKind::Text(text) => {
                let mut text = text.clone();
                self.at += 1;
                while let TokenKind::Text(more) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                return Ok(Expr::Literal(Literal::Text(text.into())));
            }
            TokenKind::Integer(value) => Expr::Literal(value.into()),
            TokenKind::Float(value) => Expr::Literal(Literal::Float(*value)),
            TokenKind::Operator("(") => {
                self.at += 1;
                let inner = self.deeper(|parser| parser.tuple(true, &[], true))?;
                self.expect_operator(")")?;
                return Ok(inner);
            }
            TokenKind::Operator("[") => {
                self.at += 1;
                let items = self.items("]", |parser| parser.expression(true))?;
                return Ok(Expr::List(items));
            }
            TokenKind::Operator("{") => {
                self.at += 1;
                let items = self.items("}", |parser| {
                    let key = parser.expression(true)?;
                    parser.expect_operator(":")?;
                    Ok((key, parser.expression(true)?))
                })?;
                return Ok(Expr::Dict(items));
            }
            _ => return self.unexpected("an expression"),
        };
        self.at += 1;
        Ok(node)
    }

    /// Items with commas between, up to the closing bracket.
    fn items<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Outcome<T>,
    ) -> Outcome<Vec<T>> {
        let mut items = Vec::new();
        while !self.is_operator(close) {
            if !items.is_empty() {
                self.expect_operator(",")?;
                if self.is_operator(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        self.at += 1;
        Ok(items)
    }

    fn postfix(&mut self, mut node: Expr) -> Outcome<Expr> {
        loop {
            node = match self.peek() {
                TokenKind::Operator(".") => self.attribute(node)?,
                TokenKind::Operator("[") => self.subscript(node)?,
                TokenKind::Operator("(") => self.call(node)?,
                _ => return Ok(node),
            };
        }
    }

    fn filtered(&mut self, mut node: Expr) -> Outcome<Expr> {
        loop {
            node = match self.peek() {
                TokenKind::Operator("|") => {
                    self.at += 1;
                    let name = self.dotted_name()?;
                    let arguments = self.optional_arguments()?;
                    Expr::Filter(Box::new(Applied {
                        to: Some(node),
                        name,
                        arguments,
                    }))
                }
                TokenKind::Name(name) if name == "is" => self.test(node)?,
                TokenKind::Operator("(") => self.call(node)?,
                _ => return Ok(node),
            };
        }
    }

    fn call(&mut self, node: Expr) -> Outcome<Expr> {
        let arguments = self.arguments()?;
        Ok(Expr::Call(Box::new((node, arguments))))
    }

    fn attribute(&mut self, node: Expr) -> Outcome<Expr> {
        self.at += 1;
        match self.peek() {
            TokenKind::Name(name) => {
                let name = name.as_str().into();
                self.at += 1;
                Ok(Expr::Attribute(Box::new(node), name))
            }
            TokenKind::Integer(index) => {
                let index = Expr::Literal(index.into());
                self.at += 1;
                Ok(Expr::Item(Box::new((node, index))))
            }
            _ => self.unexpected("a name or number"),
        }
    }

    fn subscript(&mut self, node: Expr) -> Outcome<Expr> {
        self.at += 1;
        let mut subscripts = Vec::new();
        while !self.is_operator("]") {
            if !subscripts.is_empty() {
                self.expect_operator(",")?;
            }
            subscripts.push(self.subscribed()?);
        }
        self.at += 1;
        let subscript = match subscripts.pop() {
            Some(only) if subscripts.is_empty() => only,
            Some(last) => {
                subscripts.push(last);
                Expr::Tuple(subscripts)
            }
            None => Expr::Tuple(subscripts),
        };
        Ok(match subscript {
            Expr::Slice(slice) => Expr::Sliced(Box::new((node, *slice))),
            subscript => Expr::Item(Box::new((node, subscript))),
        })
    }

    fn subscribed(&mut self) -> Outcome<Expr> {
        let start = if self.is_operator(":") {
            None
        } else {
            let node = self.expression(true)?;
            if !self.is_operator(":") {
                return Ok(node);
            }
            Some(node)
        };
        self.at += 1;
        let ends = |parser: &Self| {
            parser.is_operator(":") || parser.is_operator("]") || parser.is_operator(",")
        };
        let stop = if ends(self) {
            None
        } else {
            Some(self.expression(true)?)
        };
        let step = if self.skip_operator(":") && !ends(self) {
            Some(self.expression(true)?)
        } else {
            None
        };
        Ok(Expr::Slice(Box::new(Slice { start, stop, step })))
    }

    pub(super) fn dotted_name(&mut self) -> Outcome<Rc<str>> {
        let mut name = self.name()?.to_string();
        while self.skip_operator(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name.into())
    }

    pub(super) fn optional_arguments(&mut self) -> Outcome<Arguments> {
        if self.is_operator("(") {
            self.arguments()
        } else {
            Ok(Arguments::default())
        }
    }

    fn arguments(&mut self) -> Outcome<Arguments> {
        self.at += 1;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.is_operator(")") {
            if !first {
                self.expect_operator(",")?;
                if self.is_operator(")") {
                    break;
                }
            }
            first = false;
            let no_more = arguments.more_keyword.is_some();
            let after_star = no_more || arguments.more_positional.is_some();
            if self.skip_operator("*") {
                if after_star {
                    return self.fail("this argument cannot stand here");
                }
                arguments.more_positional = Some(Box::new(self.expression(true)?));
            } else if self.skip_operator("**") {
                if no_more {
                    return self.fail("this argument cannot stand here");
                }
                arguments.more_keyword = Some(Box::new(self.expression(true)?));
            } else if let TokenKind::Name(name) = self.peek()
                && *self.peek_second() == TokenKind::Operator("=")
            {
                let name: Rc<str> = name.as_str().into();
                if no_more {
                    return self.fail("this argument cannot stand here");
                }
                self.at += 2;
                let value = self.expression(true)?;
                if arguments.keyword.iter().any(|(known, _)| *known == name) {
                    return self.fail(format!("the argument `{name}` is there twice"));
                }
                arguments.keyword.push((name, value));
            } else {
                if after_star || !arguments.keyword.is_empty() {
                    return self.fail("this argument cannot stand here");
                }
                arguments.positional.push(self.expression(true)?);
            }
        }
        self.at += 1;
        Ok(arguments)
    }

    fn test(&mut self, node: Expr) -> Outcome<Expr> {
        self.at += 1;
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let takes_one = match self.peek() {
            TokenKind::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            TokenKind::Text(_) | TokenKind::Integer(_) | TokenKind::Float(_) => true,
            TokenKind::Operator(operator) => matches!(*operator, "[" | "{"),
            _ => false,
        };
        let arguments = if self.is_operator("(") {
            self.arguments()?
        } else if takes_one {
            if self.is_name("is") {
                return self.fail("tests cannot be chained with `is`");
            }
            let argument = self.primary()?;
            let argument = self.postfix(argument)?;
            Arguments {
                positional: vec![argument],
                ..Arguments::default()
            }
        } else {
            Arguments::default()
        };
        let test = Expr::Test(Box::new(Applied {
            to: Some(node),
            name,
            arguments,
        }));
        Ok(if negated {
            Expr::Not(Box::new(test))
        } else {
            test
        })
    }

    /// `| filter | filter`, or the first one without its sign.
    pub(super) fn filters(&mut self, mut without_sign: bool) -> Outcome<Vec<Applied>> {
        let mut filters = Vec::new();
        while without_sign || self.skip_operator("|") {
            without_sign = false;
            let name = self.dotted_name()?;
            let arguments = self.optional_arguments()?;
            filters.push(Applied {
                to: None,
                name,
                arguments,
            });
        }
        Ok(filters)
    }
}
