//! Whether two models are of the same shape, so that their rows can be compared.

use sli_spec::{ModelSpec, Stack};

use super::trace::columns;

/// In what two models differ, reference first; none: they can be compared.
pub fn unlike(reference: &ModelSpec, model: &ModelSpec) -> Vec<String> {
    let mut problems = Vec::new();
    let names =
        |spec: &ModelSpec| -> Vec<&str> { spec.stacks.iter().map(|stack| stack.name).collect() };
    let (theirs, ours) = (names(reference), names(model));
    if theirs != ours {
        problems.push(format!(
            "stacks: {} and {}",
            theirs.join(", "),
            ours.join(", ")
        ));
        return problems;
    }
    let mut differ = |what: String, theirs: usize, ours: usize| {
        if theirs != ours {
            problems.push(format!("{what}: {theirs} and {ours}"));
        }
    };
    differ("vocabulary".into(), reference.vocab_size, model.vocab_size);
    for (theirs, ours) in reference.stacks.iter().zip(&model.stacks) {
        let name = ours.name;
        let mut differ = |what: &str, of: &dyn Fn(&Stack) -> usize| {
            differ(format!("{name} {what}"), of(theirs), of(ours));
        };
        differ("layers", &|stack| stack.layers.len());
        differ("width", &|stack| stack.hidden_size);
        differ("residual streams", &Stack::streams);
        differ("width at its end", &Stack::end_width);
        differ("final norms", &|stack| {
            usize::from(stack.head.norm.is_some())
        });
        differ("logits", &|stack| {
            let logits = stack.head.logits.as_ref();
            logits.map_or(0, |logits| logits.projection.out_features)
        });
    }
    if !problems.is_empty() {
        return problems;
    }
    for (theirs, ours) in reference.stacks.iter().zip(&model.stacks) {
        let name = ours.name;
        if columns(theirs) != columns(ours) {
            problems.push(format!(
                "what layers of the {name} hand on beside the hidden state"
            ));
        }
        if theirs.sequence != ours.sequence || theirs.sources() != ours.sources() {
            problems.push(format!("what the {name} reads"));
        }
        if !theirs.prompt.is_empty() || !ours.prompt.is_empty() {
            problems.push(format!("virtual tokens in front of what the {name} reads"));
        }
        let predicts = |stack: &Stack| stack.head.logits.as_ref().map(|logits| logits.predicts);
        if predicts(theirs) != predicts(ours) {
            problems.push("which token the logits are of".to_owned());
        }
    }
    problems
}
