//! A run and its folder: begun, gone on with, or finished before.

use std::path::Path;
use std::time::Instant;

use super::Session;
use super::key::REFERENCE;
use crate::error::EngineError;
use crate::journal::{Manifest, OutputFolder};
use crate::plan;
use crate::records::RecordSpool;
use crate::settings::{Observer, Settings};
use crate::summary::Summary;
use crate::sweep;

/// Folder of the spooled records inside the work folder.
const SPOOL: &str = "records";

/// What the folder of a run is when it is opened.
pub enum Start<'a> {
    /// The run is to be done, or the rest of it.
    Begun(Box<Begun<'a>>),
    /// The same run, complete; nothing is done.
    Finished(Manifest),
}

/// A run that holds its folder and has no records yet.
pub struct Begun<'a> {
    pub(super) session: &'a Session,
    /// The model that it is compared with.
    pub(super) reference: Option<&'a Session>,
    pub(super) folder: OutputFolder,
    /// The folder was there before.
    pub(super) existed: bool,
    /// An earlier process began.
    pub(super) resumed: bool,
}

impl<'a> Begun<'a> {
    /// A place for files of the run; it goes when the run is finished.
    pub fn work_dir(&self) -> &Path {
        self.folder.work_dir()
    }

    /// Takes the records that an earlier process made, or those that `spool` makes; it may put them into the folder that it
    /// gets. What does not fit the budget is refused, as by [`Session::plan`]. A run that cannot begin leaves nothing
    /// behind; one that has begun is never discarded.
    pub fn read<E: From<EngineError>>(
        mut self,
        spool: impl FnOnce(&Path) -> Result<RecordSpool, E>,
    ) -> Result<Run<'a>, E> {
        // Weights that are elsewhere arrive while records become tokens.
        let model = &self.session.model;
        let coming = model.fetch_ahead().map_err(E::from);
        let records = coming
            .and_then(|()| self.records(spool))
            .and_then(|records| {
                plan::check(&self.session.model, &records, &self.session.settings)?;
                Ok(records)
            });
        let Self {
            session,
            folder,
            existed,
            resumed,
            ..
        } = self;
        match records {
            Ok(records) => Ok(Run {
                session,
                folder,
                records,
                resumed,
            }),
            Err(error) => {
                if !resumed {
                    discard(folder, existed);
                }
                Err(error)
            }
        }
    }

    fn records<E: From<EngineError>>(
        &mut self,
        spool: impl FnOnce(&Path) -> Result<RecordSpool, E>,
    ) -> Result<RecordSpool, E> {
        let path = self.folder.work_dir().join(SPOOL);
        if let Some(records) = RecordSpool::open(&path).map_err(EngineError::from)? {
            return Ok(records);
        }
        let began = Instant::now();
        let records = spool(&path)?;
        self.folder.progress_mut().spent.stages.prepare += began.elapsed().as_secs_f64();
        // From here on a kill does not cost the tokens again.
        self.folder.add_files(&self.session.model.home.record());
        if let Some(reference) = self.reference {
            let record = reference.model.home.record();
            self.folder.add_files_under(REFERENCE, &record);
        }
        self.folder.checkpoint().map_err(EngineError::from)?;
        Ok(records)
    }
}

/// Removes what a run left that could not start.
fn discard(folder: OutputFolder, existed: bool) {
    let (out, work) = (folder.path().to_path_buf(), folder.work_dir().to_path_buf());
    // What cannot be removed is overwritten by the next run.
    let _ = fs_err::remove_dir_all(work);
    if !existed {
        let _ = fs_err::remove_dir(out);
    }
    drop(folder);
}

/// A run that can go.
pub struct Run<'a> {
    session: &'a Session,
    folder: OutputFolder,
    records: RecordSpool,
    resumed: bool,
}

impl Run<'_> {
    /// A place for files of the run; it goes when the run is finished.
    pub fn work_dir(&self) -> &Path {
        self.folder.work_dir()
    }

    /// What it runs over.
    pub fn records(&self) -> &RecordSpool {
        &self.records
    }

    /// Records whose results are complete, of a run that an earlier process began; `None`: this one begins it.
    pub fn records_done(&self) -> Option<u64> {
        self.resumed.then(|| self.folder.progress().records_done)
    }

    /// Runs to the end, which [`Observer::interrupted`] may bring about; the results are in the folder then.
    pub fn finish(self, observer: &dyn Observer) -> Result<Summary, EngineError> {
        let session = self.session;
        let settings = Settings {
            machine: session.machine(observer),
            ..session.settings.clone()
        };
        let summary = sweep::run(
            &session.model,
            &self.records,
            &settings,
            self.folder,
            observer,
        )?;
        session.doubt(&summary, observer);
        Ok(summary)
    }
}
