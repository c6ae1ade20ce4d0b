//! A prompt and its completion, as TRL's data sets have them.

use super::conversation::Conversation;

/// A prompt and its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompted {
    /// Two texts, end to end.
    Text {
        /// The first.
        prompt: String,
        /// The second.
        completion: String,
    },
    /// A conversation whose last messages are the completion.
    Messages {
        /// The messages before it.
        prompt: Conversation,
        /// All messages.
        whole: Conversation,
    },
}

impl Prompted {
    /// From two JSON texts: strings, or lists of messages from which `conversation` makes one of them all. The outer
    /// error says what is neither.
    pub fn new<E>(
        prompt: &str,
        completion: &str,
        conversation: impl FnOnce(String) -> Result<Conversation, E>,
    ) -> Result<Result<Self, E>, String> {
        let texts = serde_json::from_str::<String>(prompt)
            .ok()
            .zip(serde_json::from_str::<String>(completion).ok());
        if let Some((prompt, completion)) = texts {
            return Ok(Ok(Self::Text { prompt, completion }));
        }
        let list = |key: &str, text| {
            sli_jinja::items(text).map_err(|problem| {
                if text.starts_with('[') {
                    return format!("`{key}`: {problem}");
                }
                format!(
                    "`{key}` is neither a string nor a list of messages, or not what the other is"
                )
            })
        };
        let mut messages = list("prompt", prompt)?;
        messages.extend(list("completion", completion)?);
        let all = format!("[{}]", messages.join(","));
        let prompt = prompt.to_owned();
        Ok(conversation(all).map(|whole| Self::Messages {
            prompt: Conversation {
                messages: prompt,
                ..whole.clone()
            },
            whole,
        }))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text { prompt, completion } => prompt.is_empty() && completion.is_empty(),
            Self::Messages { whole, .. } => whole.is_empty(),
        }
    }

    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text { prompt, completion } => 2 * prompt.len() + completion.len(),
            Self::Messages { prompt, whole } => prompt.bytes() + whole.bytes(),
        }
    }
}
