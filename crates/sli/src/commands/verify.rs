//! `sli verify`: our numbers beside those of a reference.

use crate::calls;
use crate::cli::VerifyArgs;
use crate::error::Error;
use crate::progress::{Screen, count};
use crate::terminal;
use crate::verify::{Receipt, VerifyError};

/// Verifies, and ends with an error where the numbers differ.
pub fn verify(arguments: &VerifyArgs) -> Result<(), Error> {
    let screen = Screen::default();
    let receipt = calls::verify(arguments, &screen)?;
    drop(screen);
    for (name, text) in lines(&receipt) {
        terminal::say(&format!("{} {text}", terminal::bold(&format!("{name:8}"))));
    }
    terminal::say(&format!(
        "{} {}",
        terminal::bold("receipt "),
        arguments.receipt.display()
    ));
    if arguments.json {
        terminal::print_json(&receipt)?;
    }
    if receipt.passed {
        return Ok(());
    }
    let worst = &receipt.worst;
    Err(VerifyError::Differs(format!(
        "a relative error of {:.3e} at {}, record `{}`, token {}; {:.0e} is allowed",
        worst.relative_error,
        worst.place,
        worst.record,
        worst.token,
        receipt.tolerance.relative_error
    ))
    .into())
}

fn lines(receipt: &Receipt) -> Vec<(&'static str, String)> {
    let worst = &receipt.worst;
    let versions = receipt.reference.versions.iter();
    let versions: Vec<String> = versions
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    vec![
        (
            "model",
            format!(
                "{}, {} weight files",
                receipt.model_type,
                receipt.files.len()
            ),
        ),
        (
            "against",
            format!(
                "{} in {} ({})",
                receipt.reference.by,
                receipt.reference.dtype,
                versions.join(", ")
            ),
        ),
        (
            "compared",
            format!(
                "{} values of {} places, {} tokens of {} records",
                count(receipt.values),
                receipt.places.len(),
                count(receipt.tokens as u64),
                count(receipt.records as u64)
            ),
        ),
        (
            "worst",
            format!(
                "relative error {:.3e}: {}, record `{}`, token {}, feature {} ({} for {})",
                worst.relative_error,
                worst.place,
                worst.record,
                worst.token,
                worst.feature,
                worst.ours,
                worst.expected
            ),
        ),
        (
            if receipt.passed { "passed" } else { "failed" },
            format!(
                "{:.0e} is allowed ({})",
                receipt.tolerance.relative_error, receipt.tolerance.from
            ),
        ),
    ]
}
