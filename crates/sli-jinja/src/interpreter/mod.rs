//! A template at work.
//!
//! Expressions stand below statements: what they call brings its own statements with it, as a value.

mod activation;
mod expressions;
mod for_loops;
mod macros;
mod statements;
mod targets;

use std::collections::HashMap;
use std::rc::Rc;

use crate::ast::Tree;
use crate::error::Outcome;
use crate::run::Run;
use crate::value::Value;

use activation::{Activation, Context};

/// Renders a template with what it is given.
pub(crate) fn render(tree: &Tree, given: HashMap<Rc<str>, Value>, run: &mut Run) -> Outcome<()> {
    let context = Context::new(given, &tree.blocks);
    let activation = Activation::outermost(tree.slots, context);
    activation.enter(&tree.frame);
    statements::execute(&tree.body, &activation, run)?;
    Ok(())
}
