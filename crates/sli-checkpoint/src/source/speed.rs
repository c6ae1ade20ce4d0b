//! How fast a file is read, one way or the other, and which way to read a large one.

use std::time::Instant;

use super::mode::{CacheUse, ReadChoice, ReadMode};
use super::{ByteSource, SourceError};

/// Bytes of one read.
pub(super) const PIECE: usize = 4 << 20;

/// Reads of a probe, each way.
const PROBES: usize = 4;

/// How much faster direct reads must be to be chosen where the page cache has room.
const WORTH: f64 = 1.1;

/// How much faster than needed direct reads must be to be chosen for taking the processor less.
const AMPLE: f64 = 1.5;

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

/// A file to be read through the page cache and around it.
pub(super) struct Ways<'s, S> {
    pub file: &'s str,
    pub buffered: &'s S,
    pub direct: &'s S,
    /// Whether large reads of `direct` go around the page cache, as far as is known.
    pub is_direct: &'s dyn Fn() -> Result<bool, SourceError>,
}

/// Measures both ways on pieces all over a file, some megabytes each, and chooses.
pub(super) fn choose<S: ByteSource>(
    ways: &Ways<'_, S>,
    cache: CacheUse,
) -> Result<ReadChoice, SourceError> {
    let &Ways {
        file,
        buffered,
        direct,
        is_direct,
    } = ways;
    if cache.fits && cache.again {
        let reason = "read again, and the page cache has room";
        return Ok(ReadChoice::unmeasured(ReadMode::Buffered, reason));
    }
    let through_cache = if cache.fits {
        ReadMode::Buffered
    } else {
        ReadMode::BufferedDropBehind
    };
    if let Some(reason) = cache.in_pieces {
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    let size = buffered.len(file)?;
    if size < (2 * PROBES * PIECE) as u64 {
        let reason = "too small for it to matter";
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    if !is_direct()? {
        let reason = "the file system offers no direct reads";
        return Ok(ReadChoice::unmeasured(through_cache, reason));
    }
    let mut piece = vec![0; PIECE];
    let mut took = [Took::default(); 2];
    let stride = size / (2 * PROBES) as u64;
    for index in 0..2 * PROBES {
        let (way, source) = [buffered, direct]
            .into_iter()
            .enumerate()
            .nth(index % 2)
            .unwrap_or((0, buffered));
        took[way].add(|| source.read_at(file, index as u64 * stride, &mut piece))?;
    }
    if !is_direct()? {
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
