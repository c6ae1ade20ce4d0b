//! How much there is to compute and to write.

use serde::Serialize;
use sli_spec::{Mechanism, Shard, Step};

use super::division::Division;
use crate::model::Model;
use crate::pooling::embedding_width;
use crate::records::RecordSpool;
use crate::settings::{HiddenDtype, Settings};
use crate::take::Take;

/// Floating-point operations of a run: two for every multiply-add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Products with weights.
    pub linear: f64,
    /// Attention's two products.
    pub attention: f64,
}

impl Work {
    /// Of running every record once, at most `most` rows together, and the rows in all.
    pub(crate) fn of(
        model: &Model,
        records: &RecordSpool,
        division: Division<'_>,
        most: usize,
    ) -> (Self, u64) {
        let (mut tokens, mut pairs) = (0.0, 0.0);
        for range in division.ranges(0..records.len(), most) {
            for record in range.clone() {
                let shared = division.shared(record, record == range.start) as f64;
                let length = division.length(record) as f64;
                tokens += length - shared;
                pairs += (length * length - shared * shared) / 2.0;
            }
        }
        let mut work = Self::default();
        for stack in &model.spec.stacks {
            for layer in &stack.layers {
                for operations in layer.mechanisms().map(Mechanism::operations) {
                    work.attention += pairs * operations.of_pair;
                    work.linear += tokens * operations.of_row;
                }
                for leaf in &layer.leaves {
                    if let ([rows, columns], true) = (&leaf.shape[..], leaf.shard != Shard::Expert)
                    {
                        work.linear += tokens * (2 * rows * columns) as f64;
                    }
                }
            }
            if let Some(logits) = &stack.head.logits {
                let projection = &logits.projection;
                work.linear +=
                    tokens * (2 * projection.out_features * projection.in_features) as f64;
            }
        }
        (work, tokens as u64)
    }
}

/// The experts of a step and how many of them a row chooses, where it has any.
pub(super) fn choice(step: &Step) -> Option<(usize, usize)> {
    let routings = step.mechanisms().filter_map(Mechanism::routing);
    let of = routings.map(|routing| (routing.experts, routing.router.top_k));
    of.max_by_key(|(_, chosen)| *chosen)
}

/// Whether any result needs the logits.
pub(crate) fn needs_logits(takes: &[Take]) -> bool {
    takes
        .iter()
        .any(|take| matches!(take, Take::Logits | Take::Scores | Take::TopK(_)))
}

/// Bytes of the results, before compression.
pub(crate) fn bytes_written(model: &Model, records: &RecordSpool, settings: &Settings) -> u64 {
    let tokens = records.total_tokens();
    let element = match settings.hidden_dtype {
        HiddenDtype::F32 => 4,
        HiddenDtype::Bf16 | HiddenDtype::F16 => 2,
    };
    let stack = model.spec.output_stack();
    settings
        .takes
        .iter()
        .map(|take| match take {
            Take::Hidden(selection) => {
                let boundaries = crate::observe::boundaries(&model.spec, selection)
                    .map_or(0, |boundaries| boundaries.len() as u64);
                let columns = stack.hidden_size * stack.streams();
                boundaries * tokens * columns as u64 * element
            }
            Take::Logits => tokens * model.spec.vocab_size as u64 * 4,
            Take::Scores => tokens * 8,
            Take::TopK(k) => tokens * (*k as u64 * 8 + 8),
            Take::Embedding(asked) => {
                // What cannot be followed was refused before.
                let width = embedding_width(model, *asked).unwrap_or(stack.hidden_size);
                records.len() as u64 * width as u64 * 4
            }
            Take::Router => tokens * stack.layers.len() as u64 * 16,
            Take::Profile => 0,
        })
        .sum()
}
