//! Builds the tokenizer of a class: its pipeline over a vocabulary, its special tokens, its post-processor,
//! in the order in which the reference's constructors do it, because ids and flags depend on it.

pub mod finish;
mod model;

use ::tokenizers::processors::template::TemplateProcessing;
use ::tokenizers::tokenizer::Tokenizer as Backend;
use ::tokenizers::{NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};
use serde_json::Value;

use super::arguments::{Arguments, NAMES, is_true, set};
use super::class::{Build, Class, Settings};
use super::load::{Notes, Vocabulary};
use super::numbers::Numbers;
use super::special_token::SpecialToken;

/// Where the entries of a tokenizer come from.
pub struct Source {
    /// The entries.
    pub vocabulary: Vocabulary,
    /// The pairs, best first.
    pub merges: Vec<(String, String)>,
    /// The post-processor of the file.
    pub post_processor: Value,
    /// The map of characters of a SentencePiece model, as base64.
    pub characters: Option<String>,
}

/// A finished tokenizer.
pub struct Built {
    /// The library's tokenizer.
    pub backend: Backend,
    /// Special tokens with a name.
    pub named: Vec<(String, SpecialToken)>,
    /// A text with this in it is not one text.
    pub divider: Option<String>,
    /// What is put around texts that a decoder is to say, where that is something else.
    pub of_labels: Option<PostProcessorWrapper>,
    /// The token that ends a text, where a text that ends with it already gets no other.
    pub ends_once: Option<u32>,
    /// What numbers the pieces, where that is not the library's model.
    pub numbers: Option<Numbers>,
}

impl<'a> Build<'a> {
    /// The pipeline of a class over entries.
    pub fn of_class(
        class: &'static Class,
        arguments: &'a Arguments,
        source: Source,
        notes: Notes,
    ) -> Result<Self, String> {
        let settings = Settings {
            class,
            values: &arguments.values,
            characters: source.characters.as_deref(),
        };
        let unknown = class_token(class, arguments, "unk_token")?;
        let vocabulary = match class.entries {
            Some(entries) => entries(arguments, source.vocabulary)?,
            None => source.vocabulary,
        };
        let model = model::build(
            class,
            &settings,
            unknown.as_deref(),
            vocabulary,
            source.merges,
        )?;
        let mut backend = Backend::new(model);
        set_normalizer(&mut backend, (class.normalizer)(&settings)?)?;
        set_pre_tokenizer(&mut backend, (class.pre_tokenizer)(&settings)?)?;
        let mut build = Self::new(Some(class), arguments, backend, notes)?;
        build.characters = source.characters;
        let mut build = build.with_extra()?;
        if let Some(before) = class.before {
            before(&mut build)?;
        }
        if !source.post_processor.is_null() {
            let post: PostProcessorWrapper =
                serde_json::from_value(source.post_processor).map_err(|error| error.to_string())?;
            build.backend.with_post_processor(Some(post));
        }
        Ok(build)
    }

    /// A pipeline that is there already.
    pub fn of_backend(
        class: Option<&'static Class>,
        arguments: &'a Arguments,
        backend: Backend,
        notes: Notes,
    ) -> Result<Self, String> {
        Self::new(class, arguments, backend, notes)
    }

    fn new(
        class: Option<&'static Class>,
        arguments: &'a Arguments,
        backend: Backend,
        notes: Notes,
    ) -> Result<Self, String> {
        let values = &arguments.values;
        let truth = |key: &str| values.get(key).is_some_and(is_true);
        Ok(Self {
            class,
            arguments,
            notes,
            characters: None,
            backend,
            named: Vec::new(),
            extra: Vec::new(),
            additional: list(
                values.get("additional_special_tokens"),
                "additional_special_tokens",
            )?,
            add_bos: truth("add_bos_token"),
            add_eos: truth("add_eos_token"),
            by_settings: values.contains_key("add_bos_token")
                || values.contains_key("add_eos_token"),
            divider: None,
            of_labels: None,
        })
    }

    /// What the constructor does first.
    pub fn with_extra(mut self) -> Result<Self, String> {
        if let Some(extra) = self.class.and_then(|class| class.extra) {
            extra(&mut self)?;
        }
        Ok(self)
    }

    /// Adds the special tokens and the post-processor.
    pub fn finish(mut self) -> Result<Built, String> {
        self.by_settings |= self.backend.get_post_processor().is_none();
        self.name_tokens()?;
        let split = self
            .arguments
            .values
            .get("split_special_tokens")
            .is_some_and(is_true);
        self.backend.set_encode_special_tokens(split);
        self.add_missing()?;
        self.by_settings |= self.backend.get_post_processor().is_none();
        if self.by_settings {
            self.post_process_by_settings()?;
        }
        if let Some(finish) = self.class.and_then(|class| class.finish) {
            finish(&mut self)?;
        }
        let named = self.named.into_iter();
        Ok(Built {
            backend: self.backend,
            named: named
                .filter_map(|(name, token)| Some((name, token?)))
                .collect(),
            divider: self.divider,
            of_labels: self.of_labels,
            ends_once: None,
            numbers: None,
        })
    }

