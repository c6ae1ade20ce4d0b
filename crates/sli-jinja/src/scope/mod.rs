//! Which variable a name means: Jinja2's own rules, which are decided before anything runs.
//!
//! A *function* is a template, a macro, the condition of a loop, a recursive loop or a block: it has slots.
//! A *frame* is a level of scope in a function. When a frame is entered, its variables get what outer
//! variables or the context hold then; what is set in it later stays in it.

mod names;
mod resolver;
mod statements;
mod symbols;

use std::rc::Rc;

use crate::ast::Tree;
use crate::error::{Outcome, other};

use resolver::{Resolver, Scope};
use symbols::{Slots, Symbols};

/// Finds the slot of every name of a tree, and checks what Jinja2 checks when it compiles.
pub(crate) fn resolve(tree: &mut Tree) -> Outcome<()> {
    if names::reads(&tree.body, "self") {
        return other("`self` is not supported");
    }
    let mut resolver = Resolver {
        slots: Slots::default(),
        lost: None,
    };
    resolver.slots.open();
    let mut symbols = Symbols::default();
    symbols.body(&tree.body, &mut resolver.slots);
    tree.frame = symbols.frame(0);
    let scope = Scope {
        symbols: Rc::new(symbols),
        top_level: true,
        soft: false,
        in_loop: false,
    };
    resolver.body(&mut tree.body, &scope)?;
    tree.slots = resolver.slots.close();
    for (_, block) in Rc::get_mut(&mut tree.blocks).into_iter().flatten() {
        resolver.block(block)?;
    }
    match resolver.lost {
        Some(name) => other(format!("`{name}` belongs to no scope here")),
        None => Ok(()),
    }
}
