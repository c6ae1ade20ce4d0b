//! A run: begun, gone on with, or finished before.

use std::path::Path;

use sli_engine::journal::Manifest;
use sli_engine::{Start, Summary};

use super::again::or_afresh;
use crate::cli::RunArgs;
use crate::code_pages;
use crate::dataset_key::dataset_key;
use crate::error::Error;
use crate::host::Host;
use crate::job::Job;

/// How a run ended.
pub enum Ran {
    /// It was done, or the rest of it.
    Done(Box<Done>),
    /// It was finished already.
    Finished {
        /// The model and the dataset.
        job: Box<Job>,
        /// What was written.
        manifest: Box<Manifest>,
    },
}

/// What was done.
pub struct Done {
    /// The model and the dataset.
    pub job: Job,
    /// What it took.
    pub summary: Summary,
}

/// Runs, or goes on with, a run.
pub fn run(arguments: &RunArgs, host: &dyn Host) -> Result<Ran, Error> {
    or_afresh(arguments.fresh, "the run", host, |fresh| {
        let job = Job::open(&arguments.job, host)?;
        carry_out(job, &arguments.out, fresh, host)
    })
}

/// Runs a job into a folder, or goes on with it.
pub(super) fn carry_out(
    mut job: Job,
    out: &Path,
    fresh: bool,
    host: &dyn Host,
) -> Result<Ran, Error> {
    if !fresh {
        job.session.go_on(out);
    }
    let dataset = dataset_key(&job)?;
    let begun = match job.session.begin(out, dataset, fresh)? {
        Start::Begun(begun) => begun,
        Start::Finished(manifest) => {
            let manifest = Box::new(manifest);
            return Ok(Ran::Finished {
                job: Box::new(job),
                manifest,
            });
        }
    };
    host.begun(None);
    let run = begun.read(|folder| {
        job.named.announce(host);
        job.spool(folder, host)
    })?;
    if let Some(done) = run.records_done() {
        host.begun(Some((done, run.records().len() as u64)));
    }
    code_pages::forget();
    let summary = run.finish(host)?;
    Ok(Ran::Done(Box::new(Done { job, summary })))
}
