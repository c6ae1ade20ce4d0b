//! The tokenizer of a GGUF file, as the files that the reference's tokenizers are published in.
//!
//! `tokenizer.ggml.model` says what it is: `gpt2` merges pairs of bytes and `gemma4` pieces (`tokenizer.json`), `llama` merges pieces by their
//! scores and `t5` takes the likeliest ones (`tokenizer.model`), `bert` takes the longest pieces of words (`vocab.txt`).
//! What is to be added to texts, and the chat template, stand in `tokenizer_config.json`.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::metadata::Metadata;
use super::pre::Pre;
use super::problem::GgufError;

/// The kinds of tokens: `tokenizer.ggml.token_type`.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Stands for a space.
const MARK: char = '\u{2581}';

/// A file that stands for what the metadata say.
pub(super) type File = (&'static str, Vec<u8>);

/// What the metadata say of a tokenizer.
pub(super) struct Described<'m> {
    pub metadata: &'m Metadata,
    pub tokens: Vec<String>,
    pub scores: Vec<f64>,
    pub kinds: Vec<f64>,
    pub merges: Vec<String>,
    /// The map of characters of a SentencePiece model.
    pub characters: Vec<f64>,
}

/// The key of the kind of tokenizer.
pub(super) const MODEL: &str = "tokenizer.ggml.model";

