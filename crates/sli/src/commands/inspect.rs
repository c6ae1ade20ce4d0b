//! `sli inspect`: what a model is made of, and whether its checkpoint is complete.

use std::path::Path;

use sli_engine::bytes::human;

use super::table::table;
use crate::calls::{self, Coverage, Inspection};
use crate::cli::InspectArgs;
use crate::error::Error;
use crate::progress::{Screen, count};
use crate::terminal;

/// Shows a model; an incomplete checkpoint is shown and is then an error.
pub fn inspect(arguments: &InspectArgs) -> Result<(), Error> {
    let inspected = calls::inspect(arguments, &Screen::default())?;
    if arguments.json {
        terminal::print_json(&inspected.inspection)?;
    } else {
        terminal::print(&describe(&inspected.inspection, &arguments.model))?;
    }
    inspected.complete()
}

fn describe(inspection: &Inspection, path: &Path) -> String {
    let mut rows = vec![
        ["model".to_owned(), path.display().to_string()],
        [
            "type".to_owned(),
            format!("{} ({} family)", inspection.model_type, inspection.family),
        ],
        ["parameters".to_owned(), count(inspection.parameters)],
        ["vocabulary".to_owned(), count(inspection.vocab_size as u64)],
    ];
    if let Some(class) = &inspection.class {
        rows.push(["run as".to_owned(), class.clone()]);
    }
    if let Some(limit) = inspection.length_limit {
        rows.push([
            "length limit".to_owned(),
            format!("{} tokens", count(limit as u64)),
        ]);
    }
    for stack in &inspection.stacks {
        let layers = format!("{} layers of {} features", stack.layers, stack.hidden_size);
        rows.push([stack.name.to_owned(), layers]);
        for (mixers, layers) in &stack.mixers {
            rows.push([String::new(), format!("{layers} x {mixers}")]);
        }
        let head = stack
            .head
            .map(|predicts| format!("head predicts the {predicts}"));
        let pooler = stack.pooler.then(|| "pooler".to_owned());
        rows.extend(
            head.into_iter()
                .chain(pooler)
                .map(|part| [String::new(), part]),
        );
    }
    if !inspection.unread.is_empty() {
        rows.push(["unread keys".to_owned(), inspection.unread.join(", ")]);
    }
    if !inspection.idle.is_empty() {
        let keys = inspection.idle.join(", ");
        rows.push([
            "idle keys".to_owned(),
            format!("{keys} (no class of the reference reads them)"),
        ]);
    }
    if let Some(naming) = &inspection.naming {
        rows.push(["tensor names".to_owned(), naming.clone()]);
    }
    if let Some(coverage) = &inspection.coverage {
        describe_weights(inspection, coverage, &mut rows);
    }
    table(&rows)
}

fn describe_weights(inspection: &Inspection, coverage: &Coverage, rows: &mut Vec<[String; 2]>) {
    let dtypes: Vec<String> = inspection
        .dtypes
        .iter()
        .map(|(dtype, bytes)| format!("{dtype} {}", human(*bytes)))
        .collect();
    rows.push(["stored".to_owned(), dtypes.join(", ")]);
    let files = match &inspection.files[..] {
        [one] => one.clone(),
        many => format!("{} files", many.len()),
    };
    let files = match inspection.files_rule {
        Some(rule) => format!("{files} ({rule})"),
        None => files,
    };
    rows.push(["files".to_owned(), files]);
    if !inspection.files_left.is_empty() {
        rows.push(["not looked at".to_owned(), inspection.files_left.join(", ")]);
    }
    rows.push([
        "tensors".to_owned(),
        format!(
            "{} used, {} ignored, {} missing, {} unexpected, {} mismatched",
            coverage.used,
            coverage.ignored.len(),
            coverage.missing.len(),
            coverage.unexpected.len(),
            coverage.mismatched.len()
        ),
    ]);
    for (reason, names) in &coverage.left_out {
        rows.push([
            "left out".to_owned(),
            format!("{reason}: {}", names.join(", ")),
        ]);
    }
    if !coverage.absent.is_empty() {
        let absent: Vec<&str> = coverage.absent.iter().copied().collect();
        rows.push(["not included".to_owned(), absent.join(", ")]);
    }
}
