//! What a class's placeholders are made with.

use serde_json::{Map, Value};

use crate::error::DescriptionError;
use crate::settings::Settings;

/// What a row of the table is made with.
pub struct Given<'a> {
    pub class: &'a str,
    /// Keys of `processor_config.json`.
    pub keys: &'a Map<String, Value>,
    /// Settings of the pictures' processor.
    pub images: &'a Settings,
    /// Tokens that the tokenizer's file gives a name.
    pub named: &'a dyn Fn(&str) -> Option<String>,
}

impl Given<'_> {
    pub fn refused(&self, key: &str, problem: &str) -> DescriptionError {
        DescriptionError::Value {
            class: self.class.to_owned(),
            key: key.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// A whole number of `processor_config.json`.
    pub fn count(&self, key: &str) -> Result<Option<usize>, DescriptionError> {
        let Some(value) = self.keys.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let count = value.as_u64().filter(|&count| count < 1 << 30);
        let count = count.ok_or_else(|| self.refused(key, "a whole number is wanted"))?;
        Ok(Some(count as usize))
    }

    /// One that the class cannot do without.
    pub fn needed(&self, key: &str) -> Result<usize, DescriptionError> {
        let count = self.count(key)?.filter(|&count| count > 0);
        count.ok_or_else(|| self.refused(key, "processor_config.json must say it"))
    }

    /// A text of `processor_config.json`.
    pub fn text(&self, key: &str) -> Option<String> {
        self.keys.get(key)?.as_str().map(ToOwned::to_owned)
    }

    /// A token that the tokenizer names, or else this.
    pub fn token_or(&self, name: &str, usual: &str) -> String {
        (self.named)(name).unwrap_or_else(|| usual.to_owned())
    }

    /// A token that the tokenizer must name.
    pub fn token(&self, name: &str) -> Result<String, DescriptionError> {
        let token = (self.named)(name).filter(|token| !token.is_empty());
        token.ok_or_else(|| self.refused(name, "tokenizer_config.json must name the token"))
    }
}

/// `patch_size` of `processor_config.json`.
pub fn patch(given: &Given<'_>, usual: Option<usize>) -> Result<u32, DescriptionError> {
    let side = match usual {
        Some(usual) => given.count("patch_size")?.unwrap_or(usual),
        None => given.needed("patch_size")?,
    };
    let side = u32::try_from(side).ok().filter(|&side| side > 0);
    side.ok_or_else(|| given.refused("patch_size", "it is 0"))
}
