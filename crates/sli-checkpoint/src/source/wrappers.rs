//! Sources around a source: pointers to it, counting, failing, slow.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Arrival, ByteSource, CacheUse, NamedRange, RangeRead, ReadChoice, SourceError, Stamp};

/// All methods of a source but those that read, which hands them on to the source that `$inner` is of `$this`.
macro_rules! handed_on {
    (|$this:ident| $inner:expr) => {
        fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
            let $this = self;
            $inner.list(folder)
        }
        fn len(&self, file: &str) -> Result<u64, SourceError> {
            let $this = self;
            $inner.len(file)
        }
        fn gap(&self) -> u64 {
            let $this = self;
            $inner.gap()
        }
        fn advise_soon(&self, file: &str, range: Range<u64>) {
            let $this = self;
            $inner.advise_soon(file, range);
        }
        fn advise_done(&self, file: &str, range: Range<u64>) {
            let $this = self;
            $inner.advise_done(file, range);
        }
        fn choose_mode(
            &self,
            file: &str,
            cache: CacheUse,
        ) -> Result<Option<ReadChoice>, SourceError> {
            let $this = self;
            $inner.choose_mode(file, cache)
        }
        fn stamp(&self, file: &str) -> Option<Stamp> {
            let $this = self;
            $inner.stamp(file)
        }
        fn fetch_ahead(&self, files: &[String], first: &[NamedRange]) -> Result<(), SourceError> {
            let $this = self;
            $inner.fetch_ahead(files, first)
        }
        fn arrival(&self) -> Arrival {
            let $this = self;
            $inner.arrival()
        }
        fn received(&self) -> u64 {
            let $this = self;
            $inner.received()
        }
        fn memory(&self) -> u64 {
            let $this = self;
            $inner.memory()
        }
        fn content_id(&self, file: &str) -> Option<String> {
            let $this = self;
            $inner.content_id(file)
        }
        fn settle(&self) -> Result<(), SourceError> {
            let $this = self;
            $inner.settle()
        }
        fn describe(&self) -> String {
            let $this = self;
            $inner.describe()
        }
        fn exists(&self, file: &str) -> Result<bool, SourceError> {
            let $this = self;
            $inner.exists(file)
        }
    };
}

/// Boxes, shared pointers and references.
impl<P: Deref<Target: ByteSource> + Debug + Send + Sync> ByteSource for P {
    handed_on!(|this| (**this));

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        (**self).read_at(file, offset, out)
    }
    fn read_ranges(&self, file: &str, ranges: &mut [RangeRead<'_>]) -> Result<(), SourceError> {
        (**self).read_ranges(file, ranges)
    }
}

/// What was read of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// Number of reads.
    pub reads: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Every range, in order of the reads.
    pub ranges: Vec<Range<u64>>,
}

/// Counts the reads of every file.
#[derive(Debug)]
pub struct CountingSource<S> {
    inner: S,
    counts: Mutex<BTreeMap<String, FileCount>>,
}

impl<S> CountingSource<S> {
    /// Counts from zero.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
        }
    }

    /// What was read so far, by file.
    pub fn counts(&self) -> BTreeMap<String, FileCount> {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.counts().values().map(|count| count.bytes).sum()
    }

    /// Starts again from zero.
    pub fn reset(&self) {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl<S: ByteSource> ByteSource for CountingSource<S> {
    handed_on!(|this| this.inner);

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.inner.read_at(file, offset, out)?;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(file.to_owned()).or_default();
        count.reads += 1;
        count.bytes += out.len() as u64;
        count
            .ranges
            .push(offset..offset.saturating_add(out.len() as u64));
        Ok(())
    }
}

/// Fails after a number of good reads, and then always, as a lost disk does.
#[derive(Debug)]
pub struct FailingSource<S> {
    inner: S,
    left: Mutex<u64>,
    kind: io::ErrorKind,
}

impl<S> FailingSource<S> {
    /// The first `good_reads` succeed; later ones fail with `kind`.
    pub fn new(inner: S, good_reads: u64, kind: io::ErrorKind) -> Self {
        Self {
            inner,
            left: Mutex::new(good_reads),
            kind,
        }
    }
}

impl<S: ByteSource> ByteSource for FailingSource<S> {
    handed_on!(|this| this.inner);

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(next) = left.checked_sub(1) else {
                return Err(SourceError::Io {
                    file: file.to_owned(),
                    place: self.inner.describe(),
                    error: self.kind.into(),
                });
            };
            *left = next;
        }
        self.inner.read_at(file, offset, out)
    }
}

/// A disk or line of a given speed, shared by all readers.
#[derive(Debug)]
pub struct ThrottledSource<S> {
    inner: S,
    latency: Duration,
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl<S> ThrottledSource<S> {
    /// Every read takes `latency` and then its bytes at `bytes_per_second`, one read at a time.
    pub fn new(inner: S, latency: Duration, bytes_per_second: u64) -> Self {
        Self {
            inner,
            latency,
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::default(),
        }
    }
}

impl<S: ByteSource> ByteSource for ThrottledSource<S> {
    handed_on!(|this| this.inner);

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let transfer = Duration::from_secs_f64(out.len() as f64 / self.bytes_per_second as f64);
        let done = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(start + transfer);
            start + transfer + self.latency
        };
        self.inner.read_at(file, offset, out)?;
        std::thread::sleep(done.saturating_duration_since(Instant::now()));
        Ok(())
    }
}
