//! A record as the input has it, before it becomes tokens.

use std::sync::Arc;

use sli_pictures::Tensor;

use super::conversation::Conversation;
use super::decoder::DecoderContent;
use super::error::InputError;
use super::images::Image;
use super::labels::Labels;
use super::mask;
use super::numbering::Numbering;
use super::place::Place;
use super::prompted::Prompted;
use super::token_inputs::{GLOBAL, TokenInputs};
use crate::completion::TokenLabels;
use crate::seen::Seen;

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
    /// Which of its tokens count, where given.
    pub labels: TokenLabels,
    /// What it has for the decoder behind an encoder.
    pub decoder: Option<DecoderContent>,
    /// What it brings along that somebody has prepared.
    pub tensors: Option<Tensors>,
    /// Its pictures.
    pub images: Vec<Image>,
    /// What stands for its pictures in its text, once they are prepared.
    pub seen: Option<Seen>,
    /// What it has beside its tokens.
    pub inputs: TokenInputs,
    /// Contents that it has beside the one that is used, and what belongs to them.
    pub set_aside: Vec<&'static str>,
}

/// What a processor of the model made for a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensors {
    /// Somebody's, in a safetensors file.
    File {
        /// Its path as written, from the folder of the dataset.
        file: String,
        /// What stands in front of the names of inputs in it.
        prefix: String,
    },
    /// Ours, of its pictures.
    Made(Arc<[Tensor]>),
}

impl Tensors {
    /// Where they are, for messages.
    pub fn source(&self) -> &str {
        match self {
            Self::File { file, .. } => file,
            Self::Made(_) => "its pictures",
        }
    }

    /// The name of an input among them.
    pub fn name(&self, input: &str) -> String {
        match self {
            Self::File { prefix, .. } => format!("{prefix}{input}"),
            Self::Made(_) => input.to_owned(),
        }
    }
}

/// What becomes tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing: it brings tensors along.
    None,
    /// For the tokenizer, with the special tokens that it adds.
    Text(String),
    /// Two texts for the tokenizer, as one record.
    Pair(String, String),
    /// Tokens already.
    Ids(Vec<u32>),
    /// A conversation for the chat template.
    Messages(Conversation),
    /// A prompt with its completion.
    Prompted(Prompted),
}

impl Content {
    /// The key that it is from.
    pub fn key(&self) -> &'static str {
        match self {
            Self::None => "tensors",
            Self::Text(_) | Self::Pair(..) => Use::Text.key(),
            Self::Ids(_) => Use::InputIds.key(),
            Self::Messages(_) => Use::Messages.key(),
            Self::Prompted(_) => Use::Prompt.key(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::None | Self::Pair(..) => false,
            Self::Text(text) => text.is_empty(),
            Self::Ids(ids) => ids.is_empty(),
            Self::Messages(conversation) => conversation.is_empty(),
            Self::Prompted(prompted) => prompted.is_empty(),
        }
    }
}

/// What of a record becomes its tokens, where the record has several contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// `text`.
    Text,
    /// `input_ids`.
    InputIds,
    /// `messages`.
    Messages,
    /// `prompt` and `completion`.
    Prompt,
}

impl Use {
    /// In the order in which they are preferred: training code goes by the tokens where there are some, by a
    /// prompt with its completion before anything else that has to be tokenised, and by the conversation where its
    /// rendered text stands beside it.
    const ALL: [Self; 4] = [Self::InputIds, Self::Prompt, Self::Messages, Self::Text];

    /// The key, and the word on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::InputIds => "input_ids",
            Self::Messages => "messages",
            Self::Prompt => "prompt",
        }
    }
}

/// How records are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What becomes tokens; by default the first of `input_ids`, `prompt` with `completion`, `messages` and
    /// `text` that a record has.
    pub content: Option<Use>,
    /// Records whose content is null are empty ones, no error.
    pub null_is_empty: bool,
    /// `labels` are what a decoder is to say, not those of the tokens.
    pub labels_of_decoder: bool,
}

