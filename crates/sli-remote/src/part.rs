//! A part of a file on the disk of the cache, and which of its pieces are there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::bitmap::{Bitmap, PIECE};
use crate::disk::{failed, with_suffix};
use crate::error::RemoteError;
use crate::lock::Lock;
use crate::shelf::{PIECES, Shelf};
use crate::store::Entry;

/// A file that this process fetches. Nobody else does while this is there.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    pieces: File,
    is_reserved: AtomicBool,
    _lock: Lock,
}

impl Part {
    /// Goes on with what an earlier process left, or begins. Without a sum nothing tells whether the disk has what the
    /// pieces say, so such a file begins anew.
    pub fn go_on(shelf: &Shelf, entry: &Entry, lock: Lock) -> Result<(Self, Bitmap), RemoteError> {
        let mut best: Option<(PathBuf, Bitmap)> = None;
        for path in shelf.left(entry)? {
            let Some(have) = pieces_of(&path, entry.size) else {
                continue;
            };
            let fewer = |best: &(PathBuf, Bitmap)| best.1.count() < have.count();
            let worse = if entry.sum.is_some() && best.as_ref().is_none_or(fewer) {
                best.replace((path, have)).map(|(path, _)| path)
            } else {
                Some(path)
            };
            if let Some(path) = worse {
                for file in [with_suffix(&path, PIECES), path] {
                    fs_err::remove_file(&file).map_err(failed(&file))?;
                }
            }
        }
        let (path, have) = match best {
            Some(found) => found,
            None => (shelf.fresh(entry)?, Bitmap::of(entry.size)),
        };
        let part = Self {
            file: open(&path, entry.size)?,
            pieces: open(&with_suffix(&path, PIECES), have.bytes().len() as u64)?,
            path,
            is_reserved: AtomicBool::new(false),
            _lock: lock,
        };
        part.keep_all(&have)?;
        Ok((part, have))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the disk keep room for all of it, which makes writing pieces several times as fast. Only for what is to come
    /// whole: headers of a large model that are looked at must not fill the disk.
    pub fn reserve(&self) -> std::io::Result<()> {
        if self.is_reserved.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        match fallocate(self.file.file(), FallocateFlags::empty(), 0, length) {
            // File systems that cannot do so write as they can.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            reserved => Ok(reserved?),
        }
    }

    /// Writes a piece.
    pub fn write(&self, piece: usize, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, piece as u64 * PIECE)
    }

    /// Writes that a piece is there: a byte of the bits, and where it is.
    pub fn note(&self, (place, byte): (usize, u8)) -> Result<(), RemoteError> {
        let said = self.pieces.write_all_at(&[byte], place as u64);
        said.map_err(failed(self.pieces.path()))
    }

    /// Writes which pieces are there.
    pub fn keep_all(&self, have: &Bitmap) -> Result<(), RemoteError> {
        let written = self.pieces.write_all_at(have.bytes(), 0);
        written.map_err(failed(self.pieces.path()))
    }
}

/// A file of this length, with what is in it already.
fn open(path: &Path, length: u64) -> Result<File, RemoteError> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(failed(path))?;
    file.set_len(length).map_err(failed(path))?;
    Ok(file)
}

/// The pieces of a part that are there, where somebody kept count of them.
pub(crate) fn pieces_of(path: &Path, size: u64) -> Option<Bitmap> {
    let length = fs_err::metadata(path).ok()?.len();
    let pieces = with_suffix(path, PIECES);
    let is_small = fs_err::metadata(&pieces).ok()?.len() <= size;
    let bits = is_small.then(|| fs_err::read(pieces).ok())??;
    Bitmap::read(size, bits).filter(|_| length == size)
}
