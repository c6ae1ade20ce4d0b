//! SentencePiece models whose pieces are numbered by a `vocab.json` beside them. The library cuts a text into pieces; what they are called decides their numbers, also of those that the model
//! does not know and the vocabulary does.

use std::collections::HashMap;

use ::tokenizers::models::bpe::{BpeBuilder, Vocab};
use ::tokenizers::models::unigram::Unigram;
use ::tokenizers::tokenizer::Tokenizer as Backend;
use ::tokenizers::{AddedToken, ModelWrapper};
use serde_json::{Value, json};

use super::super::arguments::Arguments;
use super::super::auto::CLASSES;
use super::super::build::{Built, set_normalizer, set_pre_tokenizer};
use super::super::class::Build;
use super::super::load::{Notes, REMEMBERED_WORDS};
use super::super::numbers::{Numbers, OUTSIDE, Unlisted};
use super::super::special_token::SpecialToken;
use super::super::survey::Survey;
use super::super::vocabulary::{
    CONTROL, NORMAL, Piece, SentencePiece, UNKNOWN, base64, json_entries,
};
use super::parts::{Broken, Builder, special};

/// A class.
#[derive(Debug)]
pub struct NumberedClass {
    /// Its name in the reference.
    pub name: &'static str,
    /// The model of texts that are read.
    pub read: &'static str,
    /// The model of texts that are to be said, where it is another one.
    pub said: Option<&'static str>,
    /// Settings that it reads.
    pub settings: &'static [&'static str],
    /// Special tokens besides those of both, where no file names them.
    tokens: &'static [(&'static str, &'static str)],
    /// Texts may begin with the language that they are translated into, `>>fr<<`; else languages stand in front of texts as
    /// special tokens.
    codes: bool,
}

/// The classes.
pub const NUMBERED_CLASSES: &[NumberedClass] = &[
    NumberedClass {
        name: "MarianTokenizer",
        read: "source.spm",
        said: Some("target.spm"),
        settings: &["source_lang", "target_lang", "separate_vocabs"],
        tokens: &[],
        codes: true,
    },
    NumberedClass {
        name: "M2M100Tokenizer",
        read: "sentencepiece.bpe.model",
        said: None,
        settings: &["src_lang", "tgt_lang", "language_codes"],
        tokens: &[("bos_token", "<s>"), ("sep_token", "</s>")],
        codes: false,
    },
];

/// The special tokens of both, where no file names them.
const END: (&str, &str) = ("eos_token", "</s>");
const UNKNOWN_TOKEN: (&str, &str) = ("unk_token", "<unk>");
const PADDING: (&str, &str) = ("pad_token", "<pad>");

/// The numbers.
const VOCABULARY: &str = "vocab.json";

impl NumberedClass {
    /// Its special tokens, where no file names them.
    pub fn tokens(&self) -> Vec<(&'static str, &'static str)> {
        [&[END, UNKNOWN_TOKEN, PADDING], self.tokens].concat()
    }

    /// The files that it needs; `said`: for texts that a decoder is to say.
    pub fn files(&self, said: bool) -> [&'static str; 2] {
        [self.said.filter(|_| said).unwrap_or(self.read), VOCABULARY]
    }

    /// Reads a model and the numbers of its pieces.
    pub fn read(
        &'static self,
        model: &[u8],
        vocabulary: &[u8],
        survey: &mut Survey,
    ) -> Result<Builder, Broken> {
        let in_model = |problem| (0, problem);
        let model = SentencePiece::read(model).map_err(in_model)?;
        let vocabulary = json_entries(vocabulary).map_err(|problem| (1, problem))?;
        for piece in &model.pieces {
            survey.count_entry(&piece.text, model.unigram);
        }
        for entry in vocabulary.keys() {
            survey.count_entry(entry, false);
        }
        if !model.unigram {
            survey.count_merges(model.count_merges().map_err(in_model)?);
        }
        Ok(Box::new(move |arguments| {
            self.build(arguments, &model, vocabulary.into_iter().collect())
        }))
    }

