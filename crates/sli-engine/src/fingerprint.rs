//! Hashes of files: as they are written, and of what is there.

use std::io::{self, Read, Write};
use std::path::Path;

use fs_err::File;

use crate::durable::{DiskError, DiskFile};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// A result file that is written from its beginning to its end, with the hash of what was written.
pub struct Fingerprinted {
    file: DiskFile,
    hasher: blake3::Hasher,
}

impl Fingerprinted {
    /// Of a file in which nothing is written yet.
    pub fn new(file: DiskFile) -> Self {
        Self {
            file,
            hasher: blake3::Hasher::new(),
        }
    }

    /// The hash, once the content is durable.
    pub fn finish(self) -> Result<String, DiskError> {
        self.file.sync()?;
        Ok(self.hasher.finalize().to_hex().to_string())
    }
}

impl Write for Fingerprinted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// blake3 of a file's content, in hexadecimal.
pub(crate) fn of_file(path: &Path) -> Result<String, DiskError> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            length => hasher.update(buffer.get(..length).unwrap_or_default()),
        };
    }
}