/// The columns or keys of a record; a null is an absence.
#[derive(Debug, Default)]
pub struct Fields {
    /// `id`.
    pub id: Option<String>,
    /// `text`.
    pub text: Option<String>,
    /// `text_pair`: the second text of a pair.
    pub text_pair: Option<String>,
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
    /// `attention_mask`: ones, and zeros for padding at the end.
    pub attention_mask: Option<Vec<u32>>,
    /// `decoder_text`.
    pub decoder_text: Option<String>,
    /// `decoder_input_ids`.
    pub decoder_input_ids: Option<Vec<u32>>,
    /// `tensors`.
    pub tensors: Option<String>,
    /// `images`.
    pub images: Vec<Image>,
    /// `tensor_prefix`.
    pub tensor_prefix: Option<String>,
    /// Those of [`INPUTS`] that are there, JSON text.
    pub inputs: Vec<(&'static str, String)>,
    /// The first of [`UNSUPPORTED`] that is present.
    pub unsupported: Option<&'static str>,
    /// A key of another form of datasets.
    pub elsewhere: Option<&'static str>,
    /// Keys of [`KNOWN`] whose value is null.
    pub nulls: Vec<&'static str>,
    /// `prompt`, JSON text.
    pub prompt: Option<String>,
    /// `completion`, JSON text.
    pub completion: Option<String>,
    /// `labels`, where they are a list; a single value is about something else than tokens.
    pub labels: Option<Labels>,
    /// `completion_mask`.
    pub completion_mask: Option<Vec<u32>>,
    /// `assistant_masks`.
    pub assistant_masks: Option<Vec<u32>>,
}

/// Keys that make a record.
pub const KNOWN: [&str; 26] = [
    "id",
    "text",
    "text_pair",
    "input_ids",
    "token_type_ids",
    GLOBAL,
    "attention_mask",
    "messages",
    "tools",
    "documents",
    "chat_template_kwargs",
    "prompt",
    "completion",
    "labels",
    "completion_mask",
    "assistant_masks",
    "decoder_text",
    "decoder_input_ids",
    "tensors",
    "tensor_prefix",
    "images",
    "bbox",
    "input_pronunciation_ids",
    "input_shape_ids",
    "xpath_subs_seq",
    "xpath_tags_seq",
];

/// Keys of [`KNOWN`] that some models read beside the tokens; the others do not look at them.
pub const INPUTS: [&str; 6] = [
    "bbox",
    GLOBAL,
    "input_pronunciation_ids",
    "input_shape_ids",
    "xpath_subs_seq",
    "xpath_tags_seq",
];

/// Keys of [`KNOWN`] whose values a chat template may print.
pub const PRINTED: [&str; 6] = [
    "messages",
    "tools",
    "documents",
    "chat_template_kwargs",
    "prompt",
    "completion",
];

/// Keys beside `messages` that would change how they are rendered; leaving them out would give wrong tokens.
pub const RENDERING: [&str; 3] = [
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
];

/// Keys of inputs that no supported model takes; ignoring them would give wrong numbers.
pub const UNSUPPORTED: [&str; 5] = [
    "pixel_values",
    "input_features",
    "decoder_attention_mask",
    "position_ids",
    "inputs_embeds",
];

/// Keys of common datasets that are not looked at, and what to do where a record has nothing else.
const ELSEWHERE: [(&str, &str); 9] = [
    (
        "conversations",
        "name `conversations` `messages`, with `role` (user, assistant) for `from` and `content` for `value`",
    ),
    (
        "conversation",
        "name `conversation` `messages`, with `role` and `content` in each",
    ),
    (
        "chosen",
        "make two records of `chosen` and `rejected`, each with `text` or `messages`",
    ),
    (
        "sentence1",
        "give --column text=sentence1 --column text_pair=sentence2",
    ),
    (
        "premise",
        "give --column text=premise --column text_pair=hypothesis",
    ),
    (
        "question",
        "give --column text=question, and --column text_pair=NAME for a second text",
    ),
    (
        "query",
        "give --column text=query, and --column text_pair=NAME for a second text",
    ),
    ("sentence", "give --column text=sentence"),
    ("content", "give --column text=content"),
];

/// The key among [`ELSEWHERE`] that this one is.
pub fn elsewhere(key: &str) -> Option<&'static str> {
    ELSEWHERE
        .iter()
        .map(|(known, _)| *known)
        .find(|&known| known == key)
}

