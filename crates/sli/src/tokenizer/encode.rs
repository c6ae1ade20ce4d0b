//! Texts to tokens, in batches and, where they are long, in pieces.

use ::tokenizers::{Encoding, PostProcessorWrapper};
use sli_engine::TextSpans;
use sli_engine::bytes::human;

use super::encoded::Encoded;
use super::frame::{Frame, added_to};
use super::numbers::Numbers;
use super::offsets::{self, Places, bytes_left};
use super::patience::{Patience, TooLong};
use super::pieces::text_cost;
use super::{Tokenizer, TokenizerError, patterns};
use crate::guard::guarded;
use crate::memory::WORKING_BYTES;

impl Tokenizer {
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
        let numbers = self.numbers.as_ref();
        if numbers.is_some_and(|numbers| numbers.lacks_target) {
            return Err(TokenizerError::Text {
                problem:
                    "the tokenizer is not told the language of what is to be said (`tgt_lang`)"
                        .into(),
                hint: "--tokenizer-arg tgt_lang=de, for instance",
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

    /// The tokens of a text.
    pub(super) fn ids(&self, encoding: &Encoding) -> Vec<u32> {
        match &self.numbers {
            Some(numbers) => numbers.of(encoding),
            None => encoding.get_ids().to_vec(),
        }
    }

    /// Refuses texts of a pair that end with the token that would end them.
    pub(super) fn refuse_ends(&self, texts: &[&str]) -> Result<(), TokenizerError> {
        let end = self.ends_once.and_then(|end| self.token(end));
        match end.filter(|end| {
            texts
                .iter()
                .any(|text| text.trim_end().ends_with(end.as_str()))
        }) {
            None => Ok(()),
            Some(end) => Err(TokenizerError::Text {
                problem: format!(
                    "one text of a pair ends with `{end}`, which the tokenizer puts there"
                ),
                hint: "leave it out, or give the pair as `input_ids`",
            }),
        }
    }

    pub(super) fn refuse_infilling(&self, texts: &[&str]) -> Result<(), TokenizerError> {
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

    pub(super) fn encode(
        &self,
        texts: Vec<&str>,
        special: bool,
    ) -> Result<Vec<Encoded>, TokenizerError> {
        self.refuse_infilling(&texts)?;
        let refuses = |numbers: &Numbers| texts.iter().find_map(|text| numbers.refuses(text));
        if let Some(problem) = self.numbers.as_ref().and_then(refuses) {
            let hint = "give it as `input_ids`, which need no tokenizer";
            return Err(TokenizerError::Text { problem, hint });
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
    pub(super) fn cost(&self, text: &str) -> u64 {
        let mut places = 0;
        if self.finds_places {
            places += offsets::PLACE_COST;
        }
        if self.trims_characters {
            places += offsets::CHARACTER_COST;
        }
        self.apart * text_cost(text) + places * text.len() as u64
    }

    pub(super) fn encode_batch(
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
            let text = self.backend.id_to_token(*id).unwrap_or_default();
            (numbers.number(*id, &text), *kind)
        };
        Frame {
            before: frame.before.iter().map(number).collect(),
            after: frame.after.iter().map(number).collect(),
            kind: frame.kind,
        }
    }

    pub(super) fn finish(&self, encoding: &Encoding, text: &str) -> Encoded {
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
    pub(super) fn short(&self, mut encoded: Encoded) -> Encoded {
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
