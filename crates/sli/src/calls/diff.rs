//! Two checkpoints of a model, compared over a dataset.

use std::path::Path;

use sli_engine::records::RecordSpool;
use sli_engine::take::Take;
use sli_engine::{EngineError, Start, reference_folder, reference_records};

use super::again::or_afresh;
use super::run::{Done, Ran};
use crate::cli::DiffArgs;
use crate::code_pages;
use crate::dataset_key::dataset_key;
use crate::error::Error;
use crate::host::Host;
use crate::job::Job;
use crate::tokenizer::TokenizerError;

/// Compares, or goes on with it. The job of the outcome is that of the model that is compared.
pub fn diff(arguments: &DiffArgs, host: &dyn Host) -> Result<Ran, Error> {
    or_afresh(arguments.fresh, "the comparison", host, |fresh| {
        diff_once(arguments, fresh, host)
    })
}

fn diff_once(arguments: &DiffArgs, fresh: bool, host: &dyn Host) -> Result<Ran, Error> {
    let mut reference = Job::open(&arguments.job(&arguments.reference, Take::Trace), host)?;
    let mut job = Job::open(&arguments.job(&arguments.model, Take::Drift), host)?;
    job.compare_with(&mut reference)?;
    if !fresh {
        job.session
            .go_on_beside(&mut reference.session, &arguments.out);
    }
    let dataset = dataset_key(&reference)?;
    let start = job
        .session
        .begin_beside(&reference.session, &arguments.out, &dataset, fresh)?;
    let begun = match start {
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
    let work = begun.work_dir().to_owned();
    let records = reference_records(&work);
    let run = begun.read(|folder| {
        reference.named.announce(host);
        job.named.announce(host);
        let spool = reference.spool(&records, host)?;
        if !arguments.reference_tokens {
            same_tokens(&reference, &job, &spool, host)?;
        }
        let doubled = spool.doubled(folder, &job.session.model().spec)?;
        fits(&reference, &spool, &job, &doubled)?;
        Ok::<_, Error>(doubled)
    })?;
    lead(&reference, &work, host)?;
    if let Some(done) = run.records_done() {
        host.begun(Some((done / 2, run.records().len() as u64 / 2)));
    }
    code_pages::forget();
    let summary = run.finish(host)?;
    Ok(Ran::Done(Box::new(Done { job, summary })))
}

/// Refuses a budget in which one of the two runs does not fit, with the one in which both do.
fn fits(
    reference: &Job,
    records: &RecordSpool,
    job: &Job,
    doubled: &RecordSpool,
) -> Result<(), EngineError> {
    let all = [reference.session.check(records), job.session.check(doubled)];
    let mut most = None;
    for checked in all {
        match checked {
            Err(EngineError::Budget { given, needed }) => {
                let known = most.map_or(0, |(_, known)| known);
                most = Some((given, needed.max(known)));
            }
            other => other?,
        }
    }
    match most {
        Some((given, needed)) => Err(EngineError::Budget { given, needed }),
        None => Ok(()),
    }
}

/// Runs the reference, or the rest of it, in the work folder of the comparison.
fn lead(reference: &Job, work: &Path, host: &dyn Host) -> Result<(), Error> {
    let folder = reference_folder(work);
    let dataset = dataset_key(reference)?;
    let Start::Begun(begun) = reference.session.begin_again(&folder, dataset)? else {
        return Ok(());
    };
    let run = begun.read(|_| {
        let path = reference_records(work);
        match RecordSpool::open(&path)? {
            Some(records) => Ok(records),
            None => reference.spool(&path, host),
        }
    })?;
    code_pages::forget();
    run.finish(host)?;
    Ok(())
}

/// Refuses data of which the tokenizers of the two make other tokens. A model that has no tokenizer gets those of the reference.
fn same_tokens(
    reference: &Job,
    job: &Job,
    records: &RecordSpool,
    host: &dyn Host,
) -> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(|source| Error::File {
        what: "cannot make a temporary folder",
        path: std::env::temp_dir(),
        source,
    })?;
    let own = match job.spool(folder.path(), host) {
        Ok(own) => own,
        Err(Error::Tokenizer(TokenizerError::Absent { folder })) => {
            host.note(&format!(
                "{} has no tokenizer: both run over the tokens that the reference's gives",
                folder.display()
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let Some((record, problem)) = records.difference(&own)? else {
        return Ok(());
    };
    let [theirs, ours] = [reference, job].map(|job| job.session.model().folder.path().to_owned());
    Err(EngineError::OtherTokens {
        reference: theirs,
        model: ours,
        problem: format!("record {record}, {problem}"),
    }
    .into())
}
