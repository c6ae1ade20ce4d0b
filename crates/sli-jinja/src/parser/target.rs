//! What can be set: names, tuples of them, attributes of namespaces, and the arguments of macros.

use super::cursor::{Parser, is_constant};
use crate::ast::{Expr, Name, Target};
use crate::error::Outcome;

impl Parser {
    /// Arguments of a macro, and the defaults of the last of them.
    pub(super) fn signature(&mut self) -> Outcome<(Vec<Name>, Vec<Expr>)> {
        let (mut arguments, mut defaults) = (Vec::<Name>::new(), Vec::new());
        self.expect_operator("(")?;
        while !self.is_operator(")") {
            if !arguments.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.target_name()?;
            if self.skip_operator("=") {
                defaults.push(self.expression(true)?);
            } else if !defaults.is_empty() {
                return self.fail("an argument without a default follows one with a default");
            }
            if arguments.iter().any(|known| known.id == name.id) {
                return self.fail(format!("the argument `{}` is there twice", name.id));
            }
            arguments.push(name);
        }
        self.expect_operator(")")?;
        Ok((arguments, defaults))
    }

    /// A name that can be set.
    pub(super) fn target_name(&mut self) -> Outcome<Name> {
        let name = self.name()?;
        if is_constant(&name) {
            return self.fail(format!("`{name}` cannot be set"));
        }
        Ok(Name::new(&name))
    }

    /// What an assignment sets: a name, names, or attributes of namespaces.
    pub(super) fn target(&mut self, ends: &[&str], attributes: bool) -> Outcome<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if !targets.is_empty() {
                self.expect_operator(",")?;
            }
            if self.is_tuple_end(ends) {
                break;
            }
            targets.push(self.one_target(attributes)?);
            if !self.is_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(target) if !is_tuple => Ok(target),
            Some(target) => {
                targets.push(target);
                Ok(Target::Tuple(targets))
            }
            None => self.unexpected("a name"),
        }
    }

    fn one_target(&mut self, attributes: bool) -> Outcome<Target> {
        if self.skip_operator("(") {
            let target = self.deeper(|parser| parser.target(&[], false));
            // What stands in brackets is an ordinary expression, so namespaces are not in it.
            let target = target?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.target_name()?;
        if attributes && self.skip_operator(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }
}
