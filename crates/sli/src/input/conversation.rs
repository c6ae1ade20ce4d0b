//! Messages.

/// What a chat template gets of a record, as JSON texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// `messages`: a list.
    pub messages: String,
    /// `tools`, where not null.
    pub tools: Option<String>,
    /// `documents`, where not null.
    pub documents: Option<String>,
    /// `chat_template_kwargs`, where not null: further variables of the template.
    pub arguments: Option<String>,
    /// The text ends with what asks the assistant to speak, whatever the arguments say.
    pub asks: bool,
}

impl Conversation {
    /// Whether it has no message.
    pub fn is_empty(&self) -> bool {
        let messages = self.messages.strip_prefix('[').unwrap_or_default();
        messages.trim_ascii_start().starts_with(']')
    }

    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let more = [&self.tools, &self.documents, &self.arguments];
        let more = more.into_iter().flatten().map(String::len).sum::<usize>();
        self.messages.len() + more
    }
}
