//! Contents of messages in the form that a chat template takes: a text, or a list of parts.

use serde_json::{Value, json};

/// A text that no template has.
const PROBE: &str = "q7Zx0vKp";

/// What templates are given as the content of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// What the record has, as transformers does.
    #[default]
    AsGiven,
    /// What the template takes, as servers of the OpenAI API do: texts of parts are joined by line ends for a template that
    /// takes texts, and a text is a part for one that takes parts only.
    AsTaken,
}

/// What a template takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    texts: bool,
    parts: bool,
}

impl Taken {
    /// Seen from what becomes of messages with one text, given as JSON; `render` is `None` of what the template refuses.
    pub fn of(render: impl Fn(&str) -> Option<String>) -> Self {
        let rendered = |content: Value| {
            let messages = json!([{"role": "user", "content": content}]);
            render(&messages.to_string())
        };
        let texts = rendered(PROBE.into());
        let parts = rendered(json!([{"type": "text", "text": PROBE}]));
        // A template that takes texts writes a list as Python or JSON would.
        let is_part = |text: String| {
            let listed = text.contains("'type'") || text.contains("\"type\"");
            text.contains(PROBE) && !listed
        };
        Self {
            texts: texts.is_some_and(|text| text.contains(PROBE)),
            parts: parts.is_some_and(is_part),
        }
    }

    /// Messages with other contents where the template does not take those that they have; `None` where it does.
    pub fn fitted(self, messages: &str) -> Result<Option<String>, String> {
        if self.texts == self.parts {
            return Ok(None);
        }
        let mut messages: Value =
            serde_json::from_str(messages).map_err(|error| error.to_string())?;
        let mut is_other = false;
        for (number, message) in messages.as_array_mut().into_iter().flatten().enumerate() {
            let Some(content) = message.get_mut("content") else {
                continue;
            };
            let fitted = match content {
                Value::Array(parts) if self.texts => Value::from(joined(parts, number)?),
                Value::String(text) if self.parts => json!([{"type": "text", "text": text}]),
                _ => continue,
            };
            *content = fitted;
            is_other = true;
        }
        Ok(is_other.then(|| messages.to_string()))
    }
}

/// The texts of parts of a message, a line each.
fn joined(parts: &[Value], message: usize) -> Result<String, String> {
    let text_of = |part: &Value| {
        if let Value::String(text) = part {
            return Ok(text.clone());
        }
        let kind = part["type"].as_str().unwrap_or("part without `type`");
        let key = match kind {
            "input_text" | "output_text" => "text",
            kind => kind,
        };
        match (key, part[key].as_str()) {
            ("text" | "refusal", Some(text)) => Ok(text.to_owned()),
            _ => Err(format!(
                "message {message} has a `{kind}`, and the chat template takes texts only"
            )),
        }
    };
    let texts: Vec<String> = parts.iter().map(text_of).collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}