    /// Sorts out which token has which name.
    fn name_tokens(&mut self) -> Result<(), String> {
        let arguments = self.arguments;
        for name in NAMES {
            let mut token = self.token_of_name(name)?;
            if name == "pad_token" && token.is_none() && !self.hands_on(name) {
                token = self.notes.pad_token.as_deref().map(SpecialToken::plain);
            }
            self.named.push((name.to_owned(), token));
        }
        let mut further = Vec::new();
        let of_class = self.class.map_or(&[][..], |class| class.tokens);
        for token in of_class.iter().filter(|token| !NAMES.contains(&token.name)) {
            if let Some(value) = self.token_of_name(token.name)? {
                set(&mut further, token.name.to_owned(), value);
            }
        }
        // Texts are of special_tokens_map.json: those of tokenizer_config.json have left, and come after.
        for (key, value) in &arguments.values {
            if key.ends_with("_token")
                && !NAMES.contains(&key.as_str())
                && (value.is_object() || value.is_string())
                && let Some(token) = SpecialToken::of_value(value)
            {
                set(&mut further, key.clone(), token);
            }
        }
        let given = match arguments.values.get("model_specific_special_tokens") {
            Some(Value::Object(tokens)) if arguments.model_specific.is_empty() => {
                let token = |(name, value): (&String, &Value)| {
                    let token = SpecialToken::of_value(value);
                    token.map(|token| (name.clone(), token)).ok_or_else(|| {
                        format!("`model_specific_special_tokens`: `{name}` is not a token")
                    })
                };
                tokens.iter().map(token).collect::<Result<_, _>>()?
            }
            _ => Vec::new(),
        };
        for (name, token) in given
            .into_iter()
            .chain(arguments.model_specific.iter().cloned())
        {
            set(&mut further, name, token);
        }
        for (name, token) in further {
            match self.named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = Some(token),
                None => self.named.push((name, Some(token))),
            }
        }
        let extra = match arguments.values.get("extra_special_tokens") {
            Some(given) => list(Some(given), "extra_special_tokens")?,
            None => self.additional.take(),
        };
        self.extra = extra.unwrap_or_default();
        Ok(())
    }

    /// Whether the constructor gets a token of this name, be it null.
    fn hands_on(&self, name: &str) -> bool {
        let of_class = self.class.map_or(&[][..], |class| class.tokens);
        self.arguments.values.contains_key(name) || of_class.iter().any(|token| token.name == name)
    }

    /// The token of a name, from the files or the class.
    pub fn token_of_name(&self, name: &str) -> Result<Option<SpecialToken>, String> {
        let of_class = self.class.map_or(&[][..], |class| class.tokens);
        let of_class = of_class.iter().find(|token| token.name == name);
        let mut token = match self.arguments.values.get(name) {
            Some(Value::Null) => None,
            Some(value) => Some(
                SpecialToken::of_value(value)
                    .ok_or_else(|| format!("`{name}` is neither a text nor an added token"))?,
            ),
            None => of_class
                .and_then(|token| token.default)
                .map(SpecialToken::plain),
        };
        let is_text = self.arguments.values.get(name).is_none_or(Value::is_string);
        if let (Some(token), true, Some(of_class)) = (&mut token, is_text, of_class) {
            token.lstrip |= of_class.lstrip;
        }
        Ok(token)
    }

    /// Adds the tokens that the vocabulary or its file does not have as such.
    fn add_missing(&mut self) -> Result<(), String> {
        let mut tokens: Vec<SpecialToken> = self.arguments.added.values().cloned().collect();
        let mut known: Vec<String> = tokens.iter().map(|token| token.content.clone()).collect();
        let there = self.backend.get_added_tokens_decoder().into_values();
        known.extend(there.map(|token| token.content));
        let named = self.named.iter().filter_map(|(_, token)| token.as_ref());
        let mut new: Vec<SpecialToken> = Vec::new();
        for token in named.chain(&self.extra) {
            if !known.contains(&token.content) && !new.contains(token) {
                new.push(token.clone());
            }
        }
        tokens.extend(new);
        for token in &mut tokens {
            let is_named = |(_, named): &(String, Option<SpecialToken>)| {
                named
                    .as_ref()
                    .is_some_and(|named| named.content == token.content)
            };
            token.special |= self.named.iter().any(is_named);
        }
        self.add(&tokens)
    }

    /// Adds tokens to the library's tokenizer.
    pub fn add(&mut self, tokens: &[SpecialToken]) -> Result<(), String> {
        let added = tokens.iter().map(SpecialToken::added);
        self.backend
            .add_tokens(added)
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The text of a special token.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, token) = self.named.iter().find(|(known, _)| known == name)?;
        token.as_ref().map(|token| token.content.clone())
    }

    /// A special token as Python prints it: `None` where there is none.
    pub fn printed(&self, name: &str) -> String {
        self.text(name).unwrap_or_else(|| "None".into())
    }

    /// The id of a text, or of the unknown token.
    pub fn id(&self, text: &str) -> Option<u32> {
        let unknown = || self.backend.token_to_id(&self.text("unk_token")?);
        self.backend.token_to_id(text).or_else(unknown)
    }

    /// A special token with its id.
    pub fn pair(&self, name: &str) -> Result<(String, u32), String> {
        let text = self
            .text(name)
            .ok_or_else(|| format!("it needs a `{name}`"))?;
        let id = self
            .id(&text)
            .ok_or_else(|| format!("`{text}` has no id"))?;
        Ok((text, id))
    }

    /// A text with its id.
    pub fn pair_of(&self, text: &str) -> Result<(String, u32), String> {
        let id = self.backend.token_to_id(text);
        id.map(|id| (text.to_owned(), id))
            .ok_or_else(|| format!("`{text}` has no id"))
    }

    /// The settings of the class; null ones without a class.
    pub fn value(&self, key: &str) -> Value {
        self.class
            .map_or(Value::Null, |class| self.settings(class).value(key))
    }

    fn settings<'s>(&'s self, class: &'s Class) -> Settings<'s> {
        Settings {
            class,
            values: &self.arguments.values,
            characters: self.characters.as_deref(),
        }
    }

    /// What is put around texts, from the flags alone.
    pub fn post_process_by_settings(&mut self) -> Result<(), String> {
        let bos = self.text("bos_token").filter(|_| self.add_bos);
        let eos = self.text("eos_token").filter(|_| self.add_eos);
        let before = |kind| {
            bos.as_ref()
                .map_or(String::new(), |bos| format!("{bos}:{kind} "))
        };
        let after = |kind| {
            eos.as_ref()
                .map_or(String::new(), |eos| format!(" {eos}:{kind}"))
        };
        let single = format!("{}$A:0{}", before(0), after(0));
        let bos_again = bos
            .as_ref()
            .map_or(String::new(), |bos| format!(" {bos}:1"));
        let pair = format!("{single}{bos_again} $B:1{}", after(1));
        let mut tokens = Vec::new();
        for text in bos.into_iter().chain(eos) {
            let id = self
                .id(&text)
                .ok_or_else(|| format!("`{text}` has no id"))?;
            tokens.push((text, id));
        }
        self.template(&single, &pair, tokens)
    }

    /// Puts special tokens around texts, by templates of words.
    pub fn template(
        &mut self,
        single: &str,
        pair: &str,
        tokens: Vec<(String, u32)>,
    ) -> Result<(), String> {
        self.backend
            .with_post_processor(Some(around(single, pair, tokens)?));
        Ok(())
    }

    /// Puts special tokens around texts that a decoder is to say.
    pub fn template_of_labels(
        &mut self,
        single: &str,
        pair: &str,
        tokens: Vec<(String, u32)>,
    ) -> Result<(), String> {
        self.of_labels = Some(around(single, pair, tokens)?.into());
        Ok(())
    }

    /// Sets the post-processor from its spelling in `tokenizer.json`.
    pub fn post_process(&mut self, value: Value) -> Result<(), String> {
        let post: PostProcessorWrapper =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        self.backend.with_post_processor(Some(post));
        Ok(())
    }
}

