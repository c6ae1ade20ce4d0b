//! `sli plan`: what a run would read, write, hold and take.

use serde::Serialize;
use sli_engine::bytes::human;
use sli_engine::{Plan, Settings};

use super::table::table;
use crate::cli::PlanArgs;
use crate::error::Error;
use crate::job::Job;
use crate::progress::{count, duration};
use crate::roofline::Roofline;
use crate::run_key::compute_name;
use crate::terminal;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model_type: &'a str,
    takes: Vec<String>,
    compute: &'static str,
    threads: usize,
    memory: u64,
    #[serde(flatten)]
    plan: &'a Plan,
    /// The least time that this machine can take.
    roofline: Roofline,
}

/// Plans and says so; nothing is run.
pub fn plan(arguments: &PlanArgs) -> Result<(), Error> {
    let job = Job::open(&arguments.job)?;
    let folder = tempfile::tempdir().map_err(|source| Error::File {
        what: "cannot make a temporary folder",
        path: std::env::temp_dir(),
        source,
    })?;
    let records = job.spool(folder.path())?;
    let plan = sli_engine::plan(&job.model, &records, &job.settings)?;
    let roofline = Roofline::measure(&job.model, &job.settings, &plan);
    if arguments.json {
        let report = Report {
            model_type: &job.model.spec.model_type,
            takes: job.settings.takes.iter().map(ToString::to_string).collect(),
            compute: compute_name(job.settings.compute),
            threads: job.settings.threads,
            memory: job.settings.memory,
            plan: &plan,
            roofline,
        };
        return terminal::print_json(&report);
    }
    terminal::print(&describe(&job.settings, &plan, &roofline))
}

fn describe(settings: &Settings, plan: &Plan, roofline: &Roofline) -> String {
    let takes: Vec<String> = settings.takes.iter().map(ToString::to_string).collect();
    let limit = if roofline.is_reading() {
        "reading the weights"
    } else {
        "arithmetic"
    };
    let passes = match plan.super_batches {
        1 => "1 pass over the weights".to_owned(),
        more => format!(
            "{} passes over the weights, {} tokens each at most",
            count(more as u64),
            count(plan.super_batch_tokens as u64)
        ),
    };
    let rows = [
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
                "{}, {} threads",
                compute_name(settings.compute),
                settings.threads
            ),
        ),
        ("reads", format!("{} in {passes}", human(plan.bytes_read))),
        ("writes", format!("{} at most", human(plan.bytes_written))),
        (
            "holds",
            format!(
                "{} of {}; {} is the least that works",
                human(plan.peak_memory),
                human(settings.memory),
                human(plan.smallest_memory)
            ),
        ),
        (
            "takes at least",
            format!("{}, limited by {limit}", duration(roofline.time())),
        ),
    ];
    table(&rows.map(|(name, value)| [name.to_owned(), value]))
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