    /// The tokenizer over a model.
    fn build(
        &self,
        arguments: &mut Arguments,
        model: &SentencePiece,
        vocabulary: HashMap<String, u32>,
    ) -> Result<Built, String> {
        if arguments
            .values
            .get("separate_vocabs")
            .is_some_and(|value| *value != false)
        {
            return Err(
                "it has a vocabulary for each side (`separate_vocabs`), which is not supported"
                    .into(),
            );
        }
        let options = arguments.values.get("sp_model_kwargs");
        if options.is_some_and(|options| *options != json!({})) {
            return Err("its pieces are drawn (`sp_model_kwargs`), which is not supported".into());
        }
        let unknown = special(arguments, UNKNOWN_TOKEN, false)?;
        let end = special(arguments, END, false)?;
        let mut texts = vec![end.clone(), unknown.clone()];
        for token in [&[PADDING], self.tokens].concat() {
            texts.push(special(arguments, token, false)?);
        }
        let in_vocabulary = vocabulary.get(&unknown).copied();
        let first_language = vocabulary.len() as u32;
        let mut numbers = Numbers {
            unlisted: Unlisted::Unknown(
                in_vocabulary.ok_or_else(|| format!("`{unknown}` is not in {VOCABULARY}"))?,
            ),
            by_text: vocabulary,
            added: HashMap::new(),
            codes: Vec::new(),
            lacks_target: false,
        };
        for (id, token) in &arguments.added {
            let id = u32::try_from(*id)
                .map_err(|_| "`added_tokens_decoder` has a negative id".to_owned())?;
            numbers.by_text.insert(token.content.clone(), id);
        }
        if let Some(text) = texts
            .iter()
            .find(|text| !numbers.by_text.contains_key(*text))
        {
            return Err(format!("`{text}` is not in {VOCABULARY}"));
        }
        // Further tokens come behind all others, in their order.
        let further = arguments.values.get("extra_special_tokens");
        for token in further.and_then(Value::as_array).into_iter().flatten() {
            let token =
                SpecialToken::of_value(token).ok_or("an additional special token is none")?;
            let next = numbers.by_text.len() as u32;
            numbers.by_text.entry(token.content).or_insert(next);
        }
        let mut backend = Backend::new(Self::model(model)?);
        let mut steps = Vec::new();
        if !model.characters.is_empty() {
            steps.push(
                json!({"type": "Precompiled", "precompiled_charsmap": base64(&model.characters)}),
            );
        }
        for (pattern, content) in [(" {2,}", " "), ("^ +| +$", "")] {
            steps.push(
                json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content}),
            );
        }
        set_normalizer(
            &mut backend,
            json!({"type": "Sequence", "normalizers": steps}),
        )?;
        let marks = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false});
        set_pre_tokenizer(&mut backend, marks)?;
        let languages = self.languages(arguments, &mut numbers, first_language)?;
        let special = |text: &String| AddedToken::from(text.clone(), true).normalized(false);
        backend
            .add_special_tokens(texts.iter().chain(&languages.all).map(special))
            .map_err(|error| error.to_string())?;
        let mut build = Build::of_backend(None, arguments, backend, Notes::default())?;
        let eos = build.pair_of(&end)?;
        match &languages.sides {
            None => build.template(&format!("$A {end}"), &format!("$A $B {end}"), vec![eos])?,
            Some((source, target)) => {
                let around = |language: &Token| {
                    let start = &language.0;
                    let tokens = vec![language.clone(), eos.clone()];
                    (
                        format!("{start} $A {end}"),
                        format!("{start} $A $B {end}"),
                        tokens,
                    )
                };
                let (single, pair, tokens) = around(source);
                build.template(&single, &pair, tokens)?;
                if let Some(target) = target {
                    let (single, pair, tokens) = around(target);
                    build.template_of_labels(&single, &pair, tokens)?;
                }
            }
        }
        numbers.lacks_target = matches!(languages.sides, Some((_, None)));
        let built = build.finish()?;
        Ok(Built {
            numbers: Some(numbers.with_added(&built.backend)),
            ..built
        })
    }

    fn model(model: &SentencePiece) -> Result<ModelWrapper, String> {
        if model.byte_fallback || !model.usual_spaces {
            return Err("its model keeps spaces, or knows bytes, which is not supported".into());
        }
        if let Some(piece) = model
            .pieces
            .iter()
            .find(|piece| !matches!(piece.kind, NORMAL | UNKNOWN | CONTROL))
        {
            return Err(format!(
                "its model has `{}` of kind {}, which is not supported",
                piece.text, piece.kind
            ));
        }
        // What no text becomes is called otherwise.
        let text = |piece: &Piece| match piece.kind {
            NORMAL => piece.text.clone(),
            _ => format!("\u{10FFFF}{}", piece.text),
        };
        if model.unigram {
            let entries = model
                .pieces
                .iter()
                .map(|piece| (text(piece), f64::from(piece.score)));
            let unknown = model.pieces.iter().position(|piece| piece.kind == UNKNOWN);
            let built = Unigram::from(entries.collect(), unknown, false);
            return Ok(built.map_err(|error| error.to_string())?.into());
        }
        let mut ids = Vocab::default();
        for (id, piece) in (0..).zip(&model.pieces) {
            ids.insert(text(piece), id);
        }
        let built = BpeBuilder::new()
            .cache_capacity(REMEMBERED_WORDS)
            .vocab_and_merges(ids, model.merges())
            .unk_token(format!("\u{10FFFF}{}", model.unknown.1))
            .fuse_unk(true)
            .build();
        Ok(built.map_err(|error| error.to_string())?.into())
    }

    /// The tokens of languages, whose numbers begin at `first`, and which of them stand in front of texts.
    fn languages(
        &self,
        arguments: &Arguments,
        numbers: &mut Numbers,
        first: u32,
    ) -> Result<Languages, String> {
        if self.codes {
            let is_code =
                |text: &&String| text.starts_with(">>") && text.ends_with("<<") && text.len() > 4;
            let mut all: Vec<String> = numbers.by_text.keys().filter(is_code).cloned().collect();
            all.sort();
            numbers.codes.clone_from(&all);
            return Ok(Languages { all, sides: None });
        }
        let text = |key: &str| match arguments.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{key}` is no text")),
        };
        let family = text("language_codes")?.unwrap_or_else(|| "m2m100".into());
        let codes = CLASSES
            .languages
            .get(&family)
            .ok_or_else(|| format!("`language_codes` is `{family}`"))?;
        let token = |key: &str, code: &str| {
            let place = codes.iter().zip(first..).find(|(known, _)| *known == code);
            let (_, number) = place.ok_or_else(|| {
                format!("`{key}` is `{code}`, which is no language of `{family}`")
            })?;
            Ok::<_, String>((format!("__{code}__"), OUTSIDE + number))
        };
        let source = token(
            "src_lang",
            &text("src_lang")?.unwrap_or_else(|| "en".into()),
        )?;
        let target = text("tgt_lang")?;
        let target = target.map(|code| token("tgt_lang", &code)).transpose()?;
        Ok(Languages {
            all: Vec::new(),
            sides: Some((source, target)),
        })
    }
}

/// A token and its id.
type Token = (String, u32);

struct Languages {
    /// Tokens that texts may hold.
    all: Vec<String>,
    /// Of texts that are read, and of those that are to be said.
    sides: Option<(Token, Option<Token>)>,
}
