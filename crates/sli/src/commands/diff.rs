//! `sli diff`: how far a checkpoint drifts from another one.

use sli_engine::{Diverged, Drifted, LayerDrift};

use super::run::{close, manifest_of, nothing_to_do, print_manifest, report};
use crate::calls::{self, Ran};
use crate::cli::DiffArgs;
use crate::error::Error;
use crate::progress::{Screen, count};
use crate::terminal;

/// Compares, or goes on with it.
pub fn diff(arguments: &DiffArgs) -> Result<(), Error> {
    let screen = Screen::default();
    let done = match calls::diff(arguments, &screen)? {
        Ran::Done(done) => done,
        Ran::Finished { manifest, .. } => {
            nothing_to_do(&arguments.out);
            if arguments.report {
                report(&arguments.out)?;
            }
            if arguments.json {
                print_manifest(&arguments.out, manifest.json().clone())?;
            }
            return Ok(());
        }
    };
    drop(screen);
    close(&done);
    if let Some(drifted) = &done.summary.drift {
        for (name, text) in findings(drifted) {
            terminal::say(&format!("{} {text}", terminal::bold(&format!("{name:8}"))));
        }
    }
    terminal::say(&format!(
        "{} {} (run.json lists the files)",
        terminal::bold("results "),
        arguments.out.display()
    ));
    if arguments.report {
        report(&arguments.out)?;
    }
    if arguments.json {
        print_manifest(&arguments.out, manifest_of(&arguments.out)?)?;
    }
    Ok(())
}

/// What was found, in lines.
fn findings(drifted: &Drifted) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let of = |error: &'static str| {
        let layers = drifted.layers.iter();
        layers.filter(move |layer| layer.error == error && layer.site == "hidden")
    };
    let error = |layer: &&LayerDrift| layer.relative_error.unwrap_or(0.0);
    let worst = of("own").max_by(|a, b| error(a).total_cmp(&error(b)));
    if let Some(worst) = worst {
        let place = if worst.layer == 0 {
            format!("the {} embedding", worst.stack)
        } else {
            format!("{} layer {}", worst.stack, worst.layer)
        };
        lines.push(("own", format!("{} at most, of {place}", described(worst))));
    }
    if let Some(end) = of("accumulated").next_back() {
        lines.push((
            "drift",
            format!(
                "{} behind the last layer of the {}",
                described(end),
                end.stack
            ),
        ));
    }
    let divergence = drifted.divergence.as_ref();
    if let Some(diverged) = divergence.filter(|diverged| diverged.positions > 0) {
        lines.extend(distributions(diverged));
    }
    lines
}

/// A relative error and a cosine.
fn described(layer: &LayerDrift) -> String {
    let error = layer.relative_error.map_or_else(
        || "no relative error (the reference is zero)".to_owned(),
        |error| format!("relative error {error:.3e}"),
    );
    match layer.cosine {
        Some(cosine) => format!("{error}, cosine {cosine:.6}"),
        None => error,
    }
}

fn distributions(diverged: &Diverged) -> Vec<(&'static str, String)> {
    let kl = |name: &str| diverged.kl.get(name).copied().unwrap_or(0.0);
    let mut lines = vec![
        (
            "kl",
            format!(
                "mean {:.6}, median {:.6}, 99 % below {:.6}, largest {:.6}, over {} positions",
                kl("mean"),
                kl("q0.5"),
                kl("q0.99"),
                kl("max"),
                count(diverged.positions),
            ),
        ),
        (
            "top-1",
            format!("{:.3} % alike", diverged.top1_agreement * 100.0),
        ),
    ];
    if let (Some(own), Some(reference)) = (diverged.perplexity, diverged.reference_perplexity) {
        lines.push((
            "perplex.",
            format!("{own:.4}, of the reference {reference:.4}"),
        ));
    }
    lines
}
