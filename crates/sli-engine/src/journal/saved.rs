//! Saved activations and accumulators.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

use super::error::JournalError;
use super::files::WORK;
use super::folder::OutputFolder;
use super::progress::BufferRef;
use super::state::State;
use crate::durable::DiskError;
use crate::{fingerprint, floats};

/// Bytes of activations hashed and written at a time.
pub(super) const PIECE: usize = 1 << 20;

impl OutputFolder {
    /// Saves activations `[rows, cols]` for the next checkpoint. Saving under the same name again before that
    /// replaces them; the previous checkpoint's stay until then.
    pub fn save_buffer(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        values: &[f32],
    ) -> Result<BufferRef, JournalError> {
        debug_assert_eq!(values.len(), rows * cols, "a buffer has rows x cols values");
        let pieces = values.chunks(PIECE / 4);
        let (file, blake3) = self.save(name, |out| {
            for piece in pieces {
                if cfg!(target_endian = "little") {
                    out(bytemuck::cast_slice(piece))?;
                } else {
                    let mut bytes = Vec::with_capacity(4 * piece.len());
                    floats::write(piece, &mut bytes);
                    out(&bytes)?;
                }
            }
            Ok(())
        })?;
        Ok(BufferRef {
            file,
            rows,
            cols,
            blake3,
        })
    }

    /// Reads activations back into `values`, which has `rows * cols` elements.
    pub fn load_buffer(&self, buffer: &BufferRef, values: &mut [f32]) -> Result<(), JournalError> {
        if buffer.rows.checked_mul(buffer.cols) != Some(values.len()) {
            return Err(damaged(
                &self.work,
                buffer,
                "it has another shape than the run needs",
            ));
        }
        load(&self.work, buffer, bytemuck::cast_slice_mut(values))?;
        for value in values {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
        Ok(())
    }

    /// Saves an accumulator for the next checkpoint, which will list it in [`Progress::blobs`](super::Progress::blobs).
    pub fn save_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let (file, blake3) = self.save(name, |out| bytes.chunks(PIECE).try_for_each(out))?;
        let blob = BufferRef {
            file,
            rows: bytes.len(),
            cols: 1,
            blake3,
        };
        self.progress.blobs.insert(name.to_owned(), blob);
        Ok(())
    }

    /// [`Self::save_blob`] of so many bytes, a piece at a time.
    pub(crate) fn save_pieces(
        &mut self,
        name: &str,
        bytes: u64,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(), JournalError> {
        let (file, blake3) = self.save(name, write)?;
        let blob = BufferRef {
            file,
            rows: bytes as usize,
            cols: 1,
            blake3,
        };
        self.progress.blobs.insert(name.to_owned(), blob);
        Ok(())
    }

    /// Reads back an accumulator, a piece at a time; `false`: there is none of that name.
    pub(crate) fn load_pieces(
        &self,
        name: &str,
        see: impl FnMut(&[u8]) -> Result<(), DiskError>,
    ) -> Result<bool, JournalError> {
        match self.progress.blobs.get(name) {
            Some(blob) => load_each(&self.work, blob, see).map(|()| true),
            None => Ok(false),
        }
    }

    /// Reads back an accumulator; `None` if there is none of that name.
    pub fn load_blob(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        read_blob(&self.work, &self.progress.blobs, name)
    }

    /// The accumulators as they are saved now.
    pub(crate) fn blobs(&self) -> Blobs {
        Blobs {
            work: self.work.clone(),
            saved: self.progress.blobs.clone(),
        }
    }

    fn save(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(String, String), JournalError> {
        let buffers = self.work.join("buffers");
        self.disk.create_dir_all(&buffers)?;
        // Never the file that the state on the device refers to.
        let file = format!("{name}.{}", self.generation + 1);
        let mut hasher = blake3::Hasher::new();
        self.disk.write_durable(&buffers.join(&file), |writer| {
            write(&mut |bytes| {
                hasher.update(bytes);
                writer.write_all(bytes)
            })
        })?;
        Ok((file, hasher.finalize().to_hex().to_string()))
    }
}

/// Saved accumulators, which can be read while the folder changes.
pub(crate) struct Blobs {
    work: PathBuf,
    saved: BTreeMap<String, BufferRef>,
}

impl Blobs {
    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.saved.contains_key(name)
    }

    /// Reads one back; `None` if there is none of that name.
    pub fn load(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        read_blob(&self.work, &self.saved, name)
    }
}

fn read_blob(
    work: &Path,
    saved: &BTreeMap<String, BufferRef>,
    name: &str,
) -> Result<Option<Vec<u8>>, JournalError> {
    let Some(blob) = saved.get(name) else {
        return Ok(None);
    };
    let mut bytes = vec![0; blob.rows];
    load(work, blob, &mut bytes)?;
    Ok(Some(bytes))
}

fn load(work: &Path, buffer: &BufferRef, bytes: &mut [u8]) -> Result<(), JournalError> {
    let file = File::open(work.join("buffers").join(&buffer.file))?;
    if file.metadata()?.len() != bytes.len() as u64 {
        return Err(damaged(work, buffer, "its length is not what was saved"));
    }
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    for piece in bytes.chunks_mut(PIECE) {
        file.read_exact_at(piece, offset)?;
        hasher.update(piece);
        offset += piece.len() as u64;
    }
    if hasher.finalize().to_hex().as_str() == buffer.blake3 {
        Ok(())
    } else {
        Err(damaged(work, buffer, "its content is not what was saved"))
    }
}

fn load_each(
    work: &Path,
    buffer: &BufferRef,
    mut see: impl FnMut(&[u8]) -> Result<(), DiskError>,
) -> Result<(), JournalError> {
    let path = work.join("buffers").join(&buffer.file);
    let mut hasher = blake3::Hasher::new();
    let mut outcome = Ok(());
    fingerprint::each_piece(&path, |_, piece| {
        hasher.update(piece);
        if outcome.is_ok() {
            outcome = see(piece);
        }
    })?;
    outcome?;
    if hasher.finalize().to_hex().as_str() == buffer.blake3 {
        Ok(())
    } else {
        Err(damaged(work, buffer, "its content is not what was saved"))
    }
}

fn damaged(work: &Path, buffer: &BufferRef, problem: &str) -> JournalError {
    JournalError::Damaged {
        path: work.join("buffers").join(&buffer.file),
        problem: problem.to_owned(),
    }
}

/// A blob of the run in a folder, which may be at work; `None` if there is none that can be read.
pub(crate) fn blob_of(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let work = folder.join(WORK);
    let state = State::read(&work).ok()??;
    let blob = state.progress.blobs.get(name)?;
    fs_err::read(work.join("buffers").join(&blob.file)).ok()
}
