//! Storage.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sli_checkpoint::source::{Arrival, ReadMode, SourceError, sequential};

use crate::durable::{Disk, DiskError};
use crate::error::EngineError;
use crate::limits::Line;
use crate::model::Model;

/// Bytes that a measurement reads, at most, each way.
const MEASURED: u64 = 256 << 20;

/// Bytes that the quick look reads, each way.
const QUICK: u64 = 16 << 20;

/// Bytes that the quick look fetches where a model is elsewhere.
const LINE: usize = 4 << 20;

/// Name of the file that is written where there is none to read.
const FILE: &str = "disk-speed.tmp";

/// What a disk delivers to sequential reads of files that are not in the page cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskCeilings {
    /// The system's number of the device.
    pub device: u64,
    /// Bytes a second through the page cache.
    pub buffered: f64,
    /// Bytes a second around it (`O_DIRECT`), where the file system can.
    pub direct: Option<f64>,
}

impl DiskCeilings {
    /// Measures the disk of a folder on a file that is written there and removed.
    pub fn measure_folder(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join(FILE);
        let outcome = write_file(&path).map_err(|source| EngineError::File {
            path: path.clone(),
            source,
        });
        let outcome = outcome.and_then(|()| Self::measure_file(&path));
        // What cannot be removed is overwritten by the next measurement.
        let _ = fs_err::remove_file(&path);
        outcome
    }

    /// Measures the disk of a model on its largest weight file. Its pages leave the page cache.
    pub fn measure_model(model: &Model) -> Result<Option<Self>, EngineError> {
        match model.largest_file() {
            Some((path, size)) if size >= 2 * QUICK => Self::measure_file(&path).map(Some),
            _ => Ok(None),
        }
    }

    fn measure_file(path: &Path) -> Result<Self, EngineError> {
        let at = |source| EngineError::File {
            path: path.to_path_buf(),
            source,
        };
        let metadata = fs_err::metadata(path).map_err(at)?;
        let range = middle(metadata.len(), MEASURED);
        let best = |mode| {
            let mut best: Option<f64> = None;
            for streams in [1, 2] {
                let rate = sequential(path, range.clone(), mode, streams).map_err(checkpoint)?;
                best = best.into_iter().chain(rate).reduce(f64::max);
            }
            Ok::<_, EngineError>(best)
        };
        let buffered = best(ReadMode::Buffered)?.unwrap_or_default();
        Ok(Self {
            device: device(path).unwrap_or_default(),
            buffered,
            direct: best(ReadMode::Direct)?,
        })
    }

    /// Bytes a second, the better way.
    pub fn best(&self) -> f64 {
        self.direct.unwrap_or(0.0).max(self.buffered)
    }

    pub(super) fn is_sound(&self) -> bool {
        is_rate(self.buffered) && self.direct.is_none_or(is_rate)
    }
}

/// Whether this can be a rate.
pub(super) fn is_rate(rate: f64) -> bool {
    rate.is_finite() && rate > 0.0
}

/// Bytes a second from the middle of the largest weight file, the better way; `None` for small files.
pub(super) fn quick_bandwidth(model: &Model) -> Option<f64> {
    let (path, size) = model.largest_file()?;
    if size < 2 * QUICK {
        return None;
    }
    let modes = [ReadMode::Buffered, ReadMode::Direct];
    let rates = modes.map(|mode| sequential(&path, middle(size, QUICK), mode, 1));
    let rates = rates.into_iter().filter_map(|rate| rate.ok().flatten());
    rates.filter(|&rate| is_rate(rate)).reduce(f64::max)
}

/// The line that the weights of a model come over.
pub(super) fn line(model: &Model) -> Option<Line> {
    let rate = model.checkpoint.line_rate(LINE);
    let bytes_per_second = rate.filter(|&rate| is_rate(rate))?;
    let each_time = model.checkpoint.arrival() == Arrival::EachTime;
    Some(Line {
        bytes_per_second,
        each_time,
    })
}

/// The device that holds a file or folder.
pub(super) fn device(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(fs_err::metadata(path).ok()?.dev())
}

/// At most so many bytes in the middle of a file.
fn middle(size: u64, most: u64) -> Range<u64> {
    const ALIGNMENT: u64 = 1 << 20;
    let length = size.min(most);
    let start = (size - length) / 2 / ALIGNMENT * ALIGNMENT;
    start..start + length
}

/// Writes incompressible bytes and makes them durable: pages that are not written cannot be dropped.
fn write_file(path: &Path) -> std::io::Result<()> {
    let mut state = 1_u64;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    })
    .take(1 << 20)
    .collect();
    let outcome = Disk::real().write_durable(path, |out| {
        (0..MEASURED / block.len() as u64).try_for_each(|_| out.write_all(&block))
    });
    outcome.map_err(|error| match error {
        DiskError::Io(error) => error,
        full @ DiskError::Full { .. } => std::io::Error::other(full.to_string()),
    })
}

fn checkpoint(error: SourceError) -> EngineError {
    EngineError::Checkpoint(error.into())
}
