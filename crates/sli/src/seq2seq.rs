//! Records of an encoder and a decoder: what the decoder gets of each, and what of it is scored.
//!
//! `decoder_text`, `labels` or the `completion` of a `prompt` become labels, and the decoder gets them shifted right, as
//! the reference's models do with `labels`; every label is scored, and those that are not -100 are the completion, whose
//! mean is the reference's loss. `decoder_input_ids` are the decoder's input as they are; each but the first is scored as
//! what follows the ones before, or what `labels` beside them say. A record with neither has its own tokens as labels where the reference's class does so
//! (BART), else the decoder gets nothing of it (T5).

use sli_engine::records::Record;
use sli_engine::{Annotation, Demands};
use sli_spec::{DecoderInput, ModelSpec, ShiftStart};

use crate::completion::{HIDDEN, labelled};
use crate::input::{Content, DecoderContent, InputError, Labels, Place, Prompted, RawRecord};
use crate::tokenizer::Encoded;

/// Why no decoder input follows from labels, and what to do.
const NO_SHIFT: &str = "the configuration has no `decoder_start_token_id` and `pad_token_id`, so that no decoder input \
                        follows from what it is to say";
const HIDING: &str =
    "labels that do not count, or are padding, stand before others: the decoder would not see them";
const NO_LAST: &str =
    "none of its labels counts, and the last one that does is what the decoder reads first";
const NO_PADDING: &str =
    "remove such labels from the end, or give what the decoder reads as `decoder_input_ids`";
const GIVE_IDS: &str = "give what the decoder reads as `decoder_input_ids`";

/// What a model's decoder demands.
#[derive(Clone, Copy, Debug)]
pub struct DecoderRules {
    /// What it gets of a record.
    pub input: DecoderInput,
    /// What its tokens must be.
    pub demands: Demands,
    /// Some result is the decoder's.
    pub is_shown: bool,
}

impl DecoderRules {
    /// Those of a model that has a decoder behind an encoder.
    pub fn of(spec: &ModelSpec) -> Option<Self> {
        let input = spec.decoder_input()?;
        let demands = Demands::of_stack(spec.output_stack());
        Some(Self {
            input,
            demands,
            is_shown: true,
        })
    }
}

/// The decoder's part of a record.
pub struct DecoderPart {
    /// What it is scored for, or gets.
    pub record: Record,
    /// Where its labels are in their text.
    pub annotation: Annotation,
    /// The record says nothing of it, and the class gives it nothing.
    pub is_missing: bool,
}

/// Refuses what would be read otherwise by a decoder alone than by one behind an encoder, or the other way round.
pub fn check(rules: Option<DecoderRules>, record: &RawRecord) -> Result<(), InputError> {
    let refused = |problem: String, hint: &str| {
        Err(InputError::record(&record.place, problem).with_hint(hint))
    };
    let id = &record.id;
    match (rules, &record.decoder) {
        (None, Some(decoder)) => refused(
            format!("record `{id}`: the model takes no `{}`", decoder.key()),
            "it has no decoder behind an encoder: remove the key",
        ),
        (Some(_), _) if matches!(record.content, Content::Prompted(_)) => refused(
            format!(
                "record `{id}` has messages as `prompt` and `completion`, or more for the decoder beside them"
            ),
            "an encoder reads a `prompt` that is a text, and its decoder is to say the `completion`",
        ),
        (Some(_), Some(DecoderContent::Text(_))) if record.labels.labels.is_some() => refused(
            format!("record `{id}` has both `labels` and a text that the decoder is to say"),
            "keep the one that is to be scored",
        ),
        (Some(_), _) if !record.labels.masks.is_empty() => refused(
            format!(
                "record `{id}`: `{}` is of the encoder's tokens, which are not scored",
                record.labels.masks[0].0
            ),
            "give what is to be scored as `labels`, with -100 where a token does not count",
        ),
        _ => Ok(()),
    }
}

/// Gives a prompt to the encoder and its completion to the decoder, where both are texts.
pub fn divide(record: &mut RawRecord) {
    let Content::Prompted(Prompted::Text { prompt, completion }) = &mut record.content else {
        return;
    };
    if record.decoder.is_none() {
        record.decoder = Some(DecoderContent::Text(std::mem::take(completion)));
        record.content = Content::Text(std::mem::take(prompt));
    }
}

/// The labels of a record; `None` where a token does not count.
fn labels(record: &RawRecord) -> Result<Option<Vec<Option<u32>>>, InputError> {
    let wrong = |problem: String| {
        let problem = format!("record `{}`: {problem}", record.id);
        Err(InputError::record(&record.place, problem).with_hint(
            "behind an encoder labels are the tokens that the decoder is to say, or -100 where one does not count; \
             rename the key if it is something else",
        ))
    };
    match &record.labels.labels {
        None => Ok(None),
        Some(Labels::Other { at, found, .. }) => wrong(format!(
            "`labels` holds {found} at position {at}, not an integer"
        )),
        Some(Labels::Integers(all)) => {
            let mut labels = Vec::with_capacity(all.len());
            for (at, &label) in all.iter().enumerate() {
                match (label, u32::try_from(label)) {
                    (HIDDEN, _) => labels.push(None),
                    (_, Ok(token)) => labels.push(Some(token)),
                    (_, Err(_)) => return wrong(format!("`labels` is {label} at position {at}")),
                }
            }
            Ok(Some(labels))
        }
    }
}

