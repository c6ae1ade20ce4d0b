//! Which of the wanted results a model can give.

use sli_engine::take::{Take, combine};
use sli_engine::{EngineError, Model, lacking};
use sli_spec::Stack;

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
        match lacking(model, &take) {
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
