//! How much there is to compute and to write.

use sli_spec::{Layer, Mechanism, ModelSpec, Shard, StackEnd, Step, WeightIndex};

use super::division::Division;
use crate::boundaries::boundaries;
use crate::classes::classes_of_token;
use crate::drift;
use crate::hessian;
use crate::lens::{TOGETHER, groups, layers};
use crate::model::Model;
use crate::pooling::embedding_width;
use crate::records::RecordSpool;
use crate::settings::{HiddenDtype, Settings};
use crate::take::Take;
use crate::work::Work;

impl Work {
    /// Of running every record once, at most `most` rows together, and the rows in every stack.
    pub(crate) fn of(
        model: &Model,
        records: &RecordSpool,
        division: Division<'_>,
        most: usize,
    ) -> (Self, Vec<u64>) {
        let stacks = model.spec.stacks.len();
        let mut rows = vec![0.0; stacks];
        // Pairs of rows of each stack and of each that it sees.
        let mut pairs = vec![vec![0.0; stacks]; stacks];
        for range in division.ranges(0..records.len(), most) {
            for record in range.clone() {
                let length = |stack| division.length_in(stack, record) as f64;
                for stack in 0..stacks {
                    let own = length(stack);
                    let added = division.added(stack, record, range.start) as f64;
                    let shared = own - added;
                    rows[stack] += added;
                    for (other, pairs) in pairs[stack].iter_mut().enumerate() {
                        *pairs += if other == stack {
                            (own * own - shared * shared) / 2.0
                        } else {
                            own * length(other)
                        };
                    }
                }
            }
        }
        let mut work = Self::default();
        for (index, stack) in model.spec.stacks.iter().enumerate() {
            let tokens = rows[index];
            for layer in &stack.layers {
                for mechanism in layer.mechanisms() {
                    let operations = mechanism.operations();
                    let end = mechanism.stack_end();
                    let mut seen = end.map_or(pairs[index][index], |end| pairs[index][end.stack]);
                    if end.is_some_and(|end| end.beside_own) {
                        seen += pairs[index][index];
                    }
                    work.attention += seen * operations.of_pair;
                    work.attention_weights += seen * operations.weights_of_pair;
                    work.linear += tokens * operations.of_row;
                }
                for (weight, leaf) in (0..).map(WeightIndex).zip(&layer.leaves) {
                    if let ([height, width], true) = (&leaf.shape[..], leaf.shard != Shard::Expert)
                    {
                        let tokens = rows[multiplied(layer, index, weight)];
                        work.linear += tokens * (2 * height * width) as f64;
                    }
                }
            }
            if let Some(logits) = &stack.head.logits {
                let projection = &logits.projection;
                work.linear +=
                    tokens * (2 * projection.out_features * projection.in_features) as f64;
            }
        }
        (work, rows.into_iter().map(|rows| rows as u64).collect())
    }
}

/// The stack whose rows a weight of a layer of `stack` is multiplied with.
pub(super) fn multiplied(layer: &Layer, stack: usize, weight: WeightIndex) -> usize {
    let mut ends = layer.mechanisms().filter_map(Mechanism::stack_end);
    let of = |end: &StackEnd<'_>| {
        !end.beside_own && end.projections.iter().any(|linear| linear.weight == weight)
    };
    ends.find(of).map_or(stack, |end| end.stack)
}

/// The experts of a step and how many of them a row chooses, where it has any.
pub(super) fn choice(step: &Step) -> Option<(usize, usize)> {
    let routings = step.mechanisms().filter_map(Mechanism::routing);
    let of = routings.map(|routing| (routing.experts, routing.router.top_k));
    of.max_by_key(|(_, chosen)| *chosen)
}

/// Whether any result needs the head.
pub(crate) fn needs_logits(takes: &[Take]) -> bool {
    let looks_back = |take: &Take| matches!(take, Take::Lens(..));
    takes
        .iter()
        .any(|take| reads_logits(take) || looks_back(take))
}

