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
mod byte_vocabulary;
mod chat;
mod chat_worker;
pub mod class;
mod compare;
mod error;
mod files;
mod listed_words;
mod load;
mod lower_case;
mod mistral;
mod numbered_pieces;
mod numbers;
mod offsets;
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
mod vocabulary;

use ::tokenizers::{
    Encoding, PostProcessorWrapper, Token, TruncationDirection, TruncationParams,
    TruncationStrategy, tokenizer::Tokenizer as Backend,
};

pub use chat::{Source, Sources};
pub use chat_worker::ChatTemplate;
pub use error::TokenizerError;
pub use reading::Reading;
pub use templates::{ChatOptions, Choice};

use sli_checkpoint::ModelFolder;
use sli_engine::TextSpans;
use sli_engine::bytes::human;

use crate::guard::guarded;
use crate::memory::{Allowance, WORKING_BYTES};
use assemble::{Assembled, Folder};
use numbers::{Numbers, OUTSIDE};
use offsets::{Places, bytes_left};
use patience::{Patience, TooLong};
use pieces::{Cuts, PIECE_BYTES, text_cost};
use settings::TokenizerSettings;

/// How much longer a text can become by normalisation that takes characters apart.
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

/// What the special tokens of a text are, around its own.
#[derive(Clone, Debug)]
struct Frame {
    before: Vec<(u32, u32)>,
    after: Vec<(u32, u32)>,
    /// Type of the tokens between.
    kind: u32,
}

/// Tokens of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types, where one is not 0.
    pub types: Option<Vec<u32>>,
    /// The text has more.
    pub cut: bool,
    /// Where the tokens are in the text, if that was asked for.
    pub text: Option<TextSpans>,
}

/// Memory that the tokenizer of a model folder takes, bytes at most; `None` if that cannot be said before it
/// is loaded.
pub fn bytes(folder: &ModelFolder, reading: &Reading) -> Option<u64> {
    Folder::open(folder, reading).ok()?.bytes()
}

