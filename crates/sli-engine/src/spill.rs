//! Activations on disk: the slots of a super-batch that is larger than memory, part by part.

use std::path::{Path, PathBuf};

use crate::durable::{DiskError, DiskFile};
use crate::exec::Slots;
use crate::floats;
use crate::journal::OutputFolder;

/// Values that are converted at a time.
const PIECE: usize = 1 << 16;

/// Share of a disk's free space that activations may take: the rest is for results.
const SHARE: f64 = 0.5;

/// Bytes that may be spilled into a folder.
pub(crate) fn room(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |disk| {
        (disk.f_bavail as f64 * disk.f_frsize as f64 * SHARE) as u64
    })
}

/// A scratch file of slots `[tokens, hidden]`. It is not part of the results and need not outlive
/// the process: checkpoints save the activations themselves.
pub(crate) struct SpillFile {
    file: DiskFile,
}

impl SpillFile {
    /// Creates a file of this name in the work folder.
    pub fn create(folder: &OutputFolder, name: &str) -> Result<Self, DiskError> {
        let path: PathBuf = folder.work_dir().join(name);
        Ok(Self {
            file: folder.disk().create(&path)?,
        })
    }

    /// Writes the slots of the part whose first row is number `first` of the super-batch.
    pub fn save(&self, first: usize, slots: &Slots) -> Result<(), DiskError> {
        let mut start = first * slots.row_values();
        for mat in slots.spilled() {
            self.write(start, mat.as_slice())?;
            start += mat.as_slice().len();
        }
        Ok(())
    }

    /// Writes values behind the first `start` ones.
    pub fn write(&self, start: usize, values: &[f32]) -> Result<(), DiskError> {
        let mut offset = (start * 4) as u64;
        let mut bytes = Vec::with_capacity(PIECE * 4);
        for values in values.chunks(PIECE) {
            bytes.clear();
            floats::write(values, &mut bytes);
            self.file.write_all_at(&bytes, offset)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Reads back what [`Self::save`] wrote; the slots have their shapes.
    pub fn load(&self, first: usize, slots: &mut Slots) -> Result<(), DiskError> {
        let mut start = first * slots.row_values();
        for mat in slots.spilled_mut() {
            self.read(start, mat.as_mut_slice())?;
            start += mat.as_slice().len();
        }
        Ok(())
    }

    /// Reads values behind the first `start` ones.
    pub fn read(&self, start: usize, values: &mut [f32]) -> Result<(), DiskError> {
        let mut offset = (start * 4) as u64;
        let mut bytes = vec![0; PIECE * 4];
        for values in values.chunks_mut(PIECE) {
            let raw = &mut bytes[..values.len() * 4];
            self.file.read_exact_at(raw, offset)?;
            offset += raw.len() as u64;
            floats::read(raw, values);
        }
        Ok(())
    }
}
