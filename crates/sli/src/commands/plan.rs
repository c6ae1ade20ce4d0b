//! `sli plan`: what a run would read, write, hold and take.

use std::time::Duration;

use sli_engine::bytes::human;
use sli_engine::{Plan, Planned, compute_name};

use super::reading;
use super::table::table;
use crate::calls;
use crate::cli::PlanArgs;
use crate::error::Error;
use crate::job::Job;
use crate::machine::limited_by;
use crate::progress::{Screen, count, duration};
use crate::terminal;

/// Plans and says so; nothing is run.
pub fn plan(arguments: &PlanArgs) -> Result<(), Error> {
    let laid = calls::lay(&arguments.job, &Screen::default())?;
    if arguments.json {
        return terminal::print_json(&calls::report(&laid)?);
    }
    terminal::print(&describe(&laid.job, &laid.planned, laid.to_fetch))
}

fn describe(job: &Job, planned: &Planned, to_fetch: Option<u64>) -> String {
    let (plan, settings) = (&planned.plan, job.session.settings());
    let takes: Vec<String> = settings.takes.iter().map(ToString::to_string).collect();
    let way = planned.reading.as_ref().map(reading::describe);
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
                job.session.precision().reason
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
    if let Some(bytes) = to_fetch {
        let place = job.named.place.path();
        let kept = if job.named.keeps() {
            "kept on disk"
        } else {
            "not kept"
        };
        let said = format!(
            "{} over the network from {}, {kept}",
            human(bytes),
            place.display()
        );
        rows.insert(rows.len() - 2, ("fetches", said));
    }
    if let Some(most) = plan.cut_tokens {
        let most = count(most as u64);
        rows.insert(
            2,
            (
                "cuts",
                format!(
                    "records of more than {most} tokens, into pieces that move to disk and back"
                ),
            ),
        );
    }
    if let Some(roofline) = &planned.roofline {
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
    let run = count(plan.rows);
    match (plan.shared_pictures, plan.not_shared) {
        (false, Some(reason)) => format!("no common beginnings: {reason}"),
        (false, None) => format!("common beginnings: {run} tokens run, at most"),
        (true, Some(reason)) => {
            format!("equal pictures: {run} tokens run, at most; no common beginnings: {reason}")
        }
        (true, None) => {
            format!("equal pictures and common beginnings: {run} tokens run, at most")
        }
    }
}