impl Described<'_> {
    fn number(&self, key: &str) -> Option<u64> {
        self.metadata.number(&format!("tokenizer.ggml.{key}"))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.metadata.flag(&format!("tokenizer.ggml.{key}"))
    }

    fn kind(&self, id: usize) -> u64 {
        self.kinds.get(id).map_or(1, |kind| *kind as u64)
    }

    fn token(&self, key: &str) -> Option<(u64, &str)> {
        let id = self.number(key)?;
        let token = self.tokens.get(usize::try_from(id).ok()?)?;
        Some((id, token))
    }

    /// Every token that is looked for in texts before anything else.
    fn added(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let tokens = self.tokens.iter().enumerate();
        tokens.filter_map(|(id, token)| match self.kind(id) {
            CONTROL => Some((id, token.as_str(), true)),
            USER_DEFINED => Some((id, token.as_str(), false)),
            _ => None,
        })
    }

    /// The files of the tokenizer.
    ///
    /// # Errors
    /// It is of a kind that is not known.
    pub fn files(&self) -> Result<Vec<File>, GgufError> {
        match self.metadata.text(MODEL) {
            Some("gpt2") => self.of_bytes(),
            Some("gemma4") => Ok(self.of_merged_pieces()),
            Some("llama") => Ok(self.of_pieces(false)),
            Some("t5") => Ok(self.of_pieces(true)),
            Some("bert") => Ok(self.of_words()),
            Some("none" | "no_vocab") | None => Ok(Vec::new()),
            Some(other) => Err(GgufError::Tokenizer {
                problem: format!("`{MODEL}` is `{other}`, which is not known"),
            }),
        }
    }

    /// `tokenizer_config.json` with the tokens that have a part.
    fn config(&self, class: &str, mut more: Map<String, Value>, adds: [bool; 2]) -> File {
        let names = [
            ("bos_token", "bos_token_id"),
            ("eos_token", "eos_token_id"),
            ("unk_token", "unknown_token_id"),
            ("pad_token", "padding_token_id"),
            ("sep_token", "seperator_token_id"),
            ("cls_token", "cls_token_id"),
            ("mask_token", "mask_token_id"),
        ];
        for (name, key) in names {
            if let Some((_, token)) = self.token(key) {
                more.insert(name.to_owned(), token.into());
            }
        }
        more.insert("tokenizer_class".to_owned(), class.into());
        more.insert("add_bos_token".to_owned(), adds[0].into());
        more.insert("add_eos_token".to_owned(), adds[1].into());
        more.insert("clean_up_tokenization_spaces".to_owned(), false.into());
        if let Some(templates) = self.templates() {
            more.insert("chat_template".to_owned(), templates);
        }
        (
            "tokenizer_config.json",
            Value::Object(more).to_string().into(),
        )
    }

    /// The chat template, or several by their names.
    fn templates(&self) -> Option<Value> {
        const KEY: &str = "tokenizer.chat_template";
        let default = self.metadata.text(KEY);
        let own = self.metadata.values.iter().filter_map(|(key, template)| {
            let name = key.strip_prefix(KEY)?.strip_prefix('.')?;
            Some((name, template.as_str()?))
        });
        let further: Vec<(&str, &str)> = own.collect();
        if further.is_empty() {
            return default.map(Value::from);
        }
        let all = default.map(|template| ("default", template));
        let all = all.into_iter().chain(further);
        let named = all.map(|(name, template)| json!({"name": name, "template": template}));
        Some(named.collect())
    }

    /// Pairs of bytes.
    fn of_bytes(&self) -> Result<Vec<File>, GgufError> {
        let name = self
            .metadata
            .text("tokenizer.ggml.pre")
            .unwrap_or("default");
        let pre = Pre::named(name);
        let pre = pre.ok_or_else(|| GgufError::Tokenizer {
            problem: format!("`tokenizer.ggml.pre` is `{name}`: how it divides texts is not known"),
        })?;
        let bos = self.flag("add_bos_token").unwrap_or(pre.add_bos);
        let eos = self.flag("add_eos_token").unwrap_or(false);
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": null,
            "pre_tokenizer": pre.steps(name),
            "post_processor": self.post_processor(bos, eos),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": pre.ignore_merges, "vocab": self.vocabulary(), "merges": self.merges
            }
        });
        Ok(vec![
            ("tokenizer.json", tokenizer.to_string().into()),
            self.config("TokenizersBackend", Map::new(), [bos, eos]),
        ])
    }

    /// The ids of all tokens.
    fn vocabulary(&self) -> Map<String, Value> {
        let tokens = self.tokens.iter().zip(0_u64..);
        tokens
            .map(|(token, id)| (token.clone(), id.into()))
            .collect()
    }

    /// The tokens that are looked for before anything else.
    fn added_tokens(&self) -> Vec<Value> {
        let described = self.added().map(|(id, token, special)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special
            })
        });
        described.collect()
    }

    /// Pairs of pieces: spaces are marks, and what is no piece is bytes.
    fn of_merged_pieces(&self) -> Vec<File> {
        let bos = self.flag("add_bos_token").unwrap_or(true);
        let eos = self.flag("add_eos_token").unwrap_or(false);
        let unknown = (0..self.tokens.len()).find(|id| self.kind(*id) == UNKNOWN);
        let unknown = unknown.and_then(|id| self.tokens.get(id));
        let mark = MARK.to_string();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": mark},
            "pre_tokenizer": null,
            "post_processor": self.post_processor(bos, eos),
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": mark}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}
            ]},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false, "vocab": self.vocabulary(), "merges": self.merges
            }
        });
        vec![
            ("tokenizer.json", tokenizer.to_string().into()),
            self.config("GemmaTokenizer", Map::new(), [bos, eos]),
        ]
    }

    /// Puts the tokens of the beginning and the end around texts.
    fn post_processor(&self, bos: bool, eos: bool) -> Value {
        let bos = self.token("bos_token_id").filter(|_| bos);
        let eos = self.token("eos_token_id").filter(|_| eos);
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let special =
            |token: &str, kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
        let text = |id: &str, kind: u8| {
            let before = bos.map(|(_, token)| special(token, kind));
            let after = eos.map(|(_, token)| special(token, kind));
            let text = json!({"Sequence": {"id": id, "type_id": kind}});
            before
                .into_iter()
                .chain([text])
                .chain(after)
                .collect::<Vec<_>>()
        };
        let tokens = [bos, eos].into_iter().flatten();
        let tokens: Map<String, Value> = tokens
            .map(|(id, token)| {
                let described = json!({"id": token, "ids": [id], "tokens": [token]});
                (token.to_owned(), described)
            })
            .collect();
        let pair = [text("A", 0), text("B", 1)].concat();
        json!({
            "type": "TemplateProcessing", "single": text("A", 0), "pair": pair, "special_tokens": tokens
        })
    }

    /// Pieces of texts with their scores.
    fn of_pieces(&self, unigram: bool) -> Vec<File> {
        let architecture = self
            .metadata
            .text("general.architecture")
            .unwrap_or_default();
        let class = if unigram {
            "T5Tokenizer"
        } else {
            sli_spec::gguf::tokenizer_of_pieces(architecture)
        };
        let bos = self.flag("add_bos_token").unwrap_or(!unigram);
        let eos = self.flag("add_eos_token").unwrap_or(unigram);
        let mut more = Map::new();
        let decoder: Map<String, Value> = self
            .added()
            .map(|(id, token, special)| {
                let token = json!({
                    "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                    "special": special
                });
                (id.to_string(), token)
            })
            .collect();
        more.insert("added_tokens_decoder".to_owned(), decoder.into());
        if let Some(prefix) = self
            .flag("add_space_prefix")
            .filter(|_| class != "GemmaTokenizer")
        {
            more.insert("add_prefix_space".to_owned(), prefix.into());
        }
        vec![
            ("tokenizer.model", self.sentencepiece(unigram)),
            self.config(class, more, [bos, eos]),
        ]
    }

    /// A SentencePiece model: pieces with score and kind, what it was trained as, its map of characters.
    fn sentencepiece(&self, unigram: bool) -> Vec<u8> {
        let mut model = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let mut piece = Vec::new();
            field(&mut piece, 1, &spelled(token));
            let score = self.scores.get(id).copied().unwrap_or(0.0) as f32;
            piece.push(2 << 3 | 5);
            piece.extend(score.to_le_bytes());
            number(&mut piece, 3, self.kind(id));
            field(&mut model, 1, &piece);
        }
        let mut trainer = Vec::new();
        number(&mut trainer, 3, if unigram { 1 } else { 2 });
        let bytes = (0..self.tokens.len()).any(|id| self.kind(id) == 6);
        number(&mut trainer, 35, bytes.into());
        let ids = [
            (40, 45, "unknown_token_id"),
            (41, 46, "bos_token_id"),
            (42, 47, "eos_token_id"),
        ];
        for (id_field, text_field, key) in ids {
            let unknown = || {
                let id = (0..self.tokens.len()).find(|id| self.kind(*id) == UNKNOWN)?;
                Some((id as u64, self.tokens.get(id)?.as_str()))
            };
            let token = self.token(key);
            let token = if id_field == 40 {
                token.or_else(unknown)
            } else {
                token
            };
            if let Some((id, text)) = token {
                number(&mut trainer, id_field, id);
                field(&mut trainer, text_field, text.as_bytes());
            }
        }
        field(&mut model, 2, &trainer);
        let map: Vec<u8> = self.characters.iter().map(|byte| *byte as u8).collect();
        let mut normalizer = Vec::new();
        field(&mut normalizer, 2, &map);
        field(&mut model, 3, &normalizer);
        model
    }

    /// Pieces of words: those that begin one bear a mark in the file, the others `##` as published.
    fn of_words(&self) -> Vec<File> {
        let mut vocabulary = String::new();
        let mut cased = false;
        for token in &self.tokens {
            let bracketed = token.starts_with('[') && token.ends_with(']');
            let (begins, rest) = match token.strip_prefix(MARK) {
                _ if bracketed => ("", token.as_str()),
                Some(rest) => ("", rest),
                None => ("##", token.as_str()),
            };
            cased |= !bracketed && rest.bytes().any(|byte| byte.is_ascii_uppercase());
            // A text cannot fail to be written to.
            let _ = writeln!(vocabulary, "{begins}{rest}");
        }
        let mut more = Map::new();
        more.insert("do_lower_case".to_owned(), (!cased).into());
        vec![
            ("vocab.txt", vocabulary.into()),
            self.config("BertTokenizer", more, [false, false]),
        ]
    }
}

/// A piece as SentencePiece spells it: spaces are marks.
fn spelled(token: &str) -> Vec<u8> {
    let blank = !token.is_empty() && token.chars().all(|c| c == ' ');
    if blank {
        token.replace(' ', &MARK.to_string()).into()
    } else {
        token.as_bytes().to_vec()
    }
}

/// A number of a Protocol Buffers message.
fn number(message: &mut Vec<u8>, field: u32, value: u64) {
    varint(message, u64::from(field) << 3);
    varint(message, value);
}

/// Bytes of a message.
fn field(message: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(message, u64::from(field) << 3 | 2);
    varint(message, value.len() as u64);
    message.extend(value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