/// Special tokens that a text gets.
fn added_to(backend: &Backend) -> usize {
    let added = |processor| ::tokenizers::PostProcessor::added_tokens(processor, false);
    backend.get_post_processor().map_or(0, added)
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
        let takes_apart = backend.get_normalizer().is_some_and(pieces::takes_apart);
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
        let special = |id: &u32| {
            let added = self.backend.get_added_tokens_decoder();
            added.get(id).is_some_and(|token| token.special)
        };
        Ok(ids.len() - usize::from(ids.last().is_some_and(special)))
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

    /// Tokens of texts, each with the special tokens of the tokenizer, in parallel on the current thread pool.
    pub fn encode_texts(&self, texts: Vec<&str>) -> Result<Vec<Encoded>, TokenizerError> {
        let mut encoded = self.encode(texts, true)?;
        for encoded in &mut encoded {
            self.end_once(encoded);
        }
        Ok(encoded)
    }

    /// Takes off the end of a text that had one before.
    fn end_once(&self, encoded: &mut Encoded) {
        if let (Some(end), [.., before, last]) = (self.ends_once, &encoded.ids[..])
            && *before == end
            && *last == end
        {
            encoded.ids.pop();
            if let Some(text) = &mut encoded.text {
                text.offsets.pop();
            }
        }
    }

    /// Tokens of texts that a decoder is to say: as those of others, but for the language where the tokenizer's class has
    /// one for each side.
    pub fn encode_labels(&mut self, texts: Vec<&str>) -> Result<Vec<Encoded>, TokenizerError> {
        if let Some(said) = &self.said {
            return said.encode_texts(texts);
        }
        if self
            .numbers
            .as_ref()
            .is_some_and(|numbers| numbers.lacks_target)
        {
            return Err(TokenizerError::Class {
                folder: self.folder.path().to_path_buf(),
                class: "`M2M100Tokenizer`".into(),
                problem: "it is not told the language of what is to be said: --tokenizer-arg tgt_lang=de, for instance".into(),
            });
        }
        let Some(of_labels) = self.of_labels.clone() else {
            return self.encode_texts(texts);
        };
        let of_texts = self.around(Some(of_labels))?;
        let encoded = self.encode_texts(texts);
        self.around(of_texts)?;
        encoded
    }

    /// Puts something else around texts; what was there before.
    fn around(
        &mut self,
        processor: Option<PostProcessorWrapper>,
    ) -> Result<Option<PostProcessorWrapper>, TokenizerError> {
        let before = self.backend.get_post_processor().cloned();
        self.backend.with_post_processor(processor);
        self.added = added_to(&self.backend);
        let frame = guarded(|| Frame::of(&self.backend));
        let frame = frame.map_err(|problem| TokenizerError::Failed { problem })?;
        let cuts = self.cuts.take();
        self.cuts = cuts.map(|(cuts, _)| cuts).zip(frame);
        self.truncate().map_err(|error| TokenizerError::Failed {
            problem: error.to_string(),
        })?;
        Ok(before)
    }

    /// Tokens of rendered conversations, which hold their special tokens already.
    pub fn encode_chats(&self, texts: Vec<&str>) -> Result<Vec<Encoded>, TokenizerError> {
        self.encode(texts, false)
    }

    /// Tokens of a rendered conversation, however many.
    pub fn whole_chat(&mut self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let failed = |error: ::tokenizers::Error| TokenizerError::Failed {
            problem: error.to_string(),
        };
        self.backend.with_truncation(None).map_err(failed)?;
        let encodings = self.encode_batch(vec![text], false, &mut Patience::of(text.len()));
        self.truncate().map_err(failed)?;
        let encodings = encodings?;
        Ok(encodings
            .first()
            .map_or_else(Vec::new, |encoding| self.ids(encoding)))
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
                self.allowance.ceiling(),
            )?);
        }
        self.chat
            .as_ref()
            .ok_or_else(|| TokenizerError::NoTemplate {
                folder: self.folder.path().to_path_buf(),
            })
    }

    /// The text of a token, for messages.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.numbers {
            Some(numbers) => numbers.text(id),
            None => self.backend.id_to_token(id),
        }
    }

    /// The tokens of a text.
    fn ids(&self, encoding: &Encoding) -> Vec<u32> {
        match &self.numbers {
            Some(numbers) => numbers.of(encoding),
            None => encoding.get_ids().to_vec(),
        }
    }

    /// Refuses texts of a pair that end with the token that would end them.
    fn refuse_ends(&self, texts: &[&str]) -> Result<(), TokenizerError> {
        let end = self.ends_once.and_then(|end| self.token(end));
        match end.filter(|end| {
            texts
                .iter()
                .any(|text| text.trim_end().ends_with(end.as_str()))
        }) {
            None => Ok(()),
            Some(end) => Err(TokenizerError::Failed {
                problem: format!(
                    "one text of a pair ends with `{end}`, which the tokenizer puts there"
                ),
            }),
        }
    }

    fn refuse_infilling(&self, texts: &[&str]) -> Result<(), TokenizerError> {
        if let Some(divider) = &self.divider
            && texts.iter().any(|text| text.contains(divider))
        {
            return Err(TokenizerError::Class {
                folder: self.folder.path().to_path_buf(),
                class: "`CodeLlamaTokenizer`".into(),
                problem: format!("a text has `{divider}`: infilling is not supported"),
            });
        }
        Ok(())
    }

    fn encode(&self, texts: Vec<&str>, special: bool) -> Result<Vec<Encoded>, TokenizerError> {
        self.refuse_infilling(&texts)?;
        let refuses = |numbers: &Numbers| texts.iter().find_map(|text| numbers.refuses(text));
        if let Some(problem) = self.numbers.as_ref().and_then(refuses) {
            return Err(TokenizerError::Failed { problem });
        }
        let mut encoded = vec![Encoded::default(); texts.len()];
        let (mut short, mut places, mut cost) = (Vec::new(), Vec::new(), 0);
        for (index, text) in texts.into_iter().enumerate() {
            if self.finds_places && u32::try_from(text.len()).is_err() {
                let problem = "a text has more than 4 GiB".into();
                return Err(TokenizerError::Failed { problem });
            }
            if text.len() > self.piece_bytes {
                encoded[index] = self.encode_long(text, special)?;
                continue;
            }
            cost += self.cost(text);
            if cost > WORKING_BYTES {
                self.encode_short(&mut short, &mut places, special, &mut encoded)?;
                cost = self.cost(text);
            }
            short.push(text);
            places.push(index);
        }
        self.encode_short(&mut short, &mut places, special, &mut encoded)?;
        Ok(encoded)
    }

    /// Encodes texts and puts their tokens where they belong.
    fn encode_short(
        &self,
        texts: &mut Vec<&str>,
        places: &mut Vec<usize>,
        special: bool,
        encoded: &mut [Encoded],
    ) -> Result<(), TokenizerError> {
        let bytes = texts.iter().map(|text| text.len()).sum();
        let encodings = self.encode_batch(texts.clone(), special, &mut Patience::of(bytes))?;
        for ((index, encoding), text) in places.drain(..).zip(encodings).zip(texts.drain(..)) {
            encoded[index] = self.finish(&encoding, text);
        }
        Ok(())
    }

    /// Memory that a text takes while it becomes tokens, bytes at most.
    fn cost(&self, text: &str) -> u64 {
        let mut places = 0;
        if self.finds_places {
            places += offsets::PLACE_COST;
        }
        if self.trims_characters {
            places += offsets::CHARACTER_COST;
        }
        self.apart * text_cost(text) + places * text.len() as u64
    }

    fn encode_batch(
        &self,
        texts: Vec<&str>,
        special: bool,
        patience: &mut Patience,
    ) -> Result<Vec<Encoding>, TokenizerError> {
        let failed = |problem| TokenizerError::Failed { problem };
        let encode = || {
            if self.finds_places && self.trims_characters {
                self.backend.encode_batch_char_offsets(texts, special)
            } else if self.finds_places || self.numbers.is_some() {
                self.backend.encode_batch(texts, special)
            } else {
                self.backend.encode_batch_fast(texts, special)
            }
        };
        let watched = patience.watch(encode).map_err(|TooLong| {
            let patterns = patterns::of(&self.backend);
            failed(format!(
                "{} of text take it more than {} seconds; {patterns}",
                human(patience.bytes()),
                patience.seconds()
            ))
        });
        watched?
            .map_err(failed)?
            .map_err(|error| failed(error.to_string()))
    }

    /// Tokens of a long text, in pieces where that makes no difference.
    fn encode_long(&self, text: &str, special: bool) -> Result<Encoded, TokenizerError> {
        let pieces = match &self.cuts {
            // Of a piece that loses its beginning nobody knows which token is its first.
            Some((cuts, _)) if !(self.finds_places && self.cuts_beginnings()) => {
                cuts.pieces(text, self.piece_bytes)
            }
            Some(_) | None => vec![text],
        };
        let (bytes, cost) = pieces
            .iter()
            .map(|piece| (piece.len(), self.cost(piece)))
            .max_by_key(|(_, cost)| *cost)
            .unwrap_or_default();
        self.allowance
            .check(cost)
            .map_err(|needed| TokenizerError::Budget {
                what: format!(
                    "the tokens of {} of text that cannot be cut",
                    human(bytes as u64)
                ),
                given: self.allowance.given(),
                needed,
            })?;
        let mut patience = Patience::of(text.len());
        let (Some((_, frame)), 2..) = (&self.cuts, pieces.len()) else {
            let encodings = self.encode_batch(vec![text], special, &mut patience)?;
            return Ok(encodings
                .first()
                .map(|encoding| self.finish(encoding, text))
                .unwrap_or_default());
        };
        let bare = Frame {
            before: Vec::new(),
            after: Vec::new(),
            kind: 0,
        };
        let frame = if special {
            &self.numbered(frame)
        } else {
            &bare
        };
        let limit = self.max_length.filter(|&length| length >= self.added);
        let room =
            limit.map(|length| length.saturating_sub(frame.before.len() + frame.after.len()));
        let mut ids = Vec::new();
        let mut cut = false;
        let mut places = Places::of(&self.backend);
        let mut end = 0;
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let mut cost = 0;
            let fitting = rest.iter().take_while(|piece| {
                cost += self.cost(piece);
                cost <= WORKING_BYTES
            });
            let (group, after) = rest.split_at(fitting.count().max(1));
            rest = after;
            let encodings = self.encode_batch(group.to_vec(), false, &mut patience)?;
            for (encoding, piece) in encodings.iter().zip(group) {
                ids.extend(self.ids(encoding));
                if self.finds_places {
                    let base = piece.as_ptr().addr() - text.as_ptr().addr();
                    // At the end of the piece before, in this one or in none.
                    let offsets = self.places(encoding, piece, base);
                    places.add(encoding, offsets, (base > 0).then_some(end));
                    end = base + piece.len();
                }
            }
            // What comes later would be cut off.
            if !self.truncates_left && room.is_some_and(|room| ids.len() >= room) {
                cut = !rest.is_empty();
                break;
            }
        }
        let mut offsets = places.offsets;
        if let Some(room) = room.filter(|&room| room < ids.len()) {
            cut = true;
            if self.truncates_left {
                ids.drain(..ids.len() - room);
            }
            ids.truncate(room);
            offsets.truncate(room);
        }
        let mut framed = frame.around(ids);
        framed.types = framed.types.filter(|_| self.types);
        let mut encoded = Encoded { cut, ..framed };
        if self.finds_places {
            offsets.splice(..0, frame.before.iter().map(|_| [0; 2]));
            offsets.extend(frame.after.iter().map(|_| [0; 2]));
            let bytes = text.len() as u32;
            encoded.text = Some(TextSpans { bytes, offsets });
        }
        Ok(self.short(encoded))
    }

    /// Its special tokens by their numbers.
    fn numbered(&self, frame: &Frame) -> Frame {
        let Some(numbers) = &self.numbers else {
            return frame.clone();
        };
        let number = |(id, kind): &(u32, u32)| {
            if *id >= OUTSIDE {
                return (*id - OUTSIDE, *kind);
            }
            let text = self.backend.id_to_token(*id).unwrap_or_default();
            (numbers.number(&text), *kind)
        };
        Frame {
            before: frame.before.iter().map(number).collect(),
            after: frame.after.iter().map(number).collect(),
            kind: frame.kind,
        }
    }

    fn finish(&self, encoding: &Encoding, text: &str) -> Encoded {
        let types = encoding.get_type_ids();
        let types = (self.types && types.iter().any(|&kind| kind != 0)).then(|| types.to_vec());
        self.short(Encoded {
            ids: self.ids(encoding),
            types,
            cut: !encoding.get_overflowing().is_empty(),
            text: self.finds_places.then(|| {
                let offsets = self.places(encoding, text, 0);
                let bytes = text.len() as u32;
                TextSpans { bytes, offsets }
            }),
        })
    }

    /// Places in bytes of the tokens of a text, which begins at byte `base` of another.
    fn places(&self, encoding: &Encoding, text: &str, base: usize) -> Vec<[u32; 2]> {
        let found = encoding.get_offsets();
        if self.trims_characters {
            offsets::of_characters(found, text, base)
        } else {
            offsets::of_bytes(found, base)
        }
    }

    /// Cut to a limit below the number of special tokens, which the library does not know, or where there are
    /// none.
    fn short(&self, mut encoded: Encoded) -> Encoded {
        let own = |&limit: &usize| limit < self.added || self.added == 0;
        if let Some(limit) = self.max_length.filter(own)
            && let Some(more) = encoded
                .ids
                .len()
                .checked_sub(limit)
                .filter(|&more| more > 0)
        {
            let left = self.truncates_left && self.added == 0;
            let kept = if left { more.. } else { 0.. };
            if let Some(spans) = &mut encoded.text {
                spans.offsets = spans.offsets[kept.clone()][..limit].to_vec();
            }
            let keep = |values: &[u32]| values[kept.clone()][..limit].to_vec();
            encoded.cut = true;
            encoded.types = encoded.types.map(|types| keep(&types));
            encoded.ids = keep(&encoded.ids);
            encoded.types = encoded
                .types
                .filter(|types| types.iter().any(|&kind| kind != 0));
        }
        // A text that fills the limit may have more.
        let full = self
            .max_length
            .is_some_and(|limit| encoded.ids.len() >= limit);
        if let Some(spans) = encoded.text.as_mut().filter(|_| full) {
            let from_left = self.truncates_left;
            spans.bytes = bytes_left(spans.bytes, &spans.offsets, from_left);
        }
        encoded
    }
}

