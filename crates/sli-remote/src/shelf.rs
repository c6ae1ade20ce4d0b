//! Where the files of a place are kept: contents, and names that lead to them.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{failed, names, unique, with_suffix};
use crate::error::RemoteError;
use crate::lock::Lock;
use crate::store::Entry;

/// What ends the name of a blob that is not whole.
pub(crate) const INCOMPLETE: &str = ".incomplete";
/// What ends the name of the file with the bits of its pieces.
pub(crate) const PIECES: &str = ".pieces";

/// Where the files of one commit are kept.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// The folder of the repository.
    pub folder: PathBuf,
    locks: PathBuf,
    snapshot: Snapshot,
    without_links: bool,
    /// What is written into the folder: the address of what it keeps, where its name does not say it.
    address: Option<String>,
}

/// The file with the address of what a folder keeps.
pub(crate) const ADDRESS: &str = "address";

/// Where files have their names.
#[derive(Clone, Debug)]
enum Snapshot {
    /// In the folder of a commit.
    Commit(PathBuf),
    /// In folders of their contents.
    Contents(PathBuf),
}

impl Shelf {
    /// The folder of a repository, whose files have their names in the folder of a commit.
    pub fn of_commit(folder: PathBuf, commit: &str, locks: PathBuf, without_links: bool) -> Self {
        Self {
            locks,
            snapshot: Snapshot::Commit(folder.join("snapshots").join(commit)),
            folder,
            without_links,
            address: None,
        }
    }

    /// A folder for files of this address, whose contents change.
    pub fn of_contents(folder: PathBuf, address: String) -> Self {
        Self {
            locks: folder.join(".locks"),
            snapshot: Snapshot::Contents(folder.join("files")),
            folder,
            without_links: false,
            address: Some(address),
        }
    }

    /// The name of a file, and how many folders above it the blobs are.
    fn named(&self, entry: &Entry) -> (PathBuf, usize) {
        let inside = entry.path.matches('/').count();
        match &self.snapshot {
            Snapshot::Commit(folder) => (folder.join(&entry.path), 2 + inside),
            Snapshot::Contents(folder) => {
                let content = entry.etag.get(..16).unwrap_or(&entry.etag);
                (folder.join(content).join(&entry.path), 2 + inside)
            }
        }
    }

    pub fn lock(&self, entry: &Entry) -> Result<Option<Lock>, RemoteError> {
        Lock::take(&self.locks.join(format!("{}.lock", entry.etag)))
    }

    fn blob(&self, entry: &Entry) -> PathBuf {
        self.folder.join("blobs").join(&entry.etag)
    }

    /// The whole file, if it is there. It counts if it has the size that it should have.
    pub fn whole(&self, entry: &Entry) -> Result<Option<PathBuf>, RemoteError> {
        let (named, _) = self.named(entry);
        let is_whole = |path: &Path| {
            fs_err::metadata(path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.size)
        };
        if is_whole(&named) {
            return Ok(Some(named));
        }
        let blob = self.blob(entry);
        if is_whole(&blob) {
            return self.name(entry).map(Some);
        }
        Ok(None)
    }

    /// Gives a blob that is there its name in the snapshot; the path to read it from.
    fn name(&self, entry: &Entry) -> Result<PathBuf, RemoteError> {
        let blob = self.blob(entry);
        let (named, above) = self.named(entry);
        if let Some(folder) = named.parent() {
            fs_err::create_dir_all(folder).map_err(failed(folder))?;
        }
        if !self.without_links {
            let up = "../".repeat(above);
            let target = format!("{up}blobs/{}", entry.etag);
            let temporary = named.with_extension(format!("{:08x}.tmp", unique()));
            if fs_err::os::unix::fs::symlink(&target, &temporary).is_ok() {
                fs_err::rename(&temporary, &named).map_err(failed(&named))?;
                return Ok(named);
            }
        }
        fs_err::rename(&blob, &named).map_err(failed(&named))?;
        Ok(named)
    }

    /// Puts what has arrived whole in its place.
    pub fn finish(&self, entry: &Entry, incomplete: &Path) -> Result<PathBuf, RemoteError> {
        let blob = self.blob(entry);
        fs_err::rename(incomplete, &blob).map_err(failed(&blob))?;
        // Without it the pieces of a file that is whole would be looked at again.
        let pieces = with_suffix(incomplete, PIECES);
        match fs_err::remove_file(&pieces) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RemoteError::disk(&pieces, &error));
            }
            _ => {}
        }
        self.name(entry)
    }

    /// The parts of a file that earlier processes left, to be gone on with under its lock.
    pub fn left(&self, entry: &Entry) -> Result<Vec<PathBuf>, RemoteError> {
        let folder = self.folder.join("blobs");
        let begins = format!("{}.", entry.etag);
        let names = names(&folder)?.into_iter();
        let parts = names.filter(|name| name.starts_with(&begins) && name.ends_with(INCOMPLETE));
        Ok(parts.map(|name| folder.join(name)).collect())
    }

    /// A name for a part that nobody else has.
    pub fn fresh(&self, entry: &Entry) -> Result<PathBuf, RemoteError> {
        let folder = self.folder.join("blobs");
        fs_err::create_dir_all(&folder).map_err(failed(&folder))?;
        if let Some(address) = &self.address {
            let path = self.folder.join(ADDRESS);
            fs_err::write(&path, address).map_err(failed(&path))?;
        }
        Ok(folder.join(format!("{}.{:08x}{INCOMPLETE}", entry.etag, unique())))
    }

    /// Bytes that the disk has free, where it says.
    pub fn free(&self) -> Option<u64> {
        let place = self.folder.ancestors().find(|folder| folder.exists())?;
        let stat = rustix::fs::statvfs(place).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
