//! Whether records that begin alike can share the rows of what they have in common.

use sli_spec::{Embedding, ModelSpec};

use crate::records::RecordSpool;
use crate::settings::Settings;
use crate::take::Take;

/// Tokens that a record may have in common with others, at most, or why it may have none.
pub(crate) fn sharing(
    spec: &ModelSpec,
    records: &RecordSpool,
    settings: &Settings,
) -> Result<usize, &'static str> {
    if !settings.share_prefixes {
        return Err("sharing is switched off");
    }
    let counts_all = |take: &Take| matches!(take, Take::Imatrix | Take::Hessian(_));
    if settings.takes.iter().any(counts_all) {
        return Err("what enters the matrices counts for every record");
    }
    if settings.takes.contains(&Take::Drift) {
        return Err("records run twice, once on their own and once led by the reference");
    }
    if let Some(obstacle) = obstacle(spec, records.longest()) {
        return Err(obstacle);
    }
    match records.longest_shared() {
        0 => Err("no record begins like one before it"),
        shared => Ok(shared),
    }
}

/// What makes a token's results depend on more than the tokens before it, in records of at most
/// `longest` tokens.
fn obstacle(spec: &ModelSpec, longest: usize) -> Option<&'static str> {
    let [stack] = &spec.stacks[..] else {
        return Some("the model has several stacks");
    };
    if stack.positions.divides() || !stack.is_causal() {
        return Some("tokens see later ones");
    }
    let embedding = stack.input.embedding();
    let mut mechanisms = stack.mechanisms();
    let of_embedding = embedding.and_then(Embedding::depends_on_record);
    of_embedding.or_else(|| mechanisms.find_map(|mechanism| mechanism.depends_on_length(longest)))
}
