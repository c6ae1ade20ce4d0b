//! Records of an encoder and a decoder: what the decoder gets of each, and what of it is scored.
//!
//! `decoder_text` becomes labels, and the decoder gets them shifted right, as the reference's models do with `labels`;
//! every label is scored. `decoder_input_ids` are the decoder's input as they are; each but the first is scored as what
//! follows the ones before. A record with neither has its own tokens as labels where the reference's class does so
//! (BART), else the decoder gets nothing of it (T5).

use sli_engine::records::Record;
use sli_engine::{Annotation, Demands};
use sli_spec::{DecoderInput, ModelSpec};

use crate::input::{Content, DecoderContent, InputError, Place, RawRecord};
use crate::tokenizer::Encoded;

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
                "record `{id}` has `prompt` and `completion`, which are one text to a decoder alone"
            ),
            "name them `text`, which the encoder reads, and `decoder_text`, which is scored",
        ),
        (Some(_), _) if !record.labels.is_empty() => refused(
            format!("record `{id}`: `labels` beside what the encoder reads are not used"),
            "give the text as `decoder_text`, or what the decoder reads as `decoder_input_ids`; rename the key if it is \
             something else",
        ),
        _ => Ok(()),
    }
}

/// The decoder's part of a record whose own tokens are `own`, with `own_annotation`; `text`: its labels, where it has a
/// text for them.
pub fn prepare(
    rules: DecoderRules,
    own: (&Record, &Annotation),
    content: Option<DecoderContent>,
    text: Option<Encoded>,
    place: &Place,
    max_length: Option<usize>,
) -> Result<DecoderPart, InputError> {
    let (record, own_annotation) = own;
    let cut = |list: &mut Vec<u32>| list.truncate(max_length.unwrap_or(usize::MAX));
    let mut annotation = Annotation::default();
    let (labels, mut tokens, is_missing) = match (content, text) {
        (Some(DecoderContent::Ids(ids)), _) => (None, ids, false),
        (Some(DecoderContent::Text(_)), Some(mut encoded)) => {
            cut(&mut encoded.ids);
            annotation.text = encoded.text;
            (Some(encoded.ids), Vec::new(), false)
        }
        (Some(DecoderContent::Text(_)), None) => (Some(Vec::new()), Vec::new(), false),
        (None, _) if rules.input.repeats => {
            annotation.text.clone_from(&own_annotation.text);
            (Some(record.tokens.clone()), Vec::new(), false)
        }
        (None, _) => (None, Vec::new(), true),
    };
    cut(&mut tokens);
    if let Some(text) = &mut annotation.text {
        text.offsets.truncate(labels.as_ref().map_or(0, Vec::len));
    }
    if let Some(labels) = &labels {
        tokens = rules.input.of_labels(labels.iter().copied().map(Some)).ok_or_else(|| {
            let id = &record.id;
            let problem = format!(
                "record `{id}`: the configuration has no `decoder_start_token_id` and `pad_token_id`, so that no decoder \
                 input follows from what it is to say"
            );
            InputError::record(place, problem)
                .with_hint("give what the decoder reads as `decoder_input_ids`")
        })?;
    }
    let record = Record {
        id: record.id.clone(),
        row: record.row,
        tokens,
        token_types: None,
        labels,
    };
    Ok(DecoderPart {
        record,
        annotation,
        is_missing,
    })
}
