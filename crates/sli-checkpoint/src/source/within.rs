//! A folder inside another source.

use std::ops::Range;
use std::sync::Arc;

use super::mode::{CacheUse, ReadChoice};
use super::{Arrival, ByteSource, NamedRange, RangeRead, SourceError, Stamp, check_name};

/// The files of a source whose names begin with a folder, under the rest of their names.
#[derive(Debug)]
pub struct Within {
    inner: Arc<dyn ByteSource>,
    folder: String,
}

impl Within {
    /// The folder of `inner`, which is not empty.
    pub fn new(inner: Arc<dyn ByteSource>, folder: &str) -> Self {
        Self {
            inner,
            folder: folder.trim_end_matches('/').to_owned(),
        }
    }

    /// The name of a file in the source that the folder is in.
    fn name(&self, file: &str) -> Result<String, SourceError> {
        check_name(file, || self.describe())?;
        Ok(format!("{}/{file}", self.folder))
    }
}

impl ByteSource for Within {
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
        if folder.is_empty() {
            self.inner.list(&self.folder)
        } else {
            self.inner.list(&self.name(folder)?)
        }
    }

    fn len(&self, file: &str) -> Result<u64, SourceError> {
        self.inner.len(&self.name(file)?)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.inner.read_at(&self.name(file)?, offset, out)
    }

    fn read_ranges(&self, file: &str, ranges: &mut [RangeRead<'_>]) -> Result<(), SourceError> {
        self.inner.read_ranges(&self.name(file)?, ranges)
    }

    fn gap(&self) -> u64 {
        self.inner.gap()
    }

    fn advise_soon(&self, file: &str, range: Range<u64>) {
        if let Ok(name) = self.name(file) {
            self.inner.advise_soon(&name, range);
        }
    }

    fn advise_done(&self, file: &str, range: Range<u64>) {
        if let Ok(name) = self.name(file) {
            self.inner.advise_done(&name, range);
        }
    }

    fn choose_mode(&self, file: &str, cache: CacheUse) -> Result<Option<ReadChoice>, SourceError> {
        self.inner.choose_mode(&self.name(file)?, cache)
    }

    fn stamp(&self, file: &str) -> Option<Stamp> {
        self.inner.stamp(&self.name(file).ok()?)
    }

    fn fetch_ahead(&self, files: &[String], first: &[NamedRange]) -> Result<(), SourceError> {
        let names: Result<Vec<_>, _> = files.iter().map(|file| self.name(file)).collect();
        let first = first
            .iter()
            .map(|(file, range)| Ok((self.name(file)?, range.clone())));
        let first: Result<Vec<NamedRange>, SourceError> = first.collect();
        self.inner.fetch_ahead(&names?, &first?)
    }

    fn content_id(&self, file: &str) -> Option<String> {
        self.inner.content_id(&self.name(file).ok()?)
    }

    fn arrival(&self) -> Arrival {
        self.inner.arrival()
    }

    fn received(&self) -> u64 {
        self.inner.received()
    }

    fn memory(&self) -> u64 {
        self.inner.memory()
    }

    fn settle(&self) -> Result<(), SourceError> {
        self.inner.settle()
    }

    fn describe(&self) -> String {
        format!("{}/{}", self.inner.describe(), self.folder)
    }
}
