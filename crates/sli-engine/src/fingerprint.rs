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
        Ok(text_of(&self.hasher))
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
    hasher_of(path).map(|hasher| text_of(&hasher))
}

/// A hasher that has seen a file's content.
pub(crate) fn hasher_of(path: &Path) -> Result<blake3::Hasher, DiskError> {
    let mut hasher = blake3::Hasher::new();
    each_piece(path, |_, piece| {
        hasher.update(piece);
    })?;
    Ok(hasher)
}

/// The hash of what a hasher has seen, in hexadecimal.
pub(crate) fn text_of(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex().to_string()
}

/// Shows a file's content from the first byte to the last, each piece with its place.
pub(crate) fn each_piece(path: &Path, mut see: impl FnMut(u64, &[u8])) -> Result<(), DiskError> {
    let file = File::open(path)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut at = 0;
    loop {
        buffer.clear();
        // In whole pieces, so that values are not torn.
        (&file).take(BUFFER as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(());
        }
        see(at, &buffer);
        at += buffer.len() as u64;
    }
}