impl Frame {
    /// What the post-processor puts around any text; `None` if it does anything else with it.
    fn of(backend: &Backend) -> Option<Self> {
        // A token that cannot be taken for a special one.
        let marker = Token::new(u32::MAX, String::new(), (0, 0));
        let one = |special| {
            let text = Encoding::from_tokens(vec![marker.clone()], 0);
            let framed = backend.post_process(text, None, special).ok()?;
            let (ids, types) = (framed.get_ids(), framed.get_type_ids());
            Some(
                ids.iter()
                    .copied()
                    .zip(types.iter().copied())
                    .collect::<Vec<_>>(),
            )
        };
        if one(false)? != [(u32::MAX, 0)] {
            return None;
        }
        let framed = one(true)?;
        let mut places = (0..framed.len()).filter(|&at| framed[at].0 == u32::MAX);
        let (at, None) = (places.next()?, places.next()) else {
            return None;
        };
        Some(Self {
            before: framed[..at].to_vec(),
            after: framed[at + 1..].to_vec(),
            kind: framed[at].1,
        })
    }

    /// A text's own tokens with the others around them.
    fn around(&self, ids: Vec<u32>) -> Encoded {
        let (own, kind) = (ids.len(), self.kind);
        let mut all = ids;
        all.splice(..0, self.before.iter().map(|(id, _)| *id));
        all.extend(self.after.iter().map(|(id, _)| *id));
        let before = self.before.iter().map(|(_, kind)| *kind);
        let after = self.after.iter().map(|(_, kind)| *kind);
        let mut types = before.chain(std::iter::repeat_n(kind, own)).chain(after);
        let types = types
            .clone()
            .any(|kind| kind != 0)
            .then(|| types.by_ref().collect());
        Encoded {
            ids: all,
            types,
            cut: false,
            text: None,
        }
    }
}

#[cfg(test)]
mod tests;
