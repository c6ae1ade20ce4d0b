//! Tokens to trees.
//!
//! One parser goes down through its files: [`statement`]s hold [`target`]s and [`expression`]s, and expressions
//! [`operand`]s, which hold expressions in brackets again.

mod cursor;
mod expression;
mod operand;
mod statement;
mod target;

use std::rc::Rc;

use crate::ast::Tree;
use crate::error::Outcome;

/// The tree of a template.
pub(crate) fn parse(source: &str) -> Outcome<Tree> {
    let mut parser = cursor::Parser::new(source)?;
    let body = parser.body(&[])?;
    Ok(Tree {
        body,
        frame: Vec::new(),
        slots: 0,
        blocks: Rc::new(parser.blocks),
    })
}
