//! Macros, and the bodies of call blocks.

use std::rc::Rc;

use super::activation::{Activation, Execute};
use super::expressions::eval;
use crate::ast::Macro;
use crate::error::{Kind, Outcome, fail};
use crate::repr::write_str;
use crate::run::Run;
use crate::value::{Args, Dict, Object, Value};

/// A macro and where it was defined.
#[derive(Debug)]
pub(super) struct Closure {
    code: Rc<Macro>,
    outer: Rc<Activation>,
    execute: Execute,
}

impl Closure {
    pub fn new(code: &Rc<Macro>, outer: &Rc<Activation>, execute: Execute) -> Self {
        Self {
            code: Rc::clone(code),
            outer: Rc::clone(outer),
            execute,
        }
    }

    /// What a call gives: a text.
    pub fn text(&self, args: Args, run: &mut Run) -> Outcome<String> {
        let activation = Activation::within(self.code.slots, &self.outer);
        self.bind(args, &activation)?;
        run.deeper(|run| self.body(&activation, run))
    }

    /// Gives the arguments to the variables of the body.
    fn bind(&self, mut args: Args, at: &Activation) -> Outcome<()> {
        let code = &*self.code;
        let given = args.positional.len().min(code.arguments.len());
        let rest = args.positional.split_off(given);
        for (name, value) in code.arguments.iter().zip(args.positional.drain(..)) {
            at.set(name, Some(value));
        }
        for name in code.arguments.iter().skip(given) {
            at.set(name, args.take(&name.id));
        }
        let shown = code.name.as_deref().unwrap_or("anonymous");
        if let Some(name) = &code.caller {
            let caller = args.take("caller").filter(|caller| !caller.is_none());
            let caller = caller.unwrap_or_else(|| Value::undefined("no caller defined"));
            at.set(name, Some(caller));
        }
        if let Some(name) = &code.kwargs {
            let mut dict = Dict::default();
            for (name, value) in args.keyword.drain(..) {
                dict.set_str(&name, value);
            }
            at.set(name, Some(Value::dict(dict)));
        } else if let Some((name, _)) = args.keyword.first() {
            let problem = format!("the macro `{shown}` takes no argument `{name}`");
            return fail(Kind::Type, problem);
        }
        if let Some(name) = &code.varargs {
            at.set(name, Some(Value::tuple(rest)));
        } else if !rest.is_empty() {
            let count = code.arguments.len();
            let problem = format!("the macro `{shown}` takes {count} arguments at most");
            return fail(Kind::Type, problem);
        }
        Ok(())
    }

    fn body(&self, at: &Rc<Activation>, run: &mut Run) -> Outcome<String> {
        let code = &*self.code;
        run.pay(1)?;
        at.enter(&code.frame);
        let without = code.arguments.len() - code.defaults.len().min(code.arguments.len());
        for (index, name) in code.arguments.iter().enumerate() {
            if at.own(name).is_some() {
                continue;
            }
            let default = index
                .checked_sub(without)
                .and_then(|index| code.defaults.get(index));
            let value = match default {
                Some(default) => eval(default, at, run)?,
                None => Value::undefined(format!("parameter `{}` was not provided", name.id)),
            };
            at.set(name, Some(value));
        }
        run.begin_text();
        (self.execute)(&code.body, at, run)?;
        Ok(run.end_text())
    }
}

impl Object for Closure {
    fn type_name(&self) -> &'static str {
        "Macro"
    }

    fn attribute(&self, name: &str, _run: &mut Run) -> Outcome<Option<Value>> {
        let code = &*self.code;
        Ok(match name {
            "name" => Some(match &code.name {
                Some(name) => Value::Str(Rc::clone(name)),
                None => Value::None,
            }),
            "arguments" => {
                let names = code.arguments.iter();
                Some(Value::tuple(
                    names.map(|name| Value::Str(Rc::clone(&name.id))).collect(),
                ))
            }
            "catch_kwargs" => Some(code.kwargs.is_some().into()),
            "catch_varargs" => Some(code.varargs.is_some().into()),
            "caller" => Some(code.caller.is_some().into()),
            _ => None,
        })
    }

    fn is_callable(&self) -> bool {
        true
    }

    fn call(&self, args: Args, run: &mut Run) -> Outcome<Value> {
        self.text(args, run).map(Value::from)
    }

    fn repr(&self, _run: &mut Run) -> Outcome<String> {
        let mut text = String::from("<Macro ");
        match &self.code.name {
            Some(name) => write_str(&mut text, name),
            None => text.push_str("anonymous"),
        }
        text.push('>');
        Ok(text)
    }
}
