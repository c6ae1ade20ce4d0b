//! Whether records that begin alike can share the rows of what they have in common.

use sli_spec::rope::Rope;
use sli_spec::{Mixer, ModelSpec, Position, PositionIds, RouterScore};

use crate::exec::step::keys_chosen_by;
use crate::records::RecordSpool;
use crate::settings::Settings;

/// Which of several equal keys are chosen follows from how many there are in all.
const CHOICE: &str = "the choice of keys depends on a record's length";

/// Tokens that a record may have in common with others, at most, or why it may have none.
pub(crate) fn sharing(
    spec: &ModelSpec,
    records: &RecordSpool,
    settings: &Settings,
) -> Result<usize, &'static str> {
    if !settings.share_prefixes {
        return Err("sharing is switched off");
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
    if matches!(spec.positions, PositionIds::Blocks { .. }) || !stack.is_causal() {
        return Some("tokens see later ones");
    }
    let steps = stack.layers.iter().flat_map(|layer| &layer.steps);
    steps
        .flat_map(|step| &step.branches)
        .find_map(|branch| obstacle_of(&branch.mixer, longest))
}

fn obstacle_of(mixer: &Mixer, longest: usize) -> Option<&'static str> {
    let turns = |rope: &Rope| {
        let same = rope.length_class(1) == rope.length_class(longest);
        (!same).then_some("rotations depend on a record's length")
    };
    let routes = |score: &RouterScore| {
        // Computed on all logits of a record as they lie in the reference.
        matches!(score, RouterScore::ProductKeys(_))
            .then_some("the choice of experts depends on a record's length")
    };
    match mixer {
        Mixer::Attention(attention) if attention.dynamic_mask.is_some() => Some(CHOICE),
        Mixer::Attention(attention) => {
            let mut positions = attention.positions.iter();
            positions.find_map(|position| match position {
                Position::Rope(rope) => turns(rope),
                Position::Alibi(_) => None,
                Position::Buckets(_) => Some("addends are looked up record by record"),
            })
        }
        Mixer::LatentAttention(attention) => match &attention.selection {
            // Where there are no more keys than may be chosen, nothing is.
            Some(selection) if keys_chosen_by(selection) < longest => Some(CHOICE),
            _ => attention.rope.as_ref().and_then(turns),
        },
        Mixer::MixtureOfAttention(attention) => {
            let rope = attention.rope.as_ref().and_then(turns);
            rope.or_else(|| routes(&attention.router.score))
        }
        Mixer::MixtureOfExperts(experts) => routes(&experts.router.score),
        Mixer::FeedForward(_)
        | Mixer::SparseFeedForward(_)
        | Mixer::LowRank(_)
        | Mixer::LayerInput(_)
        | Mixer::Streams(_)
        | Mixer::Linear(_)
        | Mixer::Identity => None,
    }
}
