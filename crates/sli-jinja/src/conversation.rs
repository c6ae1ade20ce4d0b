//! What a template gets of a conversation, as `apply_chat_template` prepares it.

use std::collections::BTreeMap;

use crate::json::{self, read};
use crate::value::{Dict, Value};
use crate::variables::Variables;

/// Names under which messages carry a model's reasoning; each is there under the first two.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Parameters of `apply_chat_template` that are no variables of a template.
const PARAMETERS: [&str; 15] = [
    "conversation",
    "messages",
    "tools",
    "documents",
    "chat_template",
    "continue_final_message",
    "tokenize",
    "sanitize_control_tokens",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
];

/// A conversation, as JSON texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// `messages`: a list.
    pub messages: &'a str,
    /// `tools`, where there are any.
    pub tools: Option<&'a str>,
    /// `documents`, where there are any.
    pub documents: Option<&'a str>,
    /// `chat_template_kwargs`, where there are any: further variables.
    pub arguments: Option<&'a str>,
    /// The text ends with what asks the assistant to speak, whatever else says so.
    pub asks: bool,
}

impl Conversation<'_> {
    /// The variables of a template: special tokens by name, then further arguments by JSON text, then the
    /// conversation's own. An error says what is wrong with the conversation.
    pub fn variables(
        &self,
        tokens: &BTreeMap<String, String>,
        arguments: &[(String, String)],
    ) -> Result<Variables, String> {
        let mut variables = Variables::default();
        variables.set("add_generation_prompt", Value::Bool(false));
        for (name, token) in tokens {
            variables.set_text(name, token);
        }
        for (name, text) in arguments {
            variables
                .set_json(name, text)
                .map_err(|problem| format!("`{name}`: {problem}"))?;
        }
        if let Some(text) = self.arguments {
            let named = |problem: &str| format!("`chat_template_kwargs`: {problem}");
            let Value::Dict(dict) = read(text).map_err(|problem| named(&problem))? else {
                return Err(named("not an object"));
            };
            for (name, value) in dict.iter() {
                let Some(name) = name.as_str() else { continue };
                check_argument(name).map_err(|problem| named(&problem))?;
                variables.set(name, value.clone());
            }
        }
        if self.asks {
            variables.set("add_generation_prompt", Value::Bool(true));
        }
        variables.set("messages", messages(self.messages)?);
        variables.set("tools", objects("tools", self.tools)?);
        variables.set("documents", objects("documents", self.documents)?);
        Ok(variables)
    }
}

/// Whether an argument of this name reaches a template.
pub fn check_argument(name: &str) -> Result<(), String> {
    if PARAMETERS.contains(&name) {
        return Err(format!("`{name}` is no variable of a template"));
    }
    Ok(())
}

/// Whether a text is JSON as Python reads it.
pub fn is_json(text: &str) -> bool {
    read(text).is_ok()
}

/// The texts of the items of a JSON list, as Python reads it; an error says what is wrong where.
pub fn items(text: &str) -> Result<Vec<&str>, String> {
    json::items(text)
}

/// The keys of a JSON object with the texts of their values, as Python reads it, each as often as it occurs; an
/// error says what is wrong where.
pub fn members(text: &str) -> Result<Vec<(String, &str)>, String> {
    json::members(text)
}

fn messages(text: &str) -> Result<Value, String> {
    let named = |problem: &str| format!("`messages`: {problem}");
    let Value::List(messages) = read(text).map_err(|problem| named(&problem))? else {
        return Err(named("not a list"));
    };
    if messages.is_empty() {
        return Err("`messages` is empty".into());
    }
    let mut prepared = Vec::new();
    for message in messages.iter() {
        let Value::Dict(message) = message else {
            return Err(named("a message is not an object"));
        };
        prepared.push(Value::dict(message_of(message)));
    }
    Ok(Value::list(prepared))
}

/// A message without its nulls, and with its reasoning under all of its usual names.
fn message_of(message: &Dict) -> Dict {
    let reasoning = REASONING
        .iter()
        .find_map(|key| message.get_str(key).filter(|value| !value.is_none()));
    let mut prepared = Dict::default();
    if let Some(reasoning) = reasoning {
        prepared.set_str("thinking", reasoning.clone());
    }
    for (key, value) in message.iter() {
        if let Some(key) = key.as_str()
            && !value.is_none()
        {
            prepared.set_str(key, value.clone());
        }
    }
    if let Some(reasoning) = reasoning {
        prepared.set_str("reasoning_content", reasoning.clone());
    }
    prepared
}

fn objects(name: &str, text: Option<&str>) -> Result<Value, String> {
    let Some(text) = text else {
        return Ok(Value::None);
    };
    let named = |problem: &str| format!("`{name}`: {problem}");
    match read(text).map_err(|problem| named(&problem))? {
        Value::None => Ok(Value::None),
        Value::List(items) => {
            if items.iter().all(|item| matches!(item, Value::Dict(_))) {
                Ok(Value::List(items))
            } else {
                Err(named("an item is not an object"))
            }
        }
        _ => Err(named("not a list of objects")),
    }
}
