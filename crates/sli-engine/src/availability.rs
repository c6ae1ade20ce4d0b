//! Which of the asked-for results a model can give.

use sli_spec::gguf::matrices;
use sli_spec::{Mechanism, PooledEnd, Predicts, Stack};

use crate::boundaries::boundaries;
use crate::error::EngineError;
use crate::hessian;
use crate::lens::{layers, obstacle};
use crate::lexical;
use crate::model::Model;
use crate::take::{Pooling, Take, combine};

/// The results of a run: those of `asked` (or the defaults) that the model can give, and a sentence for each
/// one that it cannot. That none is left is an error.
pub fn available_takes(
    model: &Model,
    asked: &[Take],
) -> Result<(Vec<Take>, Vec<String>), EngineError> {
    let asked = if asked.is_empty() {
        Take::defaults()
    } else {
        asked.to_vec()
    };
    let (mut chosen, mut problems) = (Vec::new(), Vec::new());
    for take in combine(&asked)? {
        match &take {
            Take::Hidden(selection) => drop(boundaries(&model.spec, selection)?),
            Take::Lens(_, selection) => drop(layers(&model.spec, selection)?),
            Take::Hessian(selection) => drop(hessian::layers(&model.spec, selection)?),
            _ => {}
        }
        let is_lexical = take == Take::Sparse && lexical::is_there(model)?;
        match lacking(model, &take).filter(|_| !is_lexical) {
            None => {
                problems.extend(left_out(model, &take));
                chosen.push(take);
            }
            Some(reason) => problems.push(format!("no `{take}`: {reason}")),
        }
    }
    if chosen.is_empty() {
        let problem = problems.join("; ");
        // The model should have it: its file is to blame, not what was asked for.
        let classes = model.missing_classifier.as_ref();
        let classes = classes.filter(|_| asked.contains(&Take::Classes));
        if model.missing_head.is_some() || classes.is_some() {
            return Err(EngineError::Unusable {
                path: model.folder.path().to_path_buf(),
                problem,
                hint: "--take profile, hidden and embedding need no head",
            });
        }
        return Err(EngineError::Unavailable(problem));
    }
    Ok((chosen, problems))
}

/// What a result will not have that could be looked for in it.
fn left_out(model: &Model, take: &Take) -> Option<String> {
    let matrices = matrices(&model.spec)
        .ok()
        .filter(|_| *take == Take::Imatrix)?;
    let different = matrices.different;
    let first = different.first()?;
    Some(format!(
        "imatrix.gguf will not have `{first}` and its like ({} in all): what enters them there is not what enters them here",
        different.len()
    ))
}

/// Why there are no logits.
fn no_head(model: &Model) -> String {
    match &model.missing_head {
        Some(tensor) => format!("the checkpoint lacks the head that gives logits, `{tensor}`"),
        None => "the model's class has no head that gives logits".to_owned(),
    }
}

/// Why the model cannot give a result.
pub fn lacking(model: &Model, take: &Take) -> Option<String> {
    let spec = &model.spec;
    let head = &spec.output_stack().head;
    let pooled = &spec.stacks[spec.pooled_stack()];
    match take {
        Take::Profile | Take::Hidden(_) | Take::Hessian(_) | Take::Trace | Take::Drift => None,
        Take::Embedding(Some(Pooling::Mean | Pooling::Cls | Pooling::Last)) if spec.is_pair() => {
            Some("a text and a picture have no rows of one kind; take `embedding` without a pooling".into())
        }
        Take::Embedding(pooling) => {
            let pools = pooled.head.pooler.is_some() || spec.pooled_end != PooledEnd::No;
            (*pooling == Some(Pooling::Pooler) && !pools)
                .then(|| "the checkpoint has no pooling layer".into())
        }
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
        Take::Sparse => match &head.logits {
            None => Some(no_head(model)),
            Some(logits) => (logits.predicts != Predicts::Masked)
                .then(|| "the model predicts the next token, not masked ones".into()),
        },
        Take::Classes => spec
            .classified_stack()
            .is_none()
            .then(|| match &model.missing_classifier {
                Some(tensor) => {
                    format!("the checkpoint lacks the head that gives classes, or has another: `{tensor}`")
                }
                None => "the model's class has no head that gives classes".to_owned(),
            }),
        Take::Imatrix => matrices(spec).err(),
        Take::Lens(..) => match &head.logits {
            None => Some(no_head(model)),
            Some(_) => obstacle(head).map(str::to_owned),
        },
        Take::Router => {
            let mechanisms = model.spec.stacks.iter().flat_map(Stack::mechanisms);
            let mut routings = mechanisms.filter_map(Mechanism::routing);
            let routed = routings.any(|routing| routing.is_shown);
            (!routed).then(|| "the model has no experts".into())
        }
    }
}
