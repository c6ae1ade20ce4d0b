//! Where bytes come from: [`ByteSource`] and its implementations.
//!
//! Faults are injected by wrapping a source in another ([`FailingSource`], [`ThrottledSource`]);
//! [`contract::check`] is the trait's contract as a program and passes on all of them.

pub mod contract;
mod local;
mod memory;
mod mode;
mod sequential;
mod speed;
mod within;
mod wrappers;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

pub use local::{DIRECT_ALIGNMENT, LocalSource};
pub use memory::MemorySource;
pub use mode::{CacheUse, ReadChoice, ReadMode};
pub use sequential::sequential;
pub use within::Within;
pub use wrappers::{CountingSource, FailingSource, FileCount, ThrottledSource};

/// How something that is elsewhere could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What the user named is wrong.
    Refused,
    /// It had arrived wrong and is right now: what was made of it is not.
    Replaced,
    /// Something between here and there failed.
    Broken,
}

/// A read that could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No such file.
    #[error("{place}: no file `{file}`")]
    NotFound {
        /// Name of the file.
        file: String,
        /// The source.
        place: String,
    },
    /// The name is absolute, empty or leaves the folder.
    #[error("{place}: the file name `{file}` points outside the folder")]
    OutsideFolder {
        /// Name of the file.
        file: String,
        /// The source.
        place: String,
    },
    /// A folder, a pipe or a device.
    #[error("{place}: `{file}` is not a regular file")]
    NotAFile {
        /// Name of the file.
        file: String,
        /// The source.
        place: String,
    },
    /// The range ends after the file does.
    #[error(
        "{place}: `{file}` has {size} bytes; bytes {offset}..{} were asked for",
        offset.saturating_add(*wanted)
    )]
    PastEnd {
        /// Name of the file.
        file: String,
        /// The source.
        place: String,
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        wanted: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// A file that is made of another, which does not say what it takes.
    #[error("{place}: `{file}` cannot be made: {problem}")]
    Unmade {
        /// Name of the file.
        file: String,
        /// The source.
        place: String,
        /// What is wrong with the other.
        problem: String,
    },
    /// It is elsewhere and cannot be had from there.
    #[error("{problem}")]
    Elsewhere {
        /// Name of the file.
        file: String,
        /// What is wrong, and where.
        problem: String,
        /// What the user can do about it.
        hint: String,
        /// What the caller can do.
        kind: Failure,
    },
    /// The system refused or failed.
    #[error("{place}: `{file}`: {error}")]
    Io {
        /// Name of the file.
        file: String,
        /// The source.
        place: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
}

impl SourceError {
    /// What the user can do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Elsewhere { hint, .. } => hint,
            Self::NotFound { .. } => "check the path of the model",
            Self::OutsideFolder { .. } => {
                "the files of a model are in its folder: put them there, or download the index again"
            }
            Self::NotAFile { .. } => "download the file again",
            Self::Unmade { .. } => "give `input_ids`, which need no tokenizer",
            Self::PastEnd { .. } => {
                "the file became shorter since it was opened: wait until its download ends, or fetch it again"
            }
            Self::Io { error, .. } if is_wrong_path(error) => "check the path and its permissions",
            Self::Io { .. } => "check the disk that the model is on",
        }
    }
}

/// When a file was changed: whoever writes to it, or puts another in its place, changes this too. Copying and
/// touching do as well, so that a difference is a reason to look, no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Nanoseconds of the time of the last change of the content.
    pub modified: i64,
    /// The same of the file as a whole, which programs cannot set.
    pub changed: i64,
}

/// Disks and caches work in such pages: reading around a narrower gap saves nothing.
const PAGE: u64 = 4 << 10;

/// How often the bytes of a source come over a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Never: they are on this machine.
    Here,
    /// Once: then they are kept here.
    Once,
    /// Whenever they are read.
    EachTime,
}

/// A file and bytes of it.
pub type NamedRange = (String, Range<u64>);

/// A range of a file and where it goes.
#[derive(Debug)]
pub struct RangeRead<'b> {
    /// Its first byte.
    pub offset: u64,
    /// As long as the range.
    pub out: &'b mut [u8],
}

