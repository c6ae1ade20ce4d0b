//! `sli plan`: what a run would read, write, hold and take.

use std::time::{Duration, Instant};

use serde::Serialize;
use sli_checkpoint::source::ReadChoice;
use sli_engine::Plan;
use sli_engine::bytes::human;
use sli_engine::ceilings::Roofline;

use super::reading;
use super::table::table;
use crate::cli::PlanArgs;
use crate::error::Error;
use crate::job::Job;
use crate::machine::{self, limited_by};
use crate::progress::{count, duration};
use crate::run_key::compute_name;
use crate::terminal;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model_type: &'a str,
    takes: Vec<String>,
    compute: &'static str,
    /// Why.
    compute_reason: String,
    threads: usize,
    memory: u64,
    #[serde(flatten)]
    plan: &'a Plan,
    /// How large reads of the weights are done, where there is something to choose.
    reading: Option<ReadChoice>,
    /// The least time that this machine can take.
    roofline: Option<Roofline>,
}

/// Plans and says so; nothing is run.
pub fn plan(arguments: &PlanArgs) -> Result<(), Error> {
    let mut job = Job::open(&arguments.job, None)?;
    let folder = tempfile::tempdir().map_err(|source| Error::File {
        what: "cannot make a temporary folder",
        path: std::env::temp_dir(),
        source,
    })?;
    let began = Instant::now();
    let records = job.spool(folder.path())?;
    let spooling = began.elapsed().as_secs_f64();
    job.settings.machine = machine::look(&job.model, &job.settings);
    let mut plan = sli_engine::plan(&job.model, &records, &job.settings)?;
    // A run makes tokens of the dataset too, which has just been done.
    plan.seconds = plan.seconds.map(|seconds| seconds + spooling);
    let reading = sli_engine::choose_reading(&job.model, &job.settings, &plan)?;
    let limits = job.settings.machine.limits;
    let stored = job.model.checkpoint.stored_bytes();
    let stored = job.settings.machine.cached(stored);
    let roofline = limits.map(|limits| Roofline::new(limits, plan.work, plan.bytes_read, stored));
    if arguments.json {
        let report = Report {
            model_type: &job.model.spec.model_type,
            takes: job.settings.takes.iter().map(ToString::to_string).collect(),
            compute: compute_name(job.settings.compute),
            compute_reason: job.precision.reason.to_string(),
            threads: job.settings.threads,
            memory: job.settings.memory,
            plan: &plan,
            reading,
            roofline,
        };
        return terminal::print_json(&report);
    }
    let times = Times {
        reading: reading.as_ref(),
        roofline: roofline.as_ref(),
    };
    terminal::print(&describe(&job, &plan, &times))
}

/// How long it takes.
struct Times<'a> {
    reading: Option<&'a ReadChoice>,
    roofline: Option<&'a Roofline>,
}

fn describe(job: &Job, plan: &Plan, times: &Times<'_>) -> String {
    let settings = &job.settings;
    let takes: Vec<String> = settings.takes.iter().map(ToString::to_string).collect();
    let way = times.reading.map(reading::describe);
    let way = way.map_or_else(String::new, |way| format!(" ({way})"));
    let seconds = |seconds| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let passes = match plan.super_batches {
        1 => "1 pass over the weights".to_owned(),
        more => format!(
            "{} passes over the weights, {} tokens each at most",
            count(more as u64),
            count(plan.super_batch_tokens as u64)
        ),
    };
    let mut reads = human(plan.bytes_read);
    if plan.bytes_read_at_most > plan.bytes_read {
        let most = human(plan.bytes_read_at_most);
        reads = format!("{reads}, if tokens choose experts evenly, {most} at most,");
    }
    let mut rows = vec![
        (
            "data",
            format!(
                "{} records, {} tokens",
                count(plan.records as u64),
                count(plan.tokens)
            ),
        ),
        ("shares", shares(plan)),
        ("takes", takes.join(", ")),
        (
            "compute",
            format!(
                "{}, {} threads ({})",
                compute_name(settings.compute),
                settings.threads,
                job.precision.reason
            ),
        ),
        ("reads", reads + &format!(" in {passes}{way}")),
        ("writes", format!("{} at most", human(plan.bytes_written))),
        (
            "holds",
            format!(
                "{}, never more than {} of {}; {} is the least that works",
                human(plan.peak_memory),
                human(plan.memory_bound),
                human(settings.memory),
                human(plan.smallest_memory)
            ),
        ),
    ];
    if let Some(roofline) = times.roofline {
        let limit = limited_by(roofline);
        let least = seconds(roofline.seconds);
        let about = plan
            .seconds
            .map(|about| format!("about {}; ", seconds(about)));
        let about = about.unwrap_or_default();
        rows.push((
            "lasts",
            format!("{about}{least} at least, limited by {limit}"),
        ));
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| [name.to_owned(), value])
        .collect();
    table(&rows)
}

/// What is computed once for several records.
fn shares(plan: &Plan) -> String {
    match plan.not_shared {
        Some(reason) => format!("no common beginnings: {reason}"),
        None => format!(
            "common beginnings: {} tokens run, at most",
            count(plan.rows)
        ),
    }
}
