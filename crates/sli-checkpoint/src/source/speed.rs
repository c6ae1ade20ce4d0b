//! How fast a file is read, one way or the other, and which way to read a large one.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::{ByteSource, LocalSource, ReadMode, SourceError};

/// Bytes of one read.
const PIECE: usize = 4 << 20;

/// Reads of a probe, each way.
const PROBES: usize = 4;

/// How much faster direct reads must be to be chosen where the page cache has room.
const WORTH: f64 = 1.1;

/// How much faster than needed direct reads must be to be chosen for taking the processor less.
const AMPLE: f64 = 1.5;

/// Whether the page cache would be of use to whoever reads a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheUse {
    /// It has room for all of it.
    pub fits: bool,
    /// The file is read more than once.
    pub again: bool,
    /// It is read in pieces that are not large, each announced before.
    pub in_pieces: bool,
    /// Bytes a second that are enough because computing takes longer than reading, where that is known.
    pub enough: Option<f64>,
}

/// How large reads are done from now on, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadChoice {
    /// The way.
    pub mode: ReadMode,
    /// Bytes a second through the page cache, as it was found, where that was measured.
    pub buffered: Option<f64>,
    /// Bytes a second around it, where that was measured.
    pub direct: Option<f64>,
    /// The part of a processor that reading through the page cache took, 0 to 1, where that was measured.
    pub buffered_processor: Option<f64>,
    /// The part of a processor that reading around it took, 0 to 1, where that was measured.
    pub direct_processor: Option<f64>,
    /// Why this way.
    pub reason: &'static str,
}

impl ReadChoice {
    fn unmeasured(mode: ReadMode, reason: &'static str) -> Self {
        Self {
            mode,
            buffered: None,
            direct: None,
            buffered_processor: None,
            direct_processor: None,
            reason,
        }
    }
}

/// What reading took.
#[derive(Clone, Copy, Default)]
struct Took {
    seconds: f64,
    /// Of the reading thread on a processor.
    processor: f64,
}

impl Took {
    fn add(&mut self, read: impl FnOnce() -> Result<(), SourceError>) -> Result<(), SourceError> {
        let (start, processor) = (Instant::now(), processor_seconds());
        read()?;
        self.seconds += start.elapsed().as_secs_f64();
        self.processor += processor_seconds() - processor;
        Ok(())
    }

    /// Bytes a second of `bytes`.
    fn rate(self, bytes: usize) -> f64 {
        bytes as f64 / self.seconds.max(1e-9)
    }

    /// The part of a processor that was busy.
    fn share(self) -> f64 {
        self.processor / self.seconds.max(1e-9)
    }
}

/// Seconds that this thread has been on a processor, the system's work for it included.
fn processor_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
    // Direct reads are offered on Linux only: nothing to compare.
    #[cfg(not(target_os = "linux"))]
    0.0
}

/// Measures both ways on pieces all over a file of a folder, some megabytes each, and chooses.
pub(super) fn choose(
    folder: &Path,
    file: &str,
    cache: CacheUse,
) -> Result<ReadChoice, SourceError> {
    if cache.fits && cache.again {
        let reason = "read again, and the page cache has room";
        return Ok(ReadChoice::unmeasured(ReadMode::Buffered, reason));
    }
    let through_cache = if cache.fits {
        ReadMode::Buffered
    } else {
        ReadMode::BufferedDropBehind
    };
    if cache.in_pieces {
        let reason = "experts are announced, and the system fetches several at a time";
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    let buffered = LocalSource::with_mode(folder, ReadMode::Buffered);
    let direct = LocalSource::with_mode(folder, ReadMode::Direct);
    let size = buffered.len(file)?;
    if size < (2 * PROBES * PIECE) as u64 {
        let reason = "too small for it to matter";
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    if !direct.reads_directly(file)? {
        let reason = "the file system offers no direct reads";
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    let mut piece = vec![0; PIECE];
    let mut took = [Took::default(); 2];
    let stride = size / (2 * PROBES) as u64;
    for index in 0..2 * PROBES {
        let (way, source) = [&buffered, &direct]
            .into_iter()
            .enumerate()
            .nth(index % 2)
            .unwrap_or((0, &buffered));
        took[way].add(|| source.read_at(file, index as u64 * stride, &mut piece))?;
    }
    if !direct.reads_directly(file)? {
        let reason = "the file system refuses direct reads";
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    let [through, around] = took;
    let (buffered, direct) = (through.rate(PROBES * PIECE), around.rate(PROBES * PIECE));
    let worth = if cache.fits { WORTH } else { 1.0 };
    let ample = cache.enough.is_some_and(|enough| direct >= enough * AMPLE);
    let (mode, reason) = if direct >= buffered * worth {
        (ReadMode::Direct, "measured faster")
    } else if ample && around.processor < through.processor {
        let reason = "fast enough, and it leaves more of the processor to computing";
        (ReadMode::Direct, reason)
    } else {
        (through_cache, "direct reads measured slower")
    };
    Ok(ReadChoice {
        mode,
        buffered: Some(buffered),
        direct: Some(direct),
        buffered_processor: Some(through.share()),
        direct_processor: Some(around.share()),
        reason,
    })
}

/// Bytes a second that `streams` readers get from a range of a file, each from its own part; `None` where
/// the file cannot be read in that way. What the page cache has of the range is dropped first.
pub fn sequential(
    path: &Path,
    range: Range<u64>,
    mode: ReadMode,
    streams: usize,
) -> Result<Option<f64>, SourceError> {
    let not_there = || SourceError::NotFound {
        file: path.display().to_string(),
        place: ".".to_owned(),
    };
    let folder = path.parent().ok_or_else(not_there)?;
    let file = path.file_name().and_then(|name| name.to_str());
    let file = file.ok_or_else(not_there)?;
    let source = LocalSource::with_mode(folder, mode);
    if mode == ReadMode::Direct && !source.reads_directly(file)? {
        return Ok(None);
    }
    source.advise_done(file, range.clone());
    let share = (range.end - range.start) / streams.max(1) as u64;
    let start = Instant::now();
    let read = std::thread::scope(|scope| {
        let streams = (0..streams as u64).map(|stream| {
            let source = &source;
            let first = range.start + stream * share;
            scope.spawn(move || -> Result<u64, SourceError> {
                let mut piece = vec![0; PIECE];
                let pieces = share / PIECE as u64;
                for index in 0..pieces {
                    source.read_at(file, first + index * PIECE as u64, &mut piece)?;
                }
                Ok(pieces * PIECE as u64)
            })
        });
        let streams: Vec<_> = streams.collect();
        let mut read = 0;
        for stream in streams {
            read += stream.join().map_err(|_| SourceError::Io {
                file: file.to_owned(),
                place: folder.display().to_string(),
                error: io::Error::other("a reader ended early"),
            })??;
        }
        Ok::<_, SourceError>(read)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let still = mode != ReadMode::Direct || source.reads_directly(file)?;
    Ok((read > 0 && still).then(|| read as f64 / seconds.max(1e-9)))
}
