//! Text and conversations to tokens, as the reference does it.
//!
//! The tokenizer is the one that `AutoTokenizer` of transformers 5.23 builds. `auto` finds its class, `class`
//! is the table of those that put `tokenizer_config.json` over `tokenizer.json`, `arguments` reads the files
//! beside it, `vocabulary` what there is where there is no `tokenizer.json`, `build` puts all together.
//! Padding and truncation that a `tokenizer.json` carries are switched off.

mod arguments;
mod assemble;
mod auto;
mod build;
mod chat;
mod chat_worker;
pub mod class;
mod compare;
mod contents;
mod encode;
mod encoded;
mod error;
mod files;
mod frame;
mod load;
mod lower_case;
mod mistral;
mod numbers;
mod offsets;
mod own;
mod pairs;
mod patience;
mod patterns;
mod pieces;
mod pipelines;
mod reading;
mod settings;
mod special_token;
mod survey;
mod templates;
mod text;
mod vocabulary;

use std::fmt;

use ::tokenizers::{
    PostProcessorWrapper, TruncationDirection, TruncationParams, TruncationStrategy,
    tokenizer::Tokenizer as Backend,
};

pub use chat::{Source, Sources};
pub use chat_worker::ChatTemplate;
pub use contents::Contents;
pub use encoded::Encoded;
pub use error::TokenizerError;
pub use reading::Reading;
pub use templates::{ChatOptions, Choice};

use sli_checkpoint::ModelFolder;

use crate::guard::guarded;
use crate::memory::Allowance;
use assemble::{Assembled, Folder};
use frame::{Frame, added_to};
use numbers::Numbers;
use pieces::{Cuts, PIECE_BYTES};
use settings::TokenizerSettings;

/// How much longer a text can become by normalisation that takes characters apart, and how much more it takes where each is
/// a word.
const APART: u64 = 2;

/// The tokenizer of a model folder.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about how texts become tokens"
)]
pub struct Tokenizer {
    backend: Backend,
    settings: TokenizerSettings,
    folder: ModelFolder,
    max_length: Option<usize>,
    /// Special tokens that a text gets.
    added: usize,
    /// Longer texts are cut.
    piece_bytes: usize,
    /// How they are cut; `None`: they are not.
    cuts: Option<(Cuts, Frame)>,
    /// How much longer texts can become before they are tokens.
    apart: u64,
    /// Long texts lose their beginning.
    truncates_left: bool,
    /// Token types are given to the model.
    types: bool,
    /// A text with this in it is not one text.
    divider: Option<String>,
    /// What is put around texts that a decoder is to say, where that is something else.
    of_labels: Option<PostProcessorWrapper>,
    /// The token that ends a text, where a text that ends with it already gets no other.
    ends_once: Option<u32>,
    /// What numbers the pieces, where that is not the library's model.
    numbers: Option<Numbers>,
    /// The tokenizer of texts that a decoder is to say, where that is another one.
    said: Option<Box<Self>>,
    /// What the user should know.
    warnings: Vec<String>,
    /// Whether tokens come with their places in the text.
    finds_places: bool,
    /// The library finds these by counting characters: it takes as many units as characters off.
    trims_characters: bool,
    /// What it may take; what it took is taken off.
    allowance: Allowance,
    chat: Option<ChatTemplate>,
    chat_options: ChatOptions,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Tokenizer");
        shown.field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Memory that the tokenizer of a model folder takes, bytes at most; `None` if that cannot be said before it
/// is loaded.
pub fn bytes(folder: &ModelFolder, reading: &Reading) -> Option<u64> {
    Folder::open(folder, reading).ok()?.bytes()
}

impl Tokenizer {
    /// Loads the tokenizer of a model folder; `true` as `reading`: the one that `tokenizer.json` describes, whatever its
    /// class. Longer texts will be cut to `max_length` tokens, and what it and its texts take stays within the
    /// allowance.
    pub fn load(
        folder: impl Into<ModelFolder>,
        max_length: Option<usize>,
        reading: impl Into<Reading>,
        mut allowance: Allowance,
    ) -> Result<Self, TokenizerError> {
        let folder = folder.into();
        let reading = reading.into();
        let opened = Folder::open(&folder, &reading)?;
        let has_two_sides = opened.has_two_sides() && !reading.said;
        let Assembled {
            built,
            survey,
            truncates_left,
            types,
            warnings,
        } = opened.assemble(&mut allowance)?;
        let settings = TokenizerSettings::read(&folder, &built.named)?;
        let backend = built.backend;
        let broken = |problem: String| TokenizerError::Broken {
            path: folder.join("tokenizer.json"),
            problem,
        };
        let added = added_to(&backend);
        let cuts = guarded(|| Cuts::of(&backend, &survey)).map_err(broken)?;
        // Or every character is a word.
        let takes_apart = backend.get_normalizer().is_some_and(pieces::takes_apart)
            || built.numbers.as_ref().is_some_and(Numbers::of_characters);
        let frame = guarded(|| Frame::of(&backend)).map_err(broken)?;
        let mut tokenizer = Self {
            backend,
            settings,
            folder: folder.clone(),
            max_length,
            added,
            piece_bytes: PIECE_BYTES,
            cuts: cuts.zip(frame),
            apart: if takes_apart { APART } else { 1 },
            truncates_left,
            types,
            divider: built.divider,
            of_labels: built.of_labels,
            ends_once: built.ends_once,
            numbers: built.numbers,
            said: None,
            warnings,
            finds_places: false,
            trims_characters: false,
            allowance,
            chat: None,
            chat_options: ChatOptions::default(),
        };
        tokenizer
            .truncate()
            .map_err(|error| broken(error.to_string()))?;
        if has_two_sides {
            let said = Reading {
                said: true,
                ..reading
            };
            let allowance = tokenizer.allowance.clone();
            let said = Self::load(folder, max_length, said, allowance)?;
            tokenizer.allowance = said.allowance.clone();
            tokenizer.said = Some(Box::new(said));
        }
        Ok(tokenizer)
    }

