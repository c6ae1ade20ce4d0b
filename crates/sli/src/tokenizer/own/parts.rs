//! What the classes have in common.

use serde_json::{Value, json};

use super::super::arguments::Arguments;
use super::super::build::Built;
use super::super::special_token::SpecialToken;

/// Makes the tokenizer of what its files hold.
pub type Builder = Box<dyn FnOnce(&mut Arguments) -> Result<Built, String>>;

/// Which file, by its place, and what is wrong with it.
pub type Broken = (usize, String);

/// The text of a special token; where no file names it, `default` is written among the arguments. `strips`: it takes the
/// space around it, if a file gives only its text.
pub fn special(
    arguments: &mut Arguments,
    (name, default): (&str, &str),
    strips: bool,
) -> Result<String, String> {
    let value = match arguments.values.get(name) {
        None => default.into(),
        Some(value) => value.clone(),
    };
    let value = match value {
        Value::String(content) if strips => {
            json!({"__type": "AddedToken", "content": content, "lstrip": true,
            "rstrip": true, "single_word": false, "normalized": false, "special": true})
        }
        other => other,
    };
    let token = SpecialToken::of_value(&value).ok_or_else(|| format!("`{name}` is no token"))?;
    arguments.values.insert(name.to_owned(), value);
    Ok(token.content)
}
