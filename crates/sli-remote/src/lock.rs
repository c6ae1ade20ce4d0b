//! Locks between processes, and between threads.

use std::fs::TryLockError;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::RemoteError;

/// A lock that its process holds until it ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: std::fs::File,
}

impl Lock {
    /// Takes the lock of this name; `None` while another process holds it. Where a file system has no locks, everybody
    /// gets it, and works in files of its own.
    pub fn take(path: &Path) -> Result<Option<Self>, RemoteError> {
        let failed = |error: std::io::Error| RemoteError::disk(path, &error);
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "no locks here"),
        }
        Ok(Some(Self { _file: file }))
    }
}

/// What a mutex guards, also where a thread that held it has panicked: it says so itself.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