impl Fields {
    /// The JSON text under one of [`PRINTED`].
    pub fn printed_mut(&mut self, key: &str) -> Option<&mut String> {
        let text = match key {
            "messages" => &mut self.messages,
            "tools" => &mut self.tools,
            "documents" => &mut self.documents,
            "chat_template_kwargs" => &mut self.chat_template_kwargs,
            "prompt" => &mut self.prompt,
            "completion" => &mut self.completion,
            _ => return None,
        };
        text.as_mut()
    }

    /// The record of these fields, the next one of its input.
    pub fn into_record(
        mut self,
        place: Place,
        numbering: &mut Numbering,
        selection: Selection,
    ) -> Result<RawRecord, InputError> {
        if let Some(key) = self.unsupported {
            let problem = format!("the model takes no `{key}`");
            return Err(InputError::record(&place, problem).with_hint("remove the key"));
        }
        let id_is_null = self.nulls.contains(&"id");
        let (row, id) = numbering.next(self.id.take(), id_is_null, &place)?;
        let chosen = selection.content.or_else(|| self.preferred());
        let given = Use::ALL.into_iter().filter(|&content| self.has(content));
        let mut set_aside: Vec<&'static str> = given
            .filter(|&content| Some(content) != chosen)
            .map(Use::key)
            .collect();
        if self.text_pair.is_some() && chosen.is_some_and(|chosen| chosen != Use::Text) {
            set_aside.push("text_pair");
        }
        if self.has(Use::InputIds) && chosen != Some(Use::InputIds) {
            // They are about these tokens.
            let types = self.token_type_ids.take().map(|_| "token_type_ids");
            let global = self.inputs.extract_if(.., |(name, _)| *name == GLOBAL);
            let global = global.map(|(name, _)| name).next();
            let mask = self.attention_mask.take().map(|_| "attention_mask");
            set_aside.extend(types.into_iter().chain(global).chain(mask));
            if !selection.labels_of_decoder {
                let labels = self.token_labels();
                set_aside.extend((!labels.is_empty()).then_some("labels"));
            }
        }
        let mut labels = self.token_labels();
        let mut inputs = TokenInputs {
            given: std::mem::take(&mut self.inputs),
            padded: None,
        };
        if let Some(mask) = self.attention_mask.take() {
            inputs.padded = Some(mask.len());
            let kept = mask::kept(&mask, self.input_ids.as_deref(), &place)?;
            let cut = |list: &mut Vec<u32>| {
                if list.len() == mask.len() {
                    list.truncate(kept);
                }
            };
            self.input_ids.iter_mut().for_each(cut);
            self.token_type_ids.iter_mut().for_each(cut);
            if !selection.labels_of_decoder {
                labels.cut(mask.len(), kept);
            }
        }
        let content = match chosen {
            // An empty second text is none, as for `tokenizer(text, text_pair)`.
            Some(Use::Text) => match (self.text.take(), self.text_pair.take()) {
                (Some(text), Some(pair)) if !pair.is_empty() => Some(Content::Pair(text, pair)),
                (text, _) => text.map(Content::Text),
            },
            Some(Use::InputIds) => self.input_ids.take().map(Content::Ids),
            Some(Use::Messages) => self.conversation(&place)?.map(Content::Messages),
            Some(Use::Prompt) => self.prompted(&place)?.map(Content::Prompted),
            None => None,
        };
        let (text, ids) = (self.decoder_text.take(), self.decoder_input_ids.take());
        let decoder = DecoderContent::of(text, ids, &place)?;
        let prefix = self.tensor_prefix.take().unwrap_or_default();
        let tensors = self.tensors.take();
        let tensors = tensors.map(|file| Tensors::File { file, prefix });
        let content = match content {
            Some(content) => content,
            None if tensors.is_some() || !self.images.is_empty() => Content::None,
            None => self.absent(selection, &place)?,
        };
        Ok(RawRecord {
            id,
            row,
            place,
            content,
            token_types: self.token_type_ids,
            labels,
            decoder,
            tensors,
            images: self.images,
            seen: None,
            inputs,
            set_aside,
        })
    }

