//! Files and folders of an output folder, and the lock on it.

use std::fs::TryLockError;
use std::io;
use std::path::Path;

use fs_err::File;

use super::error::JournalError;
use crate::durable::{Disk, DiskError};

/// The folder for work in progress inside an output folder.
pub(super) const WORK: &str = ".sli";
/// What a complete run is known by.
pub(super) const MANIFEST: &str = "run.json";

/// Whether nothing counts in a folder: hidden files and a file system's own folder do not.
pub(super) fn is_empty(folder: &Path) -> Result<bool, JournalError> {
    let counts = |name: &String| !name.starts_with('.') && name != "lost+found";
    Ok(!names_in(folder)?.iter().any(counts))
}

pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, JournalError> {
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match fs_err::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A device may have no end, a pipe no other end.
        Ok(metadata) if !metadata.is_file() => Err(JournalError::Damaged {
            path: path.to_owned(),
            problem: "it is not a regular file".into(),
        }),
        other => other
            .and_then(|_| fs_err::read(path))
            .map(Some)
            .map_err(Into::into),
    }
}

/// A folder of work that is this process's for as long as this is held.
#[derive(Debug)]
pub struct Occupied {
    _lock: File,
}

/// Takes the folder `work`, which is made if absent, for this process; `of` is what it makes, for messages. The lock is a file of
/// that folder, `lock`.
///
/// # Errors
///
/// [`JournalError::Locked`] while another process has it, and [`JournalError::Disk`] where the folder cannot be made.
pub fn occupy(of: &Path, work: &Path) -> Result<Occupied, JournalError> {
    let lock = lock(&Disk::default(), of, work)?;
    Ok(Occupied { _lock: lock })
}

/// Takes the work folder for this process.
pub(super) fn lock(disk: &Disk, folder: &Path, work: &Path) -> Result<File, JournalError> {
    let path = work.join("lock");
    loop {
        disk.create_dir_all(work)?;
        let mut options = fs_err::OpenOptions::new();
        let file = match options.write(true).create(true).truncate(false).open(&path) {
            // The run that held it has just removed its work folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(DiskError::from)?,
        };
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked(folder.to_owned())),
            // Some network file systems have no locks; the run is worth more than the check.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        if is_still_named(&file, &path) {
            return Ok(file);
        }
    }
}

/// Whether `path` still leads to `file`: a lock on a removed file excludes nobody.
pub(super) fn is_still_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(named)) = (file.metadata(), fs_err::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}
