//! Arguments of calls, and how they meet the parameters of what is called.

use std::rc::Rc;

use crate::error::{Outcome, type_error};
use crate::value::{Args, Value};

impl Args {
    pub fn of(positional: Vec<Value>) -> Self {
        Self {
            positional,
            keyword: Vec::new(),
        }
    }

    /// A keyword argument, taken out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self
            .keyword
            .iter()
            .position(|(known, _)| **known == *name)?;
        Some(self.keyword.remove(at).1)
    }

    /// The values of named parameters, the first `required` of which must be there.
    pub fn bind<const N: usize>(
        &self,
        what: &str,
        names: [&str; N],
        required: usize,
    ) -> Outcome<[Option<Value>; N]> {
        if self.positional.len() > N {
            return type_error(format!(
                "{what}() takes {N} arguments at most, {} were given",
                self.positional.len()
            ));
        }
        let mut values = [const { None }; N];
        for (slot, value) in values.iter_mut().zip(&self.positional) {
            *slot = Some(value.clone());
        }
        for (name, value) in &self.keyword {
            let slot = names
                .iter()
                .position(|known| **known == **name)
                .and_then(|at| values.get_mut(at));
            match slot {
                Some(slot @ None) => *slot = Some(value.clone()),
                Some(_) => return type_error(format!("{what}() got `{name}` twice")),
                None => return type_error(format!("{what}() has no argument `{name}`")),
            }
        }
        if let Some(at) = values[..required.min(N)].iter().position(Option::is_none) {
            return type_error(format!("{what}() needs the argument `{}`", names[at]));
        }
        Ok(values)
    }

    /// No arguments at all.
    pub fn none(&self, what: &str) -> Outcome<()> {
        self.only::<0>(what, 0).map(|_: [Option<Value>; 0]| ())
    }

    /// Between `least` and `N` positional arguments and no others.
    pub fn only<const N: usize>(&self, what: &str, least: usize) -> Outcome<[Option<Value>; N]> {
        if !self.keyword.is_empty() {
            return type_error(format!("{what}() takes no keyword arguments"));
        }
        if !(least..=N).contains(&self.positional.len()) {
            return type_error(format!(
                "{what}() takes {least} to {N} arguments, {} were given",
                self.positional.len()
            ));
        }
        let mut values = [const { None }; N];
        for (slot, value) in values.iter_mut().zip(&self.positional) {
            *slot = Some(value.clone());
        }
        Ok(values)
    }
}

/// The text of an argument that must be a string.
pub(crate) fn text<'a>(value: &'a Value, what: &str) -> Outcome<&'a Rc<str>> {
    match value {
        Value::Undefined(reason) => type_error(&**reason),
        value => match value.as_str() {
            Some(text) => Ok(text),
            None => type_error(format!(
                "{what}: expected a string, got `{}`",
                value.type_name()
            )),
        },
    }
}

/// An argument that must be an integer, or a default.
pub(crate) fn int_or(value: Option<&Value>, default: i64, what: &str) -> Outcome<i64> {
    value.map_or(Ok(default), |value| value.to_i64(what))
}

/// What cannot be right about the type of an argument.
pub(crate) fn wrong_type<T>(what: &str, value: &Value) -> Outcome<T> {
    type_error(format!("{what}() does not take a `{}`", value.type_name()))
}
