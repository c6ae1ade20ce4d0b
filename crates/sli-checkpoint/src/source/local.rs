//! A folder on a local or mounted file system.
//!
//! `pread` into the caller's buffers: memory stays what the caller allocated (a mapping would not),
//! and a file that shrinks is an error (a mapping would be a signal).

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fs_err::os::unix::fs::FileExt;

use super::mode::{CacheUse, ReadChoice, ReadMode};
use super::speed::{self, Ways};
use super::{ByteSource, SourceError, Stamp, check_name};

/// Smallest read, in bytes, that goes around or is dropped from the page cache: smaller ones are
/// headers and vectors whose neighbours are about to be read.
const LARGE_READ: usize = 1 << 20;

/// Alignment of offsets, lengths and memory of direct reads, in bytes.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// Bytes of one direct read.
const DIRECT_CHUNK: usize = 2 << 20;

/// Open files are closed, oldest use first, beyond this number.
const MAX_OPEN_FILES: usize = 128;

/// A folder. Files are opened once and stay open.
#[derive(Debug)]
pub struct LocalSource {
    folder: PathBuf,
    mode: RwLock<ReadMode>,
    open: Mutex<OpenFiles>,
    /// Aligned buffers for direct reads, one a concurrent reader.
    bounce: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<String, (Arc<OpenFile>, u64)>,
    uses: u64,
}

#[derive(Debug)]
struct OpenFile {
    buffered: fs_err::File,
    direct: Option<fs_err::File>,
    /// Direct reads were refused, though opening for them was not.
    refused: AtomicBool,
}

impl LocalSource {
    /// The files below `folder`, read through the page cache.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self::with_mode(folder, ReadMode::Buffered)
    }

    /// The files below `folder`.
    pub fn with_mode(folder: impl Into<PathBuf>, mode: ReadMode) -> Self {
        Self {
            folder: folder.into(),
            mode: RwLock::new(mode),
            open: Mutex::default(),
            bounce: Mutex::default(),
        }
    }

    /// How large reads are done.
    pub fn mode(&self) -> ReadMode {
        *self.mode.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on large reads are done like this.
    pub fn set_mode(&self, mode: ReadMode) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *self.mode.write().unwrap_or_else(PoisonError::into_inner) = mode;
        // They open again as the mode needs them.
        open.files.clear();
    }

    /// Whether large reads of this file go around the page cache, as far as is known.
    pub(super) fn reads_directly(&self, file: &str) -> Result<bool, SourceError> {
        let opened = self.file(file)?;
        Ok(opened.direct.is_some() && !opened.refused.load(Ordering::Relaxed))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn error(&self, file: &str, error: io::Error) -> SourceError {
        let (file, place) = (file.to_owned(), self.describe());
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename => SourceError::NotFound { file, place },
            _ => SourceError::Io { file, place, error },
        }
    }

    /// Size of the file, which must be a regular one: opening a pipe would wait forever.
    fn size(&self, file: &str) -> Result<u64, SourceError> {
        check_name(file, || self.describe())?;
        let metadata =
            fs_err::metadata(self.folder.join(file)).map_err(|error| self.error(file, error))?;
        if !metadata.is_file() {
            return Err(SourceError::NotAFile {
                file: file.to_owned(),
                place: self.describe(),
            });
        }
        Ok(metadata.len())
    }

    fn file(&self, file: &str) -> Result<Arc<OpenFile>, SourceError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let now = open.uses;
        if let Some((found, used)) = open.files.get_mut(file) {
            *used = now;
            return Ok(Arc::clone(found));
        }
        self.size(file)?;
        let path = self.folder.join(file);
        let buffered = fs_err::File::open(&path).map_err(|error| self.error(file, error))?;
        let direct = match self.mode() {
            ReadMode::Direct => open_direct(&path),
            ReadMode::Buffered | ReadMode::BufferedDropBehind => None,
        };
        let opened = Arc::new(OpenFile {
            buffered,
            direct,
            refused: AtomicBool::new(false),
        });
        if open.files.len() >= MAX_OPEN_FILES {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                open.files.remove(&oldest);
            }
        }
        open.files
            .insert(file.to_owned(), (Arc::clone(&opened), now));
        Ok(opened)
    }

    /// Reads around the page cache: into `out` where its address lies in a block of memory as `offset`
    /// in a block of the file, else through an aligned buffer.
    fn read_direct(&self, file: &fs_err::File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let to_block = out.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let alike = to_block < out.len()
            && offset
                .checked_add(to_block as u64)
                .is_some_and(|offset| offset.is_multiple_of(DIRECT_ALIGNMENT as u64));
        if !alike {
            return self.read_bounced(file, offset, out);
        }
        let (head, rest) = out.split_at_mut(to_block);
        let (blocks, tail) = rest.split_at_mut(rest.len() / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT);
        let at = offset + head.len() as u64;
        file.read_exact_at(blocks, at)?;
        if !head.is_empty() {
            self.read_bounced(file, offset, head)?;
        }
        if !tail.is_empty() {
            self.read_bounced(file, at + blocks.len() as u64, tail)?;
        }
        Ok(())
    }

    /// Reads around the page cache through an aligned buffer.
    fn read_bounced(&self, file: &fs_err::File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let pooled = self
            .bounce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut bounce = pooled.unwrap_or_else(|| vec![0; DIRECT_CHUNK + DIRECT_ALIGNMENT]);
        let shift = bounce
            .as_ptr()
            .align_offset(DIRECT_ALIGNMENT)
            .min(DIRECT_ALIGNMENT);
        let result =
            read_direct_through(file, offset, out, &mut bounce[shift..shift + DIRECT_CHUNK]);
        self.bounce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(bounce);
        result
    }
}

