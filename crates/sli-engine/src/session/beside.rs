//! A session whose model is compared with that of another one, the reference, which runs first.

use std::path::Path;

use super::key::REFERENCE;
use super::{Session, Start, key};
use crate::drift::unlike;
use crate::error::EngineError;
use crate::journal::RunKey;
use crate::plan::PROGRAM_BYTES;
use crate::plan::{self, program_bytes};
use crate::records::RecordSpool;

impl Session {
    /// Refuses a reference of another shape, and makes room in both budgets for the other model.
    pub fn compare_with(&mut self, reference: &mut Self) -> Result<(), EngineError> {
        let problems = unlike(&reference.model.spec, &self.model.spec);
        if !problems.is_empty() {
            return Err(EngineError::Unlike {
                reference: reference.model.folder.path().to_path_buf(),
                model: self.model.folder.path().to_path_buf(),
                problems: problems.join("; "),
            });
        }
        let own = |session: &Self| program_bytes(&session.model).saturating_sub(PROGRAM_BYTES);
        let (ours, theirs) = (own(self), own(reference));
        self.settings.host_bytes += theirs;
        reference.settings.host_bytes += ours;
        Ok(())
    }

    /// As [`Self::go_on`], for both.
    pub fn go_on_beside(&mut self, reference: &mut Self, out: &Path) {
        self.go_on(out);
        let earlier = self.earlier.as_ref();
        reference.go_on_as(earlier.map(|earlier| earlier.under(REFERENCE)));
    }

    /// As [`Self::begin`]; whatever decides what the reference gives is in the key as well.
    pub fn begin_beside<'a>(
        &'a self,
        reference: &'a Self,
        out: &Path,
        dataset: &RunKey,
        fresh: bool,
    ) -> Result<Start<'a>, EngineError> {
        let mut theirs = dataset.clone();
        let Self {
            model,
            settings,
            earlier,
            ..
        } = reference;
        key::add(&mut theirs, model, settings, earlier.as_ref())?;
        let mut key = RunKey::new();
        key.add_under(REFERENCE, &theirs);
        self.begin_run(out, key, fresh, self.earlier.as_ref(), Some(reference))
    }

    /// As [`Self::begin`], in a folder of its own: what the run there has read counts, if there is one.
    pub fn begin_again(&self, out: &Path, dataset: RunKey) -> Result<Start<'_>, EngineError> {
        let earlier = RunKey::of_folder(out);
        self.begin_run(out, dataset, false, earlier.as_ref(), None)
    }

    /// Refuses a run over these records that does not fit the budget.
    pub fn check(&self, records: &RecordSpool) -> Result<(), EngineError> {
        plan::check(&self.model, records, &self.settings)
    }
}