/// How often the projection to logits passes by for a part of the records, and how many rows it meets for each of theirs.
pub(crate) fn head_work(spec: &ModelSpec, takes: &[Take]) -> [usize; 2] {
    let own = usize::from(takes.iter().any(reads_logits));
    let groups = takes.iter().map(|take| match take {
        // What is not there was refused before.
        Take::Lens(_, selection) => groups(&layers(spec, selection).unwrap_or_default()),
        _ => 0,
    });
    let groups: usize = groups.sum();
    [own + groups, own + groups * TOGETHER]
}

/// Whether a result is made of the logits of the end.
pub(crate) fn reads_logits(take: &Take) -> bool {
    matches!(
        take,
        Take::Logits | Take::Scores | Take::TopK(_) | Take::Sparse | Take::Trace | Take::Drift
    )
}

/// Bytes of the results, before compression.
pub(crate) fn bytes_written(model: &Model, records: &RecordSpool, settings: &Settings) -> u64 {
    let stack = model.spec.output_stack();
    let tokens = records.of(stack.sequence).total_tokens();
    let element = match settings.hidden_dtype {
        HiddenDtype::F32 => 4,
        HiddenDtype::Bf16 | HiddenDtype::F16 => 2,
    };
    settings
        .takes
        .iter()
        .map(|take| match take {
            Take::Hidden(selection) => {
                // What is not there was refused before.
                let boundaries = boundaries(&model.spec, selection);
                let boundaries = boundaries.unwrap_or_default().into_iter();
                let values = boundaries.map(|boundary| {
                    let stack = &model.spec.stacks[boundary.stack];
                    let tokens = records.of(stack.sequence).total_tokens();
                    tokens * (stack.hidden_size * stack.streams()) as u64
                });
                values.sum::<u64>() * element
            }
            Take::Logits => tokens * model.spec.vocab_size as u64 * 4,
            Take::Scores => tokens * 8,
            Take::TopK(k) => tokens * (*k as u64 * 8 + 8),
            Take::Embedding(asked) => {
                // What cannot be followed was refused before.
                let pooled = &model.spec.stacks[model.spec.pooled_stack()];
                let width = embedding_width(model, *asked).unwrap_or(pooled.hidden_size);
                records.len() as u64 * width as u64 * 4
            }
            Take::Router => {
                let routings = stack.mechanisms().filter_map(Mechanism::routing);
                let shown = routings.filter(|routing| routing.is_shown);
                // An id and a weight for each choice.
                let chosen: u64 = shown.map(|routing| routing.router.top_k as u64 * 8).sum();
                tokens * chosen
            }
            Take::Profile | Take::Imatrix => 0,
            Take::Trace => {
                let stacks = model.spec.stacks.iter().enumerate();
                let values = stacks.map(|(index, stack)| {
                    let tokens = records.of(stack.sequence).total_tokens();
                    tokens * drift::values(&model.spec, index) as u64
                });
                values.sum::<u64>() * 4
            }
            // Half of the records are led, of which no table says anything.
            Take::Drift => tokens / 2 * 20,
            Take::Hessian(_) => hessian::result_bytes(&model.spec, &settings.takes),
            Take::Lens(k, selection) => {
                let layers = layers(&model.spec, selection).unwrap_or_default().len() as u64;
                tokens * layers * (*k as u64 * 8 + 12)
            }
            // A small part of the vocabulary.
            Take::Sparse => records.len() as u64 * 256 * 8,
            Take::Classes => {
                let classified = model.spec.classified_stack();
                let classes = classified.and_then(|(_, stack)| stack.head.classes.as_ref());
                let classes = classes.map_or(0, |head| head.projection.out_features as u64);
                let of_tokens = classes_of_token(&model.spec) > 0;
                let judged = if of_tokens {
                    tokens
                } else {
                    records.len() as u64
                };
                judged * classes * 8
            }
        })
        .sum()
}
