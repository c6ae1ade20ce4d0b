//! What a template is given.

use std::collections::HashMap;
use std::rc::Rc;

use crate::json;
use crate::value::Value;

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

    /// What is given, and these where their names are not.
    pub(crate) fn or(self, others: &[(Rc<str>, Value)]) -> HashMap<Rc<str>, Value> {
        let mut given = self.given;
        for (name, value) in others {
            let entry = given.entry(Rc::clone(name));
            entry.or_insert_with(|| value.clone());
        }
        given
    }
}
