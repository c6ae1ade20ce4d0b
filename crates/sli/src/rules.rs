//! What the model and the command line demand of a record.

use sli_engine::records::Record;
use sli_engine::{Annotation, Demands};
use sli_spec::{Features, LengthLimit, ModelSpec, PositionIds};

use crate::input::{Content, GLOBAL, InputError, Place, RawRecord};
use crate::pictures::PictureRules;
use crate::seq2seq::DecoderRules;
use crate::tokenise::Tokenised;
use crate::tokenizer::Tokenizer;

/// What the model and the command line demand of a record.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// What the model demands.
    pub demands: Demands,
    /// What the decoder behind an encoder demands, where there is one.
    pub decoder: Option<DecoderRules>,
    /// What a record brings along in place of tokens, where the model reads such.
    pub features: Option<&'a Features>,
    /// What it demands of a record's pictures, where the model sees such.
    pub pictures: Option<PictureRules<'a>>,
    /// Longer records are cut to this many tokens.
    pub max_length: Option<usize>,
    /// Records may be longer than the model was trained for.
    pub allow_long: bool,
    /// Tokens are scored: where they are in their text is kept.
    pub scores: bool,
    /// The completion of a conversation is what the assistant says.
    pub assistant: bool,
}

impl<'a> Rules<'a> {
    /// The rules of a model.
    pub fn new(spec: &'a ModelSpec, max_length: Option<usize>, allow_long: bool) -> Self {
        Self {
            demands: Demands::of(spec),
            decoder: DecoderRules::of(spec),
            features: spec.input_stack().input.features(),
            pictures: PictureRules::of(spec),
            max_length,
            allow_long,
            scores: false,
            assistant: false,
        }
    }
}

