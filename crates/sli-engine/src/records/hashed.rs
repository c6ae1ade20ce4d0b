//! Files that are hashed as they are written.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::durable::{Disk, DiskError, DiskFile};
use crate::results::ResultsError;

pub(super) const BUFFER: usize = 1 << 16;

/// A file that is hashed as it is written.
pub(super) struct HashedFile {
    pub(super) writer: BufWriter<DiskFile>,
    pub(super) hasher: Box<blake3::Hasher>,
    pub(super) length: u64,
}

impl HashedFile {
    pub(super) fn create(disk: &Disk, path: &Path) -> Result<Self, ResultsError> {
        let writer = BufWriter::with_capacity(BUFFER, disk.create(path)?);
        Ok(Self {
            writer,
            hasher: Box::new(blake3::Hasher::new()),
            length: 0,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ResultsError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.writer.write_all(bytes).map_err(DiskError::from)?;
        Ok(())
    }

    pub(super) fn write_u32s(&mut self, values: &[u32]) -> Result<(), ResultsError> {
        if cfg!(target_endian = "little") {
            return self.write(bytemuck::cast_slice(values));
        }
        values
            .iter()
            .try_for_each(|value| self.write(&value.to_le_bytes()))
    }

    pub(super) fn write_zeros(&mut self, mut count: u64) -> Result<(), ResultsError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let step = count.min(ZEROS.len() as u64);
            self.write(&ZEROS[..step as usize])?;
            count -= step;
        }
        Ok(())
    }

    /// Length and hash, once the content is durable.
    pub(super) fn finish(self) -> Result<(u64, String), ResultsError> {
        let file = self
            .writer
            .into_inner()
            .map_err(|error| DiskError::from(error.into_error()))?;
        file.sync()?;
        Ok((self.length, self.hasher.finalize().to_hex().to_string()))
    }
}