    /// Has texts become lower case before anything else happens to them, unless the normalizer does that.
    pub fn lower_case(&mut self) -> Result<(), TokenizerError> {
        lower_case::prepend(&mut self.backend).map_err(|error| TokenizerError::Failed {
            problem: error.to_string(),
        })
    }

    /// Has texts cut at their beginning, or at their end.
    pub fn cut_at_beginning(&mut self, left: bool) -> Result<(), TokenizerError> {
        self.truncates_left = left;
        self.truncate().map_err(|error| TokenizerError::Failed {
            problem: error.to_string(),
        })
    }

    /// Special tokens that every text gets.
    pub fn special_tokens(&self) -> usize {
        self.added
    }

    /// Tokens of a prompt that stands in front of texts: without the special token that ends it.
    pub fn prompt_tokens(&self, prompt: &str) -> Result<usize, TokenizerError> {
        let encoded = self.encode_texts(vec![prompt])?;
        let ids = encoded.first().map_or(&[][..], |encoded| &encoded.ids);
        let added = self.backend.get_added_tokens_decoder();
        let is_special = |id: u32| {
            let text = self.token(id);
            added
                .values()
                .any(|token| token.special && Some(&token.content) == text.as_ref())
        };
        Ok(ids.len() - usize::from(ids.last().copied().is_some_and(is_special)))
    }

    /// What the user should know of it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Has the library cut texts to `max_length`, which keeps their special tokens.
    fn truncate(&mut self) -> Result<(), ::tokenizers::Error> {
        let truncation = self
            .max_length
            .filter(|&length| length >= self.added)
            .map(|max_length| TruncationParams {
                direction: if self.truncates_left {
                    TruncationDirection::Left
                } else {
                    TruncationDirection::Right
                },
                // The library stops as soon as it has enough; only one more tells that there is more.
                max_length: max_length + usize::from(self.added == 0),
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            });
        self.backend.with_truncation(truncation)?;
        Ok(())
    }

    /// The same, that also says where the tokens of a text are.
    #[must_use]
    pub fn with_places(mut self) -> Self {
        self.finds_places = true;
        self.said = self.said.map(|said| Box::new(said.with_places()));
        self.trims_characters = offsets::trims_characters(&self.backend);
        self
    }

    /// Whether long texts lose their beginning.
    pub fn cuts_beginnings(&self) -> bool {
        self.max_length.is_some() && self.truncates_left
    }

    /// What is left of the allowance.
    pub fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// Sets what the command line says of chat templates.
    pub fn set_chat_options(&mut self, options: ChatOptions) {
        self.chat_options = options;
        self.chat = None;
    }

    /// The chat templates of the folder, compiled at the first call.
    pub fn chat_template(&mut self) -> Result<&ChatTemplate, TokenizerError> {
        if self.chat.is_none() {
            let configured = self.settings.template.as_ref();
            let choice = self.chat_options.template.as_ref();
            self.chat = Some(ChatTemplate::new(
                templates::sources(&self.folder, configured, choice)?,
                self.settings.variables.clone(),
                self.chat_options.arguments.clone(),
                self.chat_options.contents,
                self.allowance.ceiling(),
            )?);
        }
        self.chat
            .as_ref()
            .ok_or_else(|| TokenizerError::NoTemplate {
                folder: self.folder.path().to_path_buf(),
            })
    }

    /// Whether a text begins with the token of the beginning.
    pub fn begins(&self, text: &str) -> bool {
        let begin = self.settings.variables.get("bos_token");
        begin.is_some_and(|begin| text.starts_with(begin.as_str()))
    }

    /// A token that the vocabulary has.
    pub fn id(&self, token: &str) -> Option<u32> {
        let id = self.backend.token_to_id(token)?;
        Some(match &self.numbers {
            Some(numbers) => numbers.number(id, token),
            None => id,
        })
    }

    /// The text of a token, for messages.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.numbers {
            Some(numbers) => numbers.text(id),
            None => self.backend.id_to_token(id),
        }
    }
}

#[cfg(test)]
mod tests;
