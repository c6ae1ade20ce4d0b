//! What a run would read, write, hold and take.

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use sli_engine::{Planned, compute_name};

use crate::cli::JobArgs;
use crate::code_pages;
use crate::error::Error;
use crate::host::Host;
use crate::job::Job;

/// A job that was planned.
pub struct Laid {
    /// The model and the dataset.
    pub job: Job,
    /// The plan.
    pub planned: Planned,
    /// Bytes that a run would fetch, where the model is elsewhere.
    pub to_fetch: Option<u64>,
}

/// Plans; nothing is run.
pub fn lay(arguments: &JobArgs, host: &dyn Host) -> Result<Laid, Error> {
    let job = Job::open(arguments, host)?;
    let folder = tempfile::tempdir().map_err(|source| Error::File {
        what: "cannot make a temporary folder",
        path: std::env::temp_dir(),
        source,
    })?;
    let began = Instant::now();
    let records = job.spool(folder.path(), host)?;
    let spooling = began.elapsed().as_secs_f64();
    // As a run does before it plans.
    code_pages::forget();
    let mut planned = job.session.plan(&records, host)?;
    // A run makes tokens of the dataset too, which has just been done.
    let seconds = &mut planned.plan.seconds;
    *seconds = seconds.map(|seconds| seconds + spooling);
    let to_fetch = job
        .named
        .to_fetch(job.session.model(), planned.plan.bytes_read)?;
    Ok(Laid {
        job,
        planned,
        to_fetch,
    })
}

/// A plan for machines.
#[derive(Serialize)]
struct Report<'a> {
    model_type: &'a str,
    takes: Vec<String>,
    compute: &'static str,
    /// Why.
    compute_reason: String,
    threads: usize,
    memory: u64,
    /// Bytes that a run would fetch, where the model is elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_fetch: Option<u64>,
    #[serde(flatten)]
    planned: &'a Planned,
}

/// What is planned, for machines.
pub fn report(laid: &Laid) -> Result<Value, Error> {
    let session = &laid.job.session;
    let settings = session.settings();
    let report = Report {
        model_type: &session.model().spec.model_type,
        takes: settings.takes.iter().map(ToString::to_string).collect(),
        compute: compute_name(settings.compute),
        compute_reason: session.precision().reason.to_string(),
        threads: settings.threads,
        memory: settings.memory,
        bytes_to_fetch: laid.to_fetch,
        planned: &laid.planned,
    };
    serde_json::to_value(report).map_err(|error| Error::Stdout(std::io::Error::other(error)))
}