fn around(
    single: &str,
    pair: &str,
    tokens: Vec<(String, u32)>,
) -> Result<TemplateProcessing, String> {
    TemplateProcessing::builder()
        .try_single(single)
        .and_then(|builder| builder.try_pair(pair))
        .map_err(|error| format!("its special tokens make no template: {error}"))?
        .special_tokens(tokens)
        .build()
        .map_err(|error| format!("its special tokens make no template: {error}"))
}

/// A special token as the constructor of a class sees it: `None` where a file says null.
fn class_token(class: &Class, arguments: &Arguments, name: &str) -> Result<Option<String>, String> {
    let default = class.tokens.iter().find(|token| token.name == name);
    match arguments.values.get(name) {
        Some(Value::Null) => Ok(Some("None".into())),
        Some(value) => SpecialToken::of_value(value)
            .map(|token| Some(token.content))
            .ok_or_else(|| format!("`{name}` is neither a text nor an added token")),
        None => Ok(default.and_then(|token| token.default).map(str::to_owned)),
    }
}

fn list(value: Option<&Value>, key: &str) -> Result<Option<Vec<SpecialToken>>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(tokens)) => {
            let token = |value| {
                SpecialToken::of_value(value)
                    .ok_or_else(|| format!("`{key}`: {value} is not a token"))
            };
            tokens.iter().map(token).collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(format!("`{key}` is not a list of tokens")),
    }
}

/// Sets the normaliser from its spelling in `tokenizer.json`.
pub fn set_normalizer(backend: &mut Backend, value: Value) -> Result<(), String> {
    let normalizer: Option<NormalizerWrapper> =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    backend
        .with_normalizer(normalizer)
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// Sets the pre-tokeniser from its spelling in `tokenizer.json`.
pub fn set_pre_tokenizer(backend: &mut Backend, value: Value) -> Result<(), String> {
    let words: Option<PreTokenizerWrapper> =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    backend.with_pre_tokenizer(words);
    Ok(())
}
