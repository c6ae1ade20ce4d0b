//! Chat templates as transformers renders them.
//!
//! Templates are Jinja2 in its immutable sandbox, with trimmed blocks, loop controls and `{% generation %}`
//! blocks, over Python's values. This crate has a lexer, a parser, Jinja2's rules of scope and an evaluator of
//! its own: what a template prints decides every token, down to the spelling of a float.
//!
//! Templates come with models and are not trusted. They compute text only; their steps and the bytes that they
//! make are counted, and nesting is bounded. Values that hold each other are dropped as deeply as they are
//! nested, so templates need a large stack.

mod access;
mod arguments;
mod arithmetic;
mod ast;
mod compare;
mod conversation;
mod dict;
mod error;
mod eval;
mod filters;
mod format;
mod iterate;
mod json;
mod lexer;
mod literal;
mod loops;
mod methods;
mod numbers;
mod operators;
mod parser;
mod repr;
mod run;
mod scope;
mod strftime;
mod tests;
mod text;
mod token;
mod unicode;
mod value;

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use chrono::NaiveDateTime;

pub use conversation::{Conversation, check_argument, is_json, items, members};
pub use error::Error;

use run::{Context, Run};
use value::{Function, Value};

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    tree: ast::Tree,
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

/// Variables of a template.
#[derive(Debug, Default)]
pub struct Variables {
    given: HashMap<Rc<str>, Value>,
}

impl Variables {
    /// Sets a variable to a text.
    pub fn set_text(&mut self, name: &str, text: &str) {
        self.set(name, Value::str(text));
    }

    /// Sets a variable to the value of a JSON text, as Python reads it; an error says what is wrong with it.
    pub fn set_json(&mut self, name: &str, text: &str) -> Result<(), String> {
        let value = json::read(text)?;
        self.set(name, value);
        Ok(())
    }

    /// Sets the members of a JSON object.
    pub fn set_object(&mut self, text: &str) -> Result<(), String> {
        let Value::Dict(dict) = json::read(text)? else {
            return Err("not an object".into());
        };
        for (name, value) in dict.iter() {
            if let Some(name) = name.as_str() {
                self.set(name, value.clone());
            }
        }
        Ok(())
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.given.insert(name.into(), value);
    }
}

impl Template {
    /// Compiles a template; an error says on which line it is none.
    pub fn compile(source: &str) -> Result<Self, Error> {
        let mut tree = parser::parse(source)?;
        scope::resolve(&mut tree)?;
        Ok(Self { tree })
    }

    /// Renders the template at a time of the clock on the wall, in at most so many steps.
    pub fn render(
        &self,
        variables: Variables,
        now: NaiveDateTime,
        steps: u64,
    ) -> Result<Rendered, Error> {
        let mut given = variables.given;
        for (name, function) in [
            ("range", Function::Range),
            ("dict", Function::Dict),
            ("lipsum", Function::Lipsum),
            ("cycler", Function::Cycler),
            ("joiner", Function::Joiner),
            ("namespace", Function::Namespace),
            ("raise_exception", Function::RaiseException),
            ("strftime_now", Function::StrftimeNow),
        ] {
            let name: Rc<str> = name.into();
            given.entry(name).or_insert(Value::Function(function));
        }
        let run = Run::new(&self.tree, steps, Context::new(given), now);
        let (text, generation) = run.template()?;
        Ok(Rendered { text, generation })
    }
}
