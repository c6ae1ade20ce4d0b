//! Chat templates as transformers renders them.
//!
//! Templates are Jinja2 in its immutable sandbox, with trimmed blocks, loop controls and `{% generation %}`
//! blocks, over Python's values. This crate has a lexer, a parser, Jinja2's rules of scope and an evaluator of
//! its own: what a template prints decides every token, down to the spelling of a float.
//!
//! Templates come with models and are not trusted. They compute text only; their steps and the bytes that they
//! make are counted, and nesting is bounded. Values that hold each other are dropped as deeply as they are
//! nested, so templates need a large stack.
//!
//! Modules stand on each other in this order: `error`, `text`, `unicode`; a rendering's state (`run`); values and their
//! mappings (`value`, `dict`), which bring with them what they do where that needs more than they know; how values
//! compare, are gone through, printed and counted with; attributes; methods; tests and filters. Beside them stand a
//! template's text, tokens and tree; on both, the rules of scope and the `interpreter`.

mod access;
mod arguments;
mod arithmetic;
mod ast;
mod attributes;
mod compare;
mod comparison;
mod conversation;
mod dict;
mod error;
mod filters;
mod format;
mod globals;
mod interpreter;
mod iterate;
mod json;
mod lexer;
mod literal;
mod loops;
mod methods;
mod numbers;
mod operators;
mod parser;
mod range;
mod repr;
mod run;
mod scope;
mod strftime;
mod tests;
mod text;
mod token;
mod unicode;
mod value;
mod variables;

use std::ops::Range;
use std::rc::Rc;

use chrono::NaiveDateTime;

pub use conversation::{Conversation, check_argument, is_json, items, members};
pub use error::Error;
pub use variables::Variables;

use run::Run;
use value::Value;

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    tree: ast::Tree,
    functions: [(Rc<str>, Value); 8],
}

/// What a template makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What `{% generation %}` blocks made, in characters of the text, as the reference counts them: the text of
    /// the template itself before the block, and the length of the block. Blocks inside of macros and other
    /// blocks that capture text are counted from where these began.
    pub generation: Vec<Range<usize>>,
}

impl Template {
    /// Compiles a template; an error says on which line it is none.
    pub fn compile(source: &str) -> Result<Self, Error> {
        let mut tree = parser::parse(source)?;
        scope::resolve(&mut tree)?;
        Ok(Self {
            tree,
            functions: globals::functions(),
        })
    }

    /// Renders the template at a time of the clock on the wall, in at most so many steps.
    pub fn render(
        &self,
        variables: Variables,
        now: NaiveDateTime,
        steps: u64,
    ) -> Result<Rendered, Error> {
        let mut run = Run::new(steps, now);
        let given = variables.or(&self.functions);
        interpreter::render(&self.tree, given, &mut run)?;
        let (text, generation) = run.end();
        Ok(Rendered { text, generation })
    }
}
