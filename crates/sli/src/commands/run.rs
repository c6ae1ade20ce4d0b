//! `sli run`: the model over the dataset, results into a folder.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sli_engine::Summary;
use sli_engine::bytes::human;
use sli_engine::peak_memory;

use super::reading;
use crate::calls::{self, Done, Ran};
use crate::cli::{ReportArgs, RunArgs};
use crate::error::Error;
use crate::machine::limited_by;
use crate::progress::{Screen, count, duration};
use crate::terminal;

/// Runs, or goes on with, a run.
pub fn run(arguments: &RunArgs) -> Result<(), Error> {
    let screen = Screen::default();
    let done = match calls::run(arguments, &screen)? {
        Ran::Done(done) => done,
        Ran::Finished { manifest, .. } => return finished(arguments, manifest.json()),
    };
    drop(screen);
    close(&done);
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

fn finished(arguments: &RunArgs, manifest: &Value) -> Result<(), Error> {
    nothing_to_do(&arguments.out);
    if arguments.report {
        report(&arguments.out)?;
    }
    if arguments.json {
        print_manifest(&arguments.out, manifest.clone())?;
    }
    Ok(())
}

/// Says that a folder is finished.
pub(super) fn nothing_to_do(out: &Path) {
    terminal::say(&format!(
        "{} is finished already; nothing to do (--fresh starts over)",
        out.display()
    ));
}

/// `run.json` of a folder that was just finished.
pub(super) fn manifest_of(out: &Path) -> Result<Value, Error> {
    let path = out.join("run.json");
    fs_err::read(&path)
        .and_then(|text| serde_json::from_slice(&text).map_err(std::io::Error::from))
        .map_err(|source| Error::File {
            what: "the results are written, but not read again",
            path,
            source,
        })
}

/// The page about the results.
pub(super) fn report(out: &Path) -> Result<(), Error> {
    super::report::report(&ReportArgs {
        results: out.to_owned(),
        out: None,
    })
}

/// `run.json` on stdout, with the folder in front.
pub(super) fn print_manifest(out: &Path, manifest: Value) -> Result<(), Error> {
    let mut all = serde_json::Map::new();
    all.insert("out".into(), out.display().to_string().into());
    if let Value::Object(members) = manifest {
        all.extend(members);
    }
    terminal::print_json(&all)
}

/// The closing lines.
pub(super) fn close(Done { job, summary }: &Done) {
    let rate = summary.tokens as f64 / summary.seconds.max(1e-9);
    let records = if summary.records == 1 {
        "record"
    } else {
        "records"
    };
    terminal::say(&format!(
        "{} {} tokens of {} {records} in {}, {} tokens/s",
        terminal::bold("done    "),
        count(summary.tokens),
        count(summary.records as u64),
        duration(Duration::try_from_secs_f64(summary.seconds).unwrap_or_default()),
        count(rate as u64),
    ));
    if summary.skipped > 0 {
        let skipped = count(summary.skipped);
        terminal::say(&format!(
            "{} {skipped} records that are null or empty",
            terminal::bold("skipped ")
        ));
    }
    if summary.records_cut > 0
        && let Some(place) = job.cut_at()
    {
        terminal::say(&format!(
            "{} {} {} to {place}",
            terminal::bold("cut     "),
            count(summary.records_cut),
            if summary.records_cut == 1 {
                "record"
            } else {
                "records"
            },
        ));
    }
    let passes = match summary.plan.super_batches {
        1 => "1 pass".to_owned(),
        more => format!("{} passes", count(more as u64)),
    };
    let way = summary.reading.as_ref().map(reading::describe);
    let way = way.map_or_else(String::new, |way| format!(" ({way})"));
    terminal::say(&format!(
        "{} {} of weights in {passes}{way}",
        terminal::bold("read    "),
        human(summary.bytes_read)
    ));
    if let Some((received, kept)) = job.named.received() {
        terminal::say(&format!(
            "{} {} over the network, {kept}",
            terminal::bold("fetched "),
            human(received)
        ));
    }
    terminal::say(&format!(
        "{} {} ({})",
        terminal::bold("compute "),
        summary.compute,
        job.session.precision().reason
    ));
    if let (Some(roofline), Some(fraction)) = (&summary.roofline, summary.roofline_fraction) {
        terminal::say(&format!(
            "{} {:.0} % of the roofline ({})",
            terminal::bold("speed   "),
            fraction * 100.0,
            limited_by(roofline)
        ));
    }
    if let Some(saved) = saved(summary) {
        terminal::say(&format!("{} {saved}", terminal::bold("shared  ")));
    }
    terminal::say(&format!(
        "{} {} at most, of {}",
        terminal::bold("memory  "),
        human(summary.peak_memory.max(peak_memory())),
        human(job.session.settings().memory)
    ));
}

/// What common beginnings saved, where it is worth a line.
fn saved(summary: &Summary) -> Option<String> {
    let ratio = summary.token_layers_alone as f64 / summary.token_layers.max(1) as f64;
    (ratio >= 1.05).then(|| {
        format!(
            "prefixes: {ratio:.1}x fewer token-layers ({} instead of {})",
            count(summary.token_layers),
            count(summary.token_layers_alone)
        )
    })
}
