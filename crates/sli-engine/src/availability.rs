//! Which of the asked-for results a model can give.

use sli_spec::{Mechanism, Predicts};

use crate::error::EngineError;
use crate::model::Model;
use crate::observe::boundaries;
use crate::take::{Pooling, Take};

/// The takes that this model can give, and a sentence for each one that it cannot. That none is
/// left is an error.
pub fn available_takes(
    model: &Model,
    takes: &[Take],
) -> Result<(Vec<Take>, Vec<String>), EngineError> {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for take in takes {
        match missing(model, take)? {
            None => kept.push(take.clone()),
            Some(reason) => dropped.push(format!("`{take}` is left out: {reason}")),
        }
    }
    if kept.is_empty() {
        return Err(EngineError::Unavailable(dropped.join("; ")));
    }
    Ok((kept, dropped))
}

/// Why there are no logits.
pub fn no_head(model: &Model) -> String {
    match &model.missing_head {
        Some(tensor) => format!("the checkpoint lacks the head that gives logits, `{tensor}`"),
        None => "the model's class has no head that gives logits".to_owned(),
    }
}

/// Why the model cannot give a result.
fn missing(model: &Model, take: &Take) -> Result<Option<String>, EngineError> {
    let stack = model.spec.output_stack();
    let reason = match take {
        Take::Hidden(selection) => {
            boundaries(&model.spec, selection)?;
            None
        }
        Take::Logits | Take::TopK(_) => stack.head.logits.is_none().then(|| no_head(model)),
        Take::Scores => match &stack.head.logits {
            None => Some(no_head(model)),
            Some(logits) if logits.predicts == Predicts::Masked => Some(
                "a masked language model gives no probability of a token after the others".into(),
            ),
            Some(_) => None,
        },
        Take::Embedding(Some(Pooling::Pooler)) => stack
            .head
            .pooler
            .is_none()
            .then(|| "the checkpoint has no pooler".into()),
        Take::Router => {
            let mut routings = stack.mechanisms().filter_map(Mechanism::routing);
            let routes = routings.any(|routing| routing.is_shown);
            (!routes).then(|| "the model has no experts".into())
        }
        Take::Embedding(_) | Take::Profile => None,
    };
    Ok(reason)
}
