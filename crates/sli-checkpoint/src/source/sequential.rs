//! How fast a file is read from its beginning on.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use super::local::LocalSource;
use super::mode::ReadMode;
use super::speed::PIECE;
use super::{ByteSource, SourceError};

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