    /// What the chat template gets.
    fn conversation(&mut self, place: &Place) -> Result<Option<Conversation>, InputError> {
        let Some(messages) = self.messages.take() else {
            return Ok(None);
        };
        if let Some(key) = self.rendering {
            let problem = format!("`{key}` of a record is not applied to its `messages`");
            let hint = "remove the key; --chat-template and --chat-arg hold for all records";
            return Err(InputError::record(place, problem).with_hint(hint));
        }
        Ok(Some(Conversation {
            messages,
            tools: self.tools.take(),
            documents: self.documents.take(),
            arguments: self.chat_template_kwargs.take(),
            asks: false,
        }))
    }

    /// A prompt and its completion: two texts, or two lists of messages.
    fn prompted(&mut self, place: &Place) -> Result<Option<Prompted>, InputError> {
        let (Some(prompt), Some(completion)) = (self.prompt.take(), self.completion.take()) else {
            return Ok(None);
        };
        let prompted = Prompted::new(&prompt, &completion, |messages| {
            self.messages = Some(messages);
            let conversation = self.conversation(place)?.unwrap_or_default();
            Ok(conversation)
        });
        prompted
            .unwrap_or_else(|problem| {
                let hint = "both are strings, or both are lists of messages";
                Err(InputError::record(place, problem).with_hint(hint))
            })
            .map(Some)
    }

    fn token_labels(&mut self) -> TokenLabels {
        let masks = [
            ("completion_mask", self.completion_mask.take()),
            ("assistant_masks", self.assistant_masks.take()),
        ];
        let given = masks
            .into_iter()
            .filter_map(|(key, mask)| Some((key, mask?)));
        TokenLabels {
            labels: self.labels.take(),
            masks: given.collect(),
        }
    }

    fn has(&self, content: Use) -> bool {
        match content {
            Use::Text => self.text.is_some(),
            Use::InputIds => self.input_ids.is_some(),
            Use::Messages => self.messages.is_some(),
            Use::Prompt => self.prompt.is_some() && self.completion.is_some(),
        }
    }

    fn preferred(&self) -> Option<Use> {
        Use::ALL.into_iter().find(|&content| self.has(content))
    }

    /// What stands for a content that is not there: nothing, or an error that says why.
    fn absent(&self, selection: Selection, place: &Place) -> Result<Content, InputError> {
        let wanted = |content: &Use| selection.content.is_none_or(|chosen| chosen == *content);
        let mut contents = Use::ALL.into_iter().rev().filter(wanted).map(Use::key);
        if let Some(key) = contents.find(|key| self.nulls.contains(key)) {
            if selection.null_is_empty {
                return Ok(Content::Text(String::new()));
            }
            let error = InputError::record(place, format!("`{key}` is null"));
            return Err(error.with_hint(
                "--skip-empty leaves out records that are null or empty, and counts them",
            ));
        }
        if let Some(content) = selection.content {
            let problem = format!("the record has no `{}`", content.key());
            let hint = "with --use every record must have it";
            return Err(InputError::record(place, problem).with_hint(hint));
        }
        if self.text_pair.is_some() {
            let problem = "the record has `text_pair`, but no `text`";
            let hint = "a pair is the keys `text` and `text_pair`";
            return Err(InputError::record(place, problem).with_hint(hint));
        }
        let problem = "the record has none of `text`, `input_ids` and `messages`";
        let known = |(key, _): &&(&str, &str)| Some(*key) == self.elsewhere;
        let hint = ELSEWHERE.iter().find(known).map_or(
            "are the keys spelled otherwise? --column text=NAME says which one is meant",
            |(_, hint)| *hint,
        );
        Err(InputError::record(place, problem).with_hint(hint))
    }
}
