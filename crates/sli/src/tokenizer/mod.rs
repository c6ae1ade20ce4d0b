//! Text and conversations to tokens, as the reference does it.
//!
//! `tokenizer.json` decides everything; padding and truncation that it carries are switched off.
//! `tokenizer_config.json` and `special_tokens_map.json` add the tokens that only they know, and name
//! the special tokens that chat templates use. As in transformers 5, `add_bos_token` and `add_eos_token` are not
//! looked at: the post-processor in `tokenizer.json` says which special tokens a text gets.

mod chat;
mod error;
mod python_json;
mod settings;
mod template_syntax;

use std::path::{Path, PathBuf};

use ::tokenizers::{
    TruncationDirection, TruncationParams, TruncationStrategy, tokenizer::Tokenizer as Backend,
};

pub use chat::ChatTemplate;
pub use error::TokenizerError;

use crate::guard::guarded;
use settings::TokenizerSettings;

/// Largest `tokenizer.json` that is read, bytes.
const FILE_LIMIT: u64 = 1 << 30;

/// Files of a model folder that decide how text becomes tokens.
pub const FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// The tokenizer of a model folder.
pub struct Tokenizer {
    backend: Backend,
    settings: TokenizerSettings,
    folder: PathBuf,
    max_length: Option<usize>,
    /// Special tokens that a text gets.
    added: usize,
    chat: Option<ChatTemplate>,
}

/// Tokens of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types, where one is not 0.
    pub types: Option<Vec<u32>>,
}

impl Tokenizer {
    /// Loads the tokenizer of a model folder; longer texts will be cut to `max_length` tokens.
    pub fn load(folder: &Path, max_length: Option<usize>) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let Some(bytes) = settings::read(&path, FILE_LIMIT)? else {
            return Err(TokenizerError::Absent {
                folder: folder.to_path_buf(),
            });
        };
        let settings = TokenizerSettings::read(folder)?;
        let broken = |problem: String| TokenizerError::Broken {
            path: path.clone(),
            problem,
        };
        let mut backend = guarded(|| Backend::from_bytes(&bytes))
            .map_err(broken)?
            .map_err(|error| broken(error.to_string()))?;
        drop(bytes);
        let failed = |error: ::tokenizers::Error| broken(error.to_string());
        backend.with_padding(None);
        backend.with_truncation(None).map_err(failed)?;
        backend.set_encode_special_tokens(settings.split_special_tokens);
        settings.add_tokens(&mut backend).map_err(failed)?;
        let added = backend.get_post_processor().map_or(0, |processor| {
            ::tokenizers::PostProcessor::added_tokens(processor, false)
        });
        if let Some(max_length) = max_length.filter(|&length| length >= added) {
            let direction = if settings.truncate_left {
                TruncationDirection::Left
            } else {
                TruncationDirection::Right
            };
            let strategy = TruncationStrategy::LongestFirst;
            let truncation = TruncationParams {
                direction,
                max_length,
                strategy,
                stride: 0,
            };
            backend.with_truncation(Some(truncation)).map_err(failed)?;
        }
        Ok(Self {
            backend,
            settings,
            folder: folder.to_path_buf(),
            max_length,
            added,
            chat: None,
        })
    }

    /// Tokens of texts, each with the special tokens of the tokenizer, in parallel on the current thread pool.
    pub fn encode_texts(&self, texts: Vec<&str>) -> Result<Vec<Encoded>, TokenizerError> {
        self.encode(texts, true)
    }

    /// Tokens of rendered conversations, which hold their special tokens already.
    pub fn encode_chats(&self, texts: Vec<&str>) -> Result<Vec<Encoded>, TokenizerError> {
        self.encode(texts, false)
    }

    /// The chat template of the folder, compiled at the first call.
    pub fn chat_template(&mut self) -> Result<&ChatTemplate, TokenizerError> {
        if self.chat.is_none() {
            let (path, source) = self.settings.chat_template(&self.folder)?;
            self.chat = Some(ChatTemplate::new(
                &path,
                &source,
                self.settings.variables.clone(),
            )?);
        }
        self.chat
            .as_ref()
            .ok_or_else(|| TokenizerError::NoTemplate {
                folder: self.folder.clone(),
            })
    }

    /// The text of a token, for messages.
    pub fn token(&self, id: u32) -> Option<String> {
        self.backend.id_to_token(id)
    }

    fn encode(&self, texts: Vec<&str>, special: bool) -> Result<Vec<Encoded>, TokenizerError> {
        let failed = |problem| TokenizerError::Failed { problem };
        let encodings = guarded(|| self.backend.encode_batch_fast(texts, special))
            .map_err(failed)?
            .map_err(|error| failed(error.to_string()))?;
        Ok(encodings
            .into_iter()
            .map(|encoding| self.finish(&encoding))
            .collect())
    }

    fn finish(&self, encoding: &::tokenizers::Encoding) -> Encoded {
        let (mut ids, mut types) = (encoding.get_ids(), encoding.get_type_ids());
        // A limit below the number of special tokens is not known to the backend.
        if let Some(limit) = self
            .max_length
            .filter(|&limit| limit < self.added && limit < ids.len())
        {
            (ids, types) = (&ids[..limit], &types[..limit]);
        }
        let types = types.iter().any(|&kind| kind != 0).then(|| types.to_vec());
        Encoded {
            ids: ids.to_vec(),
            types,
        }
    }
}
