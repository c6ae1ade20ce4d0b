//! Whether records that begin alike can share the rows of what they have in common.

use sli_spec::{Embedding, ModelSpec, Sequence, Stack};

use crate::records::RecordSpool;
use crate::settings::Settings;
use crate::take::Take;

/// Tokens that a record may have in common with others, at most, or why it may have none.
pub(crate) fn sharing(
    spec: &ModelSpec,
    records: &RecordSpool,
    settings: &Settings,
) -> Result<usize, &'static str> {
    if let Some(reason) = counted_alone(settings) {
        return Err(reason);
    }
    if let Some(obstacle) = obstacle(spec, records.longest()) {
        return Err(obstacle);
    }
    match records.longest_shared() {
        0 => Err("no record begins like one before it"),
        shared => Ok(shared),
    }
}

/// Whether the rows of pictures that several records have are computed once.
pub(crate) fn pictures(records: &RecordSpool, settings: &Settings) -> bool {
    counted_alone(settings).is_none() && records.has_same_pictures()
}

/// Why every record must run for itself, whatever it has in common with others.
fn counted_alone(settings: &Settings) -> Option<&'static str> {
    if !settings.share_prefixes {
        return Some("sharing is switched off");
    }
    let counts_all = |take: &Take| matches!(take, Take::Imatrix | Take::Hessian(_));
    if settings.takes.iter().any(counts_all) {
        return Some("what enters the matrices counts for every record");
    }
    let is_twice = settings.takes.contains(&Take::Drift);
    is_twice.then_some("records run twice, once on their own and once led by the reference")
}

/// What makes a token's results depend on more than the tokens before it, in records of at most
/// `longest` tokens.
fn obstacle(spec: &ModelSpec, longest: usize) -> Option<&'static str> {
    let Some(stack) = stack_of_tokens(spec) else {
        return Some("the model has several stacks");
    };
    if stack.mechanisms().any(|own| own.stack_end().is_some()) {
        return Some("tokens see the pictures of their records");
    }
    if stack.positions.divides() || !stack.is_causal() {
        return Some("tokens see later ones");
    }
    let embedding = stack.input.embedding();
    let mut mechanisms = stack.mechanisms();
    let of_embedding = embedding.and_then(Embedding::depends_on_record);
    of_embedding.or_else(|| mechanisms.find_map(|mechanism| mechanism.depends_on_length(longest)))
}

/// The stack of the records' tokens, where the others, if any, are of their pictures.
fn stack_of_tokens(spec: &ModelSpec) -> Option<&Stack> {
    let (last, others) = spec.stacks.split_last()?;
    let mut others = others.iter();
    let of_pictures = others.all(|stack| stack.sequence.is_of_pictures());
    (of_pictures && last.sequence == Sequence::Record).then_some(last)
}