/// What a record says of the decoder.
pub struct Said {
    content: Option<DecoderContent>,
    labels: Option<Vec<Option<u32>>>,
    place: Place,
}

impl Said {
    /// Takes it out of a record.
    pub fn take(record: &mut RawRecord) -> Result<Self, InputError> {
        Ok(Self {
            labels: labels(record)?,
            content: record.decoder.take(),
            place: record.place.clone(),
        })
    }
}

/// The first label in whose place the decoder would read a token that the reference hides from it.
fn hidden(rules: DecoderRules, labels: &[Option<u32>]) -> Option<String> {
    let padding = rules.demands.refused_token?;
    let read = labels.iter().take(labels.len().saturating_sub(1));
    let in_place = rules.input.shift.map(|shift| shift.padding);
    let is_hidden = |label: &Option<u32>| label.or(in_place) == Some(padding);
    let at = read.clone().position(is_hidden)?;
    let label = labels[at].map_or("-100".to_owned(), |label| label.to_string());
    Some(format!(
        "label {at} is {label}: the decoder would read padding (token {padding}) in its place, which the reference hides"
    ))
}

/// Leaves out the token that shifting puts in front where the tokenizer has put it there already, as Whisper's does.
fn without_start(input: DecoderInput, encoded: &mut Encoded) {
    let start = input.shift.map(|shift| shift.start);
    if start.is_none() || start != encoded.ids.first().map(|&id| ShiftStart::Token(id)) {
        return;
    }
    encoded.ids.remove(0);
    if let Some(text) = &mut encoded.text
        && !text.offsets.is_empty()
    {
        text.offsets.remove(0);
    }
}

/// The decoder's part of a record whose own tokens are `own`, with `own_annotation`; `text`: its labels, where it has a
/// text for them.
pub fn prepare(
    rules: DecoderRules,
    own: (&Record, &Annotation),
    said: Said,
    text: Option<Encoded>,
    max_length: Option<usize>,
) -> Result<DecoderPart, InputError> {
    let (record, own_annotation) = own;
    let most = max_length.unwrap_or(usize::MAX);
    let Said {
        content,
        labels,
        place,
    } = said;
    let mut annotation = Annotation::default();
    let all_count = |ids: &[u32]| ids.iter().copied().map(Some).collect();
    let is_told = labels.is_some();
    let (mut labels, given, is_missing): (Option<Vec<Option<u32>>>, _, _) =
        match (content, labels, text) {
            (Some(DecoderContent::Ids(ids)), labels, _) => (labels, Some(ids), false),
            (Some(DecoderContent::Text(_)), _, Some(mut encoded)) => {
                without_start(rules.input, &mut encoded);
                annotation.text = encoded.text;
                (Some(all_count(&encoded.ids)), None, false)
            }
            (Some(DecoderContent::Text(_)), _, None) => (Some(Vec::new()), None, false),
            (None, Some(labels), _) => (Some(labels), None, false),
            (None, None, _) if rules.input.repeats => {
                annotation.text.clone_from(&own_annotation.text);
                (Some(all_count(&record.tokens)), None, false)
            }
            (None, None, _) => (None, None, true),
        };
    let refused = |problem: String, hint: &str| {
        let problem = format!("record `{}`: {problem}", record.id);
        InputError::record(&place, problem).with_hint(hint)
    };
    if let (Some(labels), Some(ids)) = (&labels, &given)
        && labels.len() != ids.len()
    {
        let problem = format!(
            "{} `labels` for {} `decoder_input_ids`",
            labels.len(),
            ids.len()
        );
        return Err(refused(
            problem,
            "a label is what the decoder is to say behind a token",
        ));
    }
    if let Some(labels) = &mut labels {
        labels.truncate(most);
    }
    if let Some(text) = &mut annotation.text {
        text.offsets.truncate(labels.as_ref().map_or(0, Vec::len));
    }
    let tokens = match (given, &labels) {
        (Some(mut ids), _) => {
            ids.truncate(most);
            ids
        }
        (None, Some(labels)) => {
            let shifted = rules.input.of_labels(labels.iter().copied());
            let problem = rules.input.shift.map_or(NO_SHIFT, |_| NO_LAST);
            let shifted = shifted.ok_or_else(|| refused(problem.to_owned(), GIVE_IDS))?;
            if rules.input.hides(&shifted) {
                return Err(refused(HIDING.to_owned(), GIVE_IDS));
            }
            if let Some(problem) = hidden(rules, labels) {
                return Err(refused(problem, NO_PADDING));
            }
            shifted
        }
        (None, None) => Vec::new(),
    };
    if let Some(labels) = labels.as_ref().filter(|_| is_told) {
        annotation.completion = Some(labelled(labels.iter().map(Option::is_some).collect()));
    }
    let padding = rules.input.shift.map_or(0, |shift| shift.padding);
    let labels = labels.map(|labels| {
        labels
            .into_iter()
            .map(|one| one.unwrap_or(padding))
            .collect()
    });
    let record = Record {
        asked: Vec::new(),
        id: record.id.clone(),
        row: record.row,
        tokens,
        token_types: None,
        inputs: None,
        labels,
        features: None,
    };
    Ok(DecoderPart {
        record,
        annotation,
        is_missing,
    })
}