impl Rules<'_> {
    /// A record and what is known of it, of its tokens.
    pub fn prepare(
        &self,
        record: RawRecord,
        tokenised: Tokenised,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<(Record, Annotation), InputError> {
        let RawRecord {
            id,
            row,
            place,
            content,
            token_types,
            inputs,
            ..
        } = record;
        let Tokenised {
            encoded,
            mut completion,
            ..
        } = tokenised;
        let mut tokens = encoded.ids;
        let mut text = encoded.text;
        if let Some(index) = self.demands.unknown_token(&tokens) {
            let token = tokens[index];
            let name = match content {
                Content::Ids(_) | Content::None => None,
                Content::Text(_)
                | Content::Pair(..)
                | Content::Messages(_)
                | Content::Prompted(_) => tokenizer.and_then(|known| known.token(token)),
            };
            let name = name.map(|name| format!(" (`{name}`)")).unwrap_or_default();
            let problem = format!(
                "record `{id}`: token id {token}{name} at position {index} is beyond the vocabulary of {}",
                self.demands.vocab_size
            );
            return Err(InputError::record(&place, problem)
                .with_hint("the tokenizer must be the model's own"));
        }
        check_tokens(&format!("record `{id}`"), &place, &tokens, &self.demands)?;
        let given = token_types.is_some();
        let has_types = self.demands.token_types > 0;
        let mut types = token_types.or(if has_types { encoded.types } else { None });
        if let Some(types) = &types {
            self.check_types(&id, &place, types, tokens.len(), given)?;
        }
        // Where a record that says nothing sees all of itself, a completion must not.
        if let (PositionIds::OfKinds(0), false, Some(completion)) =
            (self.demands.positions, given, &completion)
            && let Some(first) = completion.tokens.iter().position(|&counts| counts)
        {
            let kinds = (0..tokens.len()).map(|position| u32::from(position >= first));
            types = Some(kinds.collect());
        }
        if inputs.marks_global() && !self.demands.reads(GLOBAL) {
            let problem = format!("record `{id}`: `{GLOBAL}`, but the model has no global tokens");
            return Err(InputError::record(&place, problem).with_hint("remove the key"));
        }
        let mut inputs = inputs.numbers(&self.demands.inputs, tokens.len(), &place)?;
        if let Some(problem) = self.demands.wrong_inputs(tokens.len(), inputs.as_deref()) {
            let problem = format!("record `{id}`: {problem}");
            return Err(InputError::record(&place, problem)
                .with_hint("the model's own processor makes what stands beside the tokens"));
        }
        let is_shown = self.pictures.is_some_and(|rules| !rules.beside);
        let whole = self.features.is_some() || is_shown;
        if let Some(limit) = self.max_length.filter(|_| !whole) {
            if let Some(inputs) = inputs.as_mut().filter(|_| limit < tokens.len()) {
                inputs.truncate(inputs.len() / tokens.len() * limit);
            }
            if let Some(text) = text.as_mut().filter(|text| limit < text.offsets.len()) {
                text.offsets.truncate(limit);
            }
            if let Some(completion) = &mut completion {
                completion.tokens.truncate(limit);
            }
            tokens.truncate(limit);
            if let Some(types) = &mut types {
                types.truncate(limit);
            }
        }
        let what = format!("record `{id}`");
        self.check_length(&what, &place, tokens.len(), &self.demands)?;
        if let Some(problem) = self
            .demands
            .rows
            .and_then(|rule| rule.refused(tokens.len()))
        {
            let problem = format!("record `{id}`: {problem}");
            return Err(InputError::record(&place, problem).with_hint("leave the record out"));
        }
        let positions = self.demands.positions;
        if let Err(problem) = positions.blocks(&tokens, types.as_deref()) {
            let problem = format!("record `{id}`: {problem}");
            let hint = match positions {
                PositionIds::OfKinds(0) => "give the first tokens type 0, and the others type 1",
                PositionIds::OfKinds(_) => "give the first tokens type 1, and the others type 0",
                _ => "the tokens that divide a record come with the model's own tokenizer",
            };
            return Err(InputError::record(&place, problem).with_hint(hint));
        }
        let token_types = types.filter(|types| types.iter().any(|&kind| kind != 0));
        let record = Record {
            asked: Vec::new(),
            id,
            row,
            tokens,
            token_types,
            labels: None,
            inputs,
            features: None,
        };
        let annotation = Annotation { text, completion };
        Ok((record, annotation))
    }

    fn check_types(
        &self,
        id: &str,
        place: &Place,
        types: &[u32],
        tokens: usize,
        given: bool,
    ) -> Result<(), InputError> {
        let wrong = |problem: String| {
            Err(InputError::record(
                place,
                format!("record `{id}`: {problem}"),
            ))
        };
        if types.len() != tokens && given {
            return wrong(format!(
                "{} `token_type_ids` for {tokens} tokens",
                types.len()
            ));
        }
        self.demands.wrong_type(types).map_or(Ok(()), wrong)
    }

    /// What the model demands of the decoder's part of a record.
    pub fn check_decoder(
        &self,
        rules: DecoderRules,
        record: &Record,
        place: &Place,
    ) -> Result<(), InputError> {
        let id = &record.id;
        let labels = record.labels.as_deref().unwrap_or_default();
        for tokens in [&record.tokens[..], labels] {
            if let Some(index) = rules.demands.unknown_token(tokens) {
                let problem = format!(
                    "record `{id}`: token id {} for the decoder is beyond the vocabulary of {}",
                    tokens[index], rules.demands.vocab_size
                );
                return Err(InputError::record(place, problem)
                    .with_hint("the tokenizer must be the model's own"));
            }
        }
        let what = format!("the decoder's part of record `{id}`");
        check_tokens(&what, place, &record.tokens, &rules.demands)?;
        self.check_length(&what, place, record.tokens.len(), &rules.demands)
    }

    fn check_length(
        &self,
        of: &str,
        place: &Place,
        tokens: usize,
        demands: &Demands,
    ) -> Result<(), InputError> {
        let Some((limit, what)) = demands.exceeded(tokens, self.allow_long) else {
            return Ok(());
        };
        let problem = format!("{of} has {tokens} tokens, {what} {limit}");
        let mut hint = format!("--max-length {limit} cuts such records");
        if matches!(demands.limit, LengthLimit::Trained(_)) {
            hint += ", --allow-long runs them as they are";
        }
        Err(InputError::record(place, problem).with_hint(hint))
    }
}

/// Refuses tokens that would be hidden.
fn check_tokens(
    of: &str,
    place: &Place,
    tokens: &[u32],
    demands: &Demands,
) -> Result<(), InputError> {
    demands.refused(tokens).map_or(Ok(()), |problem| {
        let error = InputError::record(place, format!("{of}: {problem}"));
        Err(error.with_hint("leave padding out: records have their own lengths"))
    })
}
