//! Small files and names on the disk of the cache.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::FileExt;

use crate::error::RemoteError;

/// What went wrong with a path.
pub(crate) fn failed(path: &Path) -> impl FnOnce(io::Error) -> RemoteError + '_ {
    move |error| RemoteError::disk(path, &error)
}

/// A path with something behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The content of a small file; `None`: it is not there, or larger.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(RemoteError::disk(path, &error)),
    };
    let metadata = file.metadata().map_err(failed(path))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed(path))?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// The names in a folder, sorted; none where there is no folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, RemoteError> {
    let mut names = Vec::new();
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(names);
        }
        Err(error) => return Err(RemoteError::disk(folder, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed(folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// A number that no other process has at hand.
pub(crate) fn unique() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish() as u32
}

/// Opens a file that is there.
pub(crate) fn open(path: &Path) -> Result<fs_err::File, RemoteError> {
    fs_err::File::open(path).map_err(failed(path))
}

/// Fills `out` from a place of a file on.
pub(crate) fn read_at(file: &fs_err::File, offset: u64, out: &mut [u8]) -> Result<(), RemoteError> {
    let read = file.read_exact_at(out, offset);
    read.map_err(|error| RemoteError::disk(file.path(), &error))
}