impl ByteSource for LocalSource {
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
        let (path, name) = if folder.is_empty() {
            (self.folder.clone(), ".")
        } else {
            check_name(folder, || self.describe())?;
            (self.folder.join(folder), folder)
        };
        let mut names = Vec::new();
        for entry in fs_err::read_dir(path).map_err(|error| self.error(name, error))? {
            let entry = entry.map_err(|error| self.error(name, error))?;
            // A name that is not UTF-8 cannot be asked for.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // A link that leads nowhere is meant to be a file.
            let counts = match fs_err::metadata(entry.path()) {
                Ok(metadata) => metadata.is_file(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if counts {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn len(&self, file: &str) -> Result<u64, SourceError> {
        self.size(file)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        check_name(file, || self.describe())?;
        let opened = self.file(file)?;
        let large = out.len() >= LARGE_READ;
        let result = match &opened.direct {
            Some(direct) if large && !opened.refused.load(Ordering::Relaxed) => {
                match self.read_direct(direct, offset, out) {
                    // Some file systems let open what they then cannot read.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        opened.refused.store(true, Ordering::Relaxed);
                        opened.buffered.read_exact_at(out, offset)
                    }
                    other => other,
                }
            }
            _ => opened.buffered.read_exact_at(out, offset),
        };
        if let Err(error) = result {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return Err(SourceError::PastEnd {
                    file: file.to_owned(),
                    place: self.describe(),
                    offset,
                    wanted: out.len() as u64,
                    size: self.size(file)?,
                });
            }
            return Err(self.error(file, error));
        }
        let through_cache = opened.direct.is_none() || opened.refused.load(Ordering::Relaxed);
        if large && through_cache && self.mode() != ReadMode::Buffered {
            advise(
                &opened.buffered,
                offset..offset.saturating_add(out.len() as u64),
                Coming::NotAgain,
            );
        }
        Ok(())
    }

    fn advise_soon(&self, file: &str, range: Range<u64>) {
        // Direct reads find nothing in the cache.
        if self.mode() != ReadMode::Direct
            && let Ok(opened) = self.file(file)
        {
            advise(&opened.buffered, range, Coming::Soon);
        }
    }

    fn advise_done(&self, file: &str, range: Range<u64>) {
        if let Ok(opened) = self.file(file) {
            advise(&opened.buffered, range, Coming::NotAgain);
        }
    }

    fn choose_mode(&self, file: &str, cache: CacheUse) -> Result<Option<ReadChoice>, SourceError> {
        check_name(file, || self.describe())?;
        let [buffered, direct] =
            [ReadMode::Buffered, ReadMode::Direct].map(|mode| Self::with_mode(&self.folder, mode));
        let ways = Ways {
            file,
            buffered: &buffered,
            direct: &direct,
            is_direct: &|| direct.reads_directly(file),
        };
        let choice = speed::choose(&ways, cache)?;
        self.set_mode(choice.mode);
        Ok(Some(choice))
    }

    fn stamp(&self, file: &str) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs_err::metadata(self.folder.join(file)).ok()?;
        let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000) + rest;
        Some(Stamp {
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn describe(&self) -> String {
        self.folder.display().to_string()
    }
}

/// A second handle that bypasses the page cache; `None` where the file system does not offer it.
#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<fs_err::File> {
    use fs_err::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECT.bits();
    let flags = i32::try_from(flags).ok()?;
    fs_err::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> Option<fs_err::File> {
    None
}

/// Fills `out` by aligned reads into `bounce`, whose address and length are aligned.
fn read_direct_through(
    file: &fs_err::File,
    offset: u64,
    out: &mut [u8],
    bounce: &mut [u8],
) -> io::Result<()> {
    let alignment = DIRECT_ALIGNMENT as u64;
    let mut filled = 0;
    while filled < out.len() {
        let position = offset
            .checked_add(filled as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let start = position / alignment * alignment;
        let skip = (position - start) as usize;
        let wanted = (skip + out.len() - filled).next_multiple_of(DIRECT_ALIGNMENT);
        let wanted = wanted.min(bounce.len());
        let got = match file.read_at(&mut bounce[..wanted], start) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if got <= skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let take = (got - skip).min(out.len() - filled);
        out[filled..filled + take].copy_from_slice(&bounce[skip..skip + take]);
        filled += take;
    }
    Ok(())
}

/// When a range of a file is read.
#[derive(Clone, Copy)]
enum Coming {
    Soon,
    NotAgain,
}

/// Fetches a range into the page cache, or drops it from there. Advice: a refusal changes nothing.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn advise(file: &fs_err::File, range: Range<u64>, coming: Coming) {
    // A length of zero means "to the end of the file".
    if let Some(length) = std::num::NonZeroU64::new(range.end.saturating_sub(range.start)) {
        let advice = match coming {
            Coming::Soon => rustix::fs::Advice::WillNeed,
            Coming::NotAgain => rustix::fs::Advice::DontNeed,
        };
        if let Err(error) = rustix::fs::fadvise(file, range.start, Some(length), advice) {
            tracing::trace!(%error, "fadvise");
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn advise(_file: &fs_err::File, _range: Range<u64>, _coming: Coming) {}
