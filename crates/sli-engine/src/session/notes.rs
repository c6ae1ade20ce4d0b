//! What is said of a model that was opened.

use sli_checkpoint::{Choice, HeadOrigin};
use sli_spec::Instead;

use crate::leftovers::left_out;
use crate::model::Model;
use crate::settings::Observer;

/// Names of one reason that are listed.
const NAMES_SAID: usize = 6;

/// Says what nothing reads, which class is run instead of the one named, which tensors have other names in the files, and
/// which weights are left.
pub(super) fn say(model: &Model, allow_unused: &[String], observer: &dyn Observer) {
    if !model.unread.is_empty() {
        let keys = model.unread.join(", ");
        observer.warning(&format!("nothing reads these keys of config.json: {keys}"));
    }
    if let Some(Instead { named, run, reason }) = &model.instead {
        observer.note(&format!(
            "config.json names the class `{named}`; `{run}` is run: {reason}"
        ));
    }
    if let Some(naming) = &model.naming {
        observer.warning(&format!(
            "the names of {} tensors are not the model's own: {naming}",
            naming.renamed
        ));
    }
    if model.checkpoint.rounds_inputs() {
        observer.note(
            "the weights are decoded exactly; the inputs of products, which kernels for such weights round as well, are not rounded",
        );
    }
    let report = model.binding.report();
    for (reason, mut names) in left_out(report) {
        names.retain(|name| !is_turns(model, name));
        if names.is_empty() {
            continue;
        }
        let more = match names.len().saturating_sub(NAMES_SAID) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let said: Vec<String> = names.into_iter().take(NAMES_SAID).collect();
        observer.note(&format!("not used: {}{more} ({reason})", said.join(", ")));
    }
    for pattern in report.idle(allow_unused) {
        observer.warning(&idle(pattern));
    }
    if model.binding.head() == HeadOrigin::Stored {
        observer.warning(
            "config.json ties the head to the token table, but the weights have another head: that one is used",
        );
    }
    if let Some(choice) = model.checkpoint.choice().and_then(describe_choice) {
        observer.warning(&choice);
    }
}

/// Whether it is what rotations are taken from, which no layer uses.
fn is_turns(model: &Model, name: &str) -> bool {
    let turns = model
        .spec
        .stacks
        .iter()
        .filter_map(|stack| stack.turns.as_ref());
    let mut read = turns.flat_map(|turns| turns.leaf.source.names());
    read.any(|own| own == name || own.ends_with(&format!(".{name}")))
}

/// Which weights were taken, and which were left; `None` where there were no others.
pub fn describe_choice(choice: &Choice) -> Option<String> {
    let left: Vec<String> = choice.left.iter().map(|file| format!("`{file}`")).collect();
    (!left.is_empty()).then(|| {
        format!(
            "the weights are those of `{}`; {} in the same folder is not looked at",
            choice.taken,
            left.join(" and ")
        )
    })
}

/// That a pattern of `--allow-unused` does nothing.
pub fn idle(pattern: &str) -> String {
    format!("--allow-unused '{pattern}' leaves nothing out: no tensor of that name is without use")
}
