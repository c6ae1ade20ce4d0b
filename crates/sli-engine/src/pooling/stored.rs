//! A weight of a module that is known to be there.

use std::path::PathBuf;

use sli_checkpoint::{Checkpoint, CheckpointError, ModelFolder};
use sli_kernels::Element;

/// A tensor that is known to be in a file, with this shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(super) file: PlacedFile,
    pub(super) name: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
}

/// A weights file of a folder, wherever that is.
#[derive(Clone, Debug)]
pub(crate) struct PlacedFile {
    pub(super) folder: ModelFolder,
    pub(super) name: String,
}

impl PartialEq for PlacedFile {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl PlacedFile {
    pub fn open(&self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_file(Box::new(self.folder.source()), &self.name)
    }

    /// For messages.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}
