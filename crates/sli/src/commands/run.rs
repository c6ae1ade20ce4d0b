//! `sli run`: the model over the dataset, results into a folder.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use sli_engine::bytes::human;
use sli_engine::journal::{Manifest, Opened, OutputFolder};
use sli_engine::records::RecordSpool;
use sli_engine::{Summary, peak_memory};

use crate::cli::RunArgs;
use crate::error::Error;
use crate::job::Job;
use crate::progress::{Progress, count, duration};
use crate::roofline::Roofline;
use crate::run_key::run_key;
use crate::{interrupt, terminal};

/// Folder of the spooled records inside the work folder.
const SPOOL: &str = "records";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: &'a Path,
    #[serde(flatten)]
    summary: &'a Summary,
    /// `null` where an earlier process did part of the work.
    roofline: Option<Roofline>,
    /// The roofline's time over the time taken.
    roofline_fraction: Option<f64>,
}

/// Runs, or goes on with, a run.
pub fn run(arguments: &RunArgs) -> Result<(), Error> {
    let job = Job::open(&arguments.job, |text| terminal::warn(text))?;
    let key = run_key(&job.model, &job.input, &job.settings, job.max_length)?;
    let (mut folder, resumed) = match OutputFolder::open(&arguments.out, key, arguments.fresh)? {
        Opened::New(folder) => (folder, false),
        Opened::Resumed(folder) => (folder, true),
        Opened::Finished(manifest) => return finished(arguments, &manifest),
    };
    interrupt::resumable();
    let records = records(&job, &mut folder)?;
    if resumed {
        let done = count(folder.progress().records_done);
        terminal::say(&format!(
            "going on after {done} of {} records",
            count(records.len() as u64)
        ));
    }
    let progress = Progress::new();
    let summary = sli_engine::run(&job.model, &records, &job.settings, folder, &progress)?;
    drop(progress);
    let roofline = (!resumed).then(|| Roofline::measure(&job.model, &job.settings, &summary.plan));
    let fraction = roofline.map(|roofline| roofline.seconds / summary.seconds.max(1e-9));
    close(
        &job,
        &summary,
        roofline.as_ref().zip(fraction),
        &arguments.out,
    );
    if arguments.json {
        terminal::print_json(&Report {
            out: &arguments.out,
            summary: &summary,
            roofline,
            roofline_fraction: fraction,
        })?;
    }
    Ok(())
}

/// The tokens of the dataset, from an earlier process if they are complete.
fn records(job: &Job, folder: &mut OutputFolder) -> Result<RecordSpool, Error> {
    let path = folder.work_dir().join(SPOOL);
    if let Some(records) = RecordSpool::open(&path)? {
        return Ok(records);
    }
    let records = job.spool(&path, |text| terminal::warn(text))?;
    // From here on a kill does not cost the tokenisation again.
    folder.checkpoint()?;
    Ok(records)
}

fn finished(arguments: &RunArgs, manifest: &Manifest) -> Result<(), Error> {
    terminal::say(&format!(
        "{} is finished already; nothing to do (--fresh starts over)",
        arguments.out.display()
    ));
    if arguments.json {
        terminal::print_json(manifest.json())
    } else {
        Ok(())
    }
}

/// The closing lines.
fn close(job: &Job, summary: &Summary, roofline: Option<(&Roofline, f64)>, out: &Path) {
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
    let passes = match summary.plan.super_batches {
        1 => "1 pass".to_owned(),
        more => format!("{} passes", count(more as u64)),
    };
    let roofline = roofline.map_or_else(String::new, |(roofline, fraction)| {
        let limit = if roofline.is_reading() {
            "bandwidth"
        } else {
            "arithmetic"
        };
        format!(
            "; {:.0} % of the roofline ({limit})",
            (fraction * 100.0).min(100.0)
        )
    });
    terminal::say(&format!(
        "{} {} of weights in {passes}{roofline}",
        terminal::bold("read    "),
        human(summary.bytes_read)
    ));
    terminal::say(&format!(
        "{} {} at most, of {}",
        terminal::bold("memory  "),
        human(summary.peak_memory.max(peak_memory())),
        human(job.settings.memory)
    ));
    terminal::say(&format!(
        "{} {} (run.json lists the files)",
        terminal::bold("results "),
        out.display()
    ));
}
