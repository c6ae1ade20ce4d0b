//! A token with a name or a place of its own, as the reference's classes hand it on.

use ::tokenizers::AddedToken;
use serde_json::Value;

/// Text and flags of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags that an added token has"
)]
pub struct SpecialToken {
    /// Its text.
    pub content: String,
    /// It is found as a whole word only.
    pub single_word: bool,
    /// It takes the white space before it.
    pub lstrip: bool,
    /// It takes the white space after it.
    pub rstrip: bool,
    /// It is looked for in the normalised text; `None`: if it is not special.
    pub normalized: Option<bool>,
    /// It is never split.
    pub special: bool,
}

impl SpecialToken {
    /// A token of which only the text is known.
    pub fn plain(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: true,
        }
    }

    /// A token with flags, as `AddedToken(**fields)` reads it.
    pub fn of_fields(value: &Value) -> Option<Self> {
        let flag = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::Bool(flag)) => Some(Some(*flag)),
            Some(_) => None,
        };
        Some(Self {
            content: value.get("content")?.as_str()?.to_owned(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }

    /// A text, or an object that says that it is a token.
    pub fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(content) => Some(Self::plain(content)),
            Value::Object(fields) => {
                (fields.get("__type")? == "AddedToken").then(|| Self::of_fields(value))?
            }
            _ => None,
        }
    }

    /// The library's token.
    pub fn added(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}