/// Named files, read by ranges. Names are relative and use `/`; those that leave the source's folder
/// are refused by their spelling, so links inside the folder may point anywhere.
///
/// Reads from several threads at once are welcome. [`contract::check`] states the rest.
pub trait ByteSource: Debug + Send + Sync {
    /// Names of the files directly in a folder of it, `""` for itself, in any order; [`SourceError::NotFound`] where
    /// there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError>;

    /// Size of a file in bytes.
    fn len(&self, file: &str) -> Result<u64, SourceError>;

    /// Fills `out` with the bytes from `offset` on; an error if the file has fewer.
    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError>;

    /// Fills the buffer of every range: [`Self::read_at`] for each, in this order, unless the source knows better
    /// how to fetch several at once.
    fn read_ranges(&self, file: &str, ranges: &mut [RangeRead<'_>]) -> Result<(), SourceError> {
        let mut ranges = ranges.iter_mut();
        ranges.try_for_each(|range| self.read_at(file, range.offset, range.out))
    }

    /// How many bytes two wanted ranges of a file may lie apart so that they are best read as one, with what lies
    /// between them.
    fn gap(&self) -> u64 {
        PAGE
    }

    /// These bytes are read next; a cache may begin to fetch them. Never fails.
    fn advise_soon(&self, _file: &str, _range: Range<u64>) {}

    /// These bytes will not be read again soon; a cache may drop them. Never fails, never waits.
    fn advise_done(&self, _file: &str, _range: Range<u64>) {}

    /// Measures on this file how large reads are best done, and does them so from now on; `None` where
    /// there is nothing to choose. The bytes that are read are the same.
    fn choose_mode(
        &self,
        _file: &str,
        _cache: CacheUse,
    ) -> Result<Option<ReadChoice>, SourceError> {
        Ok(None)
    }

    /// When the file was changed; `None` where nothing says.
    fn stamp(&self, _file: &str) -> Option<Stamp> {
        None
    }

    /// These files are read soon, of them these ranges first, in this order: one that has them elsewhere begins to fetch
    /// them, beside what is read meanwhile. An error if there is no room for them.
    fn fetch_ahead(&self, _files: &[String], _first: &[NamedRange]) -> Result<(), SourceError> {
        Ok(())
    }

    /// How often its bytes come over a line.
    fn arrival(&self) -> Arrival {
        Arrival::Here
    }

    /// Bytes that came over its line so far, for whomever.
    fn received(&self) -> u64 {
        0
    }

    /// Memory that it holds while it fetches what is elsewhere, bytes.
    fn memory(&self) -> u64 {
        0
    }

    /// What the place says that a file holds, where another content has another such name: two files of the same name
    /// hold the same.
    fn content_id(&self, _file: &str) -> Option<String> {
        None
    }

    /// What was made of what was read is about to become final: an error if that was not what it should have been.
    fn settle(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// For messages: the folder or address.
    fn describe(&self) -> String;

    /// Whether there is such a file.
    fn exists(&self, file: &str) -> Result<bool, SourceError> {
        match self.len(file) {
            Ok(_) => Ok(true),
            Err(SourceError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl SourceError {
    /// Whether the system failed, as opposed to a name or range that makes no sense.
    pub fn is_io(&self) -> bool {
        match self {
            Self::Io { error, .. } => !is_wrong_path(error),
            Self::PastEnd { .. } => true,
            Self::Elsewhere { kind, .. } => *kind != Failure::Refused,
            _ => false,
        }
    }
}

/// Whether an error of the system is about the path that was given, not about the disk: nothing is there,
/// it is something else, it may not be read, its links go round in circles.
pub fn is_wrong_path(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidFilename
    ) || error.kind() == kind_of_loops()
}

/// The kind of the error about links that go round in circles: stable Rust has it, but not yet a name for it.
fn kind_of_loops() -> io::ErrorKind {
    io::Error::from(rustix::io::Errno::LOOP).kind()
}

/// Whether a name is relative, not empty, and stays in its folder.
pub(crate) fn is_inside(file: &str) -> bool {
    let mut normal = false;
    for component in Path::new(file).components() {
        match component {
            Component::Normal(_) => normal = true,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    normal && !file.contains('\0')
}

/// Refuses names that leave the folder.
pub fn check_name(file: &str, place: impl FnOnce() -> String) -> Result<(), SourceError> {
    if is_inside(file) {
        return Ok(());
    }
    Err(SourceError::OutsideFolder {
        file: file.to_owned(),
        place: place(),
    })
}
