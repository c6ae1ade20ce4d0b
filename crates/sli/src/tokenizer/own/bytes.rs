//! Tokenizers whose vocabulary is the bytes, and that have no file.
//!
//! An unknown character of a BPE model is its bytes, and here every character is unknown; so the library does what it does
//! for others: added tokens, places in the text, cutting.

use ::tokenizers::models::bpe::{BpeBuilder, Vocab};
use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::{Value, json};

use super::super::arguments::Arguments;
use super::super::build::Built;
use super::super::class::Build;
use super::super::load::Notes;
use super::parts::special;

/// A class.
#[derive(Debug)]
pub struct ByteClass {
    /// Its name in the reference.
    pub name: &'static str,
    /// Its special tokens with the texts that they have where no file says it, whose ids are their places; the bytes come after
    /// them.
    pub tokens: &'static [(&'static str, &'static str)],
    /// They take the space around them, if the file gives only their texts.
    strips: bool,
    /// What stands in front of a text.
    start: Option<&'static str>,
    /// What stands behind it.
    end: &'static str,
    /// A text that ends with that already gets no other.
    ends_once: bool,
    /// Settings that it reads.
    pub settings: &'static [&'static str],
}

/// How many tokens `<extra_id_0>`, ... there are.
const EXTRA_IDS: &str = "extra_ids";
/// Where the file does not say it.
const USUAL_EXTRA_IDS: usize = 125;

/// The classes.
pub const BYTE_CLASSES: &[ByteClass] = &[
    ByteClass {
        name: "ByT5Tokenizer",
        tokens: &[
            ("pad_token", "<pad>"),
            ("eos_token", "</s>"),
            ("unk_token", "<unk>"),
        ],
        strips: true,
        start: None,
        end: "eos_token",
        ends_once: true,
        settings: &[EXTRA_IDS],
    },
    ByteClass {
        name: "PerceiverTokenizer",
        tokens: &[
            ("pad_token", "[PAD]"),
            ("bos_token", "[BOS]"),
            ("eos_token", "[EOS]"),
            ("mask_token", "[MASK]"),
            ("cls_token", "[CLS]"),
            ("sep_token", "[SEP]"),
        ],
        strips: false,
        start: Some("cls_token"),
        end: "sep_token",
        ends_once: false,
        settings: &[],
    },
];

impl ByteClass {
    /// The tokenizer.
    pub fn build(&self, arguments: &mut Arguments) -> Result<Built, String> {
        let mut vocabulary = Vocab::default();
        for (id, (name, default)) in (0..).zip(self.tokens) {
            let text = special(arguments, (name, default), self.strips)?;
            vocabulary.insert(text, id);
        }
        if vocabulary.len() < self.tokens.len() {
            return Err("two of its special tokens are the same text".into());
        }
        let first = self.tokens.len() as u32;
        let bytes = (0..256_u32).map(|byte| (format!("<0x{byte:02X}>"), first + byte));
        vocabulary.extend(bytes);
        self.add_extra_ids(arguments)?;
        let model = BpeBuilder::new()
            .cache_capacity(0)
            .vocab_and_merges(vocabulary, Vec::new())
            .byte_fallback(true)
            .build()
            .map_err(|error| error.to_string())?;
        let mut build = Build::of_backend(None, arguments, Backend::new(model), Notes::default())?;
        let pair = |name: &str| {
            let place = self.tokens.iter().position(|(known, _)| *known == name);
            let id = place.ok_or_else(|| format!("it has no `{name}`"))? as u32;
            let text = build.backend.id_to_token(id);
            Ok::<_, String>((text.unwrap_or_default(), id))
        };
        let (start, end) = (self.start.map(pair).transpose()?, pair(self.end)?);
        let front = start
            .as_ref()
            .map_or_else(String::new, |(text, _)| format!("{text} "));
        let single = format!("{front}$A {}", end.0);
        let both = format!("{single} $B {}", end.0);
        let once = self.ends_once.then_some(end.1);
        build.template(&single, &both, start.into_iter().chain([end]).collect())?;
        let built = build.finish()?;
        for (id, token) in &arguments.added {
            let found = built.backend.token_to_id(&token.content);
            if found.map(i64::from) != Some(*id) {
                let text = &token.content;
                return Err(format!(
                    "`added_tokens_decoder` has `{text}` at {id}, where another token is"
                ));
            }
        }
        Ok(Built {
            ends_once: once,
            ..built
        })
    }

    /// Adds the tokens that stand for what a text leaves out.
    fn add_extra_ids(&self, arguments: &mut Arguments) -> Result<(), String> {
        const LISTS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];
        if !self.settings.contains(&EXTRA_IDS) {
            return Ok(());
        }
        let count = match arguments.values.get(EXTRA_IDS) {
            None => USUAL_EXTRA_IDS,
            Some(value) => value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count <= 1 << 16)
                .ok_or("`extra_ids` is no number of tokens")?,
        };
        let listed = LISTS.iter().find_map(|key| arguments.values.get(*key));
        match listed {
            _ if count == 0 => {}
            None | Some(Value::Null) => {
                let tokens: Vec<String> = (0..count).map(|id| format!("<extra_id_{id}>")).collect();
                arguments.values.insert(LISTS[0].into(), json!(tokens));
            }
            Some(Value::Array(tokens)) => {
                let is_extra = |token: &&Value| token.to_string().contains("extra_id");
                let mut extra: Vec<String> = tokens
                    .iter()
                    .filter(is_extra)
                    .map(Value::to_string)
                    .collect();
                extra.sort();
                extra.dedup();
                if !tokens.is_empty() && extra.len() != count {
                    return Err(format!(
                        "`extra_ids` is {count}, and its additional tokens have {} of them",
                        extra.len()
                    ));
                }
            }
            Some(_) => return Err("its additional special tokens are no list".into()),
        }
        Ok(())
    }
}
