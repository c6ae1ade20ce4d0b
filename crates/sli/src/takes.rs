//! Which of the wanted results a model can give.

use sli_engine::take::{Pooling, Take, combine};
use sli_spec::{Mechanism, ModelSpec, Predicts, Stack};

use crate::error::Error;

/// The results of a run: those of `asked` (or the defaults) that the model can give. One that it cannot
/// give is a warning, unless nothing remains.
pub fn choose(
    asked: &[Take],
    spec: &ModelSpec,
    mut warn: impl FnMut(&str),
) -> Result<Vec<Take>, Error> {
    let asked = if asked.is_empty() {
        Take::defaults()
    } else {
        asked.to_vec()
    };
    let (mut chosen, mut problems) = (Vec::new(), Vec::new());
    for take in combine(&asked)? {
        if let Take::Hidden(layers) = &take {
            let stack =
                |stack: &'_ Stack| (stack.name, stack.layers.len(), stack.head.norm.is_some());
            layers.resolve(&spec.stacks.iter().map(stack).collect::<Vec<_>>())?;
        }
        match lacking(&take, spec) {
            None => chosen.push(take),
            Some(reason) => problems.push(format!("no `{take}`: {reason}")),
        }
    }
    if chosen.is_empty() {
        let problem = problems.join("; ");
        let hint = "profile, hidden and embedding work with every model".into();
        return Err(Error::Usage { problem, hint });
    }
    for problem in problems {
        warn(&problem);
    }
    Ok(chosen)
}

/// Why the model cannot give this result.
fn lacking(take: &Take, spec: &ModelSpec) -> Option<&'static str> {
    let head = &spec.output_stack().head;
    match take {
        Take::Profile | Take::Hidden(_) => None,
        Take::Embedding(pooling) => (*pooling == Some(Pooling::Pooler) && head.pooler.is_none())
            .then_some("the checkpoint has no pooling layer"),
        Take::Logits | Take::TopK(_) => head
            .logits
            .is_none()
            .then_some("the checkpoint has no head that gives logits"),
        Take::Scores => match &head.logits {
            None => Some("the checkpoint has no head that gives logits"),
            Some(logits) => match logits.predicts {
                Predicts::Next => None,
                Predicts::Masked => Some("the model predicts masked tokens, not the next one"),
            },
        },
        Take::Router => {
            let mechanisms = spec.stacks.iter().flat_map(Stack::mechanisms);
            let routings = mechanisms.filter_map(Mechanism::routing);
            let routed = routings.into_iter().any(|routing| routing.is_shown);
            (!routed).then_some("the model has no experts")
        }
    }
}
