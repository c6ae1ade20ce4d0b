//! How many layer passes a run has begun, over all processes that worked on it.
//!
//! Killed processes count too, so the difference to an undisturbed run is what interruptions cost. The
//! count is a file in the work folder that grows by a byte a pass; it is not synced, so a loss of power may
//! take some of it.

use crate::durable::{DiskError, DiskFile};
use crate::journal::OutputFolder;

/// The count of a run at work.
pub(crate) struct Tally {
    file: DiskFile,
    begun: u64,
}

impl Tally {
    /// Starts or goes on counting.
    pub fn open(folder: &OutputFolder) -> Result<Self, DiskError> {
        let path = folder.work_dir().join("passes");
        let file = if path.exists() {
            folder.disk().open(&path)?
        } else {
            folder.disk().create(&path)?
        };
        let begun = file.length()?;
        Ok(Self { file, begun })
    }

    /// A super-batch enters a layer.
    pub fn begin(&mut self) -> Result<(), DiskError> {
        self.file.write_all_at(b".", self.begun)?;
        self.begun += 1;
        Ok(())
    }

    /// Layer passes so far.
    pub fn begun(&self) -> u64 {
        self.begun
    }
}
