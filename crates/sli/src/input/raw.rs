//! A record as the input has it, before it becomes tokens.

use super::error::InputError;
use super::place::Place;

/// A record of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRecord {
    /// The id that the input gives, or the record's number from 0.
    pub id: String,
    /// Its number among the rows of the input, from 0, whether or not rows before it are left out.
    pub row: u64,
    /// Where it is.
    pub place: Place,
    /// What becomes its tokens.
    pub content: Content,
    /// A token type per token, where given.
    pub token_types: Option<Vec<u32>>,
}

/// What becomes tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// For the tokenizer, with the special tokens that it adds.
    Text(String),
    /// Tokens already.
    Ids(Vec<u32>),
    /// A conversation for the chat template.
    Messages(Conversation),
}

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
}

impl Conversation {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let more = [&self.tools, &self.documents, &self.arguments];
        let more = more.into_iter().flatten().map(String::len).sum::<usize>();
        self.messages.len() + more
    }
}

/// The columns or keys of a record; a null is an absence.
#[derive(Debug, Default)]
pub struct Fields {
    /// `id`.
    pub id: Option<String>,
    /// `text`.
    pub text: Option<String>,
    /// `input_ids`.
    pub input_ids: Option<Vec<u32>>,
    /// `messages`, the text of a JSON list.
    pub messages: Option<String>,
    /// `tools`, JSON text.
    pub tools: Option<String>,
    /// `documents`, JSON text.
    pub documents: Option<String>,
    /// `chat_template_kwargs`, JSON text.
    pub chat_template_kwargs: Option<String>,
    /// The first of [`RENDERING`] that is present and not false.
    pub rendering: Option<&'static str>,
    /// `token_type_ids`.
    pub token_type_ids: Option<Vec<u32>>,
    /// `attention_mask`: nothing but ones is allowed.
    pub attention_mask: Option<Vec<u32>>,
    /// The first of [`UNSUPPORTED`] that is present.
    pub unsupported: Option<&'static str>,
}

/// Keys that make a record.
pub const KNOWN: [&str; 9] = [
    "id",
    "text",
    "input_ids",
    "token_type_ids",
    "attention_mask",
    "messages",
    "tools",
    "documents",
    "chat_template_kwargs",
];

/// Keys beside `messages` that would change how they are rendered; leaving them out would give wrong tokens.
pub const RENDERING: [&str; 3] = [
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
];

/// Keys of inputs that no supported model takes; ignoring them would give wrong numbers.
pub const UNSUPPORTED: [&str; 7] = [
    "decoder_text",
    "decoder_input_ids",
    "images",
    "tensors",
    "tensor_prefix",
    "position_ids",
    "inputs_embeds",
];

impl Fields {
    /// The record of these fields; `number` counts records from 0.
    pub fn into_record(self, place: Place, number: u64) -> Result<RawRecord, InputError> {
        if let Some(key) = self.unsupported {
            let problem = format!("the model takes no `{key}`");
            return Err(InputError::record(&place, problem).with_hint("remove the key"));
        }
        if let Some(mask) = &self.attention_mask {
            check_mask(mask, self.input_ids.as_deref(), &place)?;
        }
        let mut contents = Vec::new();
        if let Some(text) = self.text {
            contents.push(("text", Content::Text(text)));
        }
        if let Some(ids) = self.input_ids {
            contents.push(("input_ids", Content::Ids(ids)));
        }
        if let Some(messages) = self.messages {
            if let Some(key) = self.rendering {
                let problem = format!("`{key}` of a record is not applied to its `messages`");
                let hint = "remove the key; --chat-template and --chat-arg hold for all records";
                return Err(InputError::record(&place, problem).with_hint(hint));
            }
            let conversation = Conversation {
                messages,
                tools: self.tools,
                documents: self.documents,
                arguments: self.chat_template_kwargs,
            };
            contents.push(("messages", Content::Messages(conversation)));
        }
        let id = self.id.unwrap_or_else(|| number.to_string());
        match (contents.pop(), contents.pop()) {
            (Some((_, content)), None) => Ok(RawRecord {
                id,
                row: number,
                place,
                content,
                token_types: self.token_type_ids,
            }),
            (Some((one, _)), Some((other, _))) => {
                let problem = format!("the record has both `{other}` and `{one}`");
                Err(InputError::record(&place, problem).with_hint("keep the one that is meant"))
            }
            (None, _) => {
                let problem = "the record has none of `text`, `input_ids` and `messages`";
                Err(InputError::record(&place, problem)
                    .with_hint("are the keys spelled otherwise? rename them"))
            }
        }
    }
}

/// A mask that hides nothing is what every record has; any other would be a record of other tokens.
fn check_mask(mask: &[u32], ids: Option<&[u32]>, place: &Place) -> Result<(), InputError> {
    if let Some(hidden) = mask.iter().position(|&kept| kept != 1) {
        let problem = format!("`attention_mask` is {} at position {hidden}", mask[hidden]);
        return Err(InputError::record(place, problem)
            .with_hint("records need no padding: leave out the tokens that the mask hides"));
    }
    match ids.map(<[u32]>::len) {
        Some(tokens) if tokens != mask.len() => {
            let problem = format!(
                "`attention_mask` has {} values for {tokens} tokens",
                mask.len()
            );
            Err(InputError::record(place, problem))
        }
        _ => Ok(()),
    }
}
