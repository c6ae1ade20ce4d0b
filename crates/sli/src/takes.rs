//! Which of the wanted results a model can give.

use sli_engine::take::{Pooling, Take, combine};
use sli_engine::{EngineError, Model, no_head};
use sli_spec::{Mechanism, Predicts, Stack};

use crate::error::Error;

/// The results of a run: those of `asked` (or the defaults) that the model can give. One that it cannot
/// give is a warning, unless nothing remains.
pub fn choose(
    asked: &[Take],
    model: &Model,
    mut warn: impl FnMut(&str),
) -> Result<Vec<Take>, Error> {
    let asked = if asked.is_empty() {
        Take::defaults()
    } else {
        asked.to_vec()
    };
    let spec = &model.spec;
    let (mut chosen, mut problems) = (Vec::new(), Vec::new());
    for take in combine(&asked)? {
        if let Take::Hidden(layers) = &take {
            let stack =
                |stack: &'_ Stack| (stack.name, stack.layers.len(), stack.head.norm.is_some());
            layers.resolve(&spec.stacks.iter().map(stack).collect::<Vec<_>>())?;
        }
        match lacking(&take, model) {
            None => chosen.push(take),
            Some(reason) => problems.push(format!("no `{take}`: {reason}")),
        }
    }
    if chosen.is_empty() {
        let problem = problems.join("; ");
        // The model should have it: its file is to blame, not the command.
        if model.missing_head.is_some() {
            return Err(EngineError::Unusable {
                path: model.folder.path().to_path_buf(),
                problem,
                hint: "--take profile, hidden and embedding need no head",
            }
            .into());
        }
        let hint = "profile, hidden and embedding work with every model".into();
        return Err(Error::Usage { problem, hint });
    }
    for problem in problems {
        warn(&problem);
    }
    Ok(chosen)
}

/// Why the model cannot give this result.
fn lacking(take: &Take, model: &Model) -> Option<String> {
    let spec = &model.spec;
    let head = &spec.output_stack().head;
    match take {
        Take::Profile | Take::Hidden(_) => None,
        Take::Embedding(pooling) => (*pooling == Some(Pooling::Pooler) && head.pooler.is_none())
            .then(|| "the checkpoint has no pooling layer".into()),
        Take::Logits | Take::TopK(_) => head.logits.is_none().then(|| no_head(model)),
        Take::Scores => match &head.logits {
            None => Some(no_head(model)),
            Some(logits) => match logits.predicts {
                Predicts::Next => None,
                Predicts::Masked => {
                    Some("the model predicts masked tokens, not the next one".into())
                }
            },
        },
        Take::Router => {
            let mechanisms = spec.stacks.iter().flat_map(Stack::mechanisms);
            let routings = mechanisms.filter_map(Mechanism::routing);
            let routed = routings.into_iter().any(|routing| routing.is_shown);
            (!routed).then(|| "the model has no experts".into())
        }
    }
}
