//! What the cache holds: listed, added up again, removed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cache::Cache;
use crate::disk::{failed, names, read};
use crate::error::RemoteError;
use crate::lock::Lock;
use crate::repo::Repo;
use crate::shelf::{ADDRESS, INCOMPLETE, PIECES};
use crate::sums::{Sum, Summing};

/// A repository in the cache, or another place.
#[derive(Clone, Debug, Serialize)]
pub struct CachedRepo {
    /// As the user names it.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes of its blobs, those on their way included.
    pub bytes: u64,
    /// Commits of which something is there; none of a place that has no commits.
    pub commits: Vec<String>,
    /// Files that are whole.
    pub files: usize,
    /// Files that are on their way.
    pub incomplete: usize,
}

/// A file of the cache that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct CachedFile {
    /// The file.
    pub path: PathBuf,
    /// What it is like.
    pub state: FileState,
}

/// What a file of the cache is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// It adds up to its name.
    Right,
    /// It does not.
    Wrong,
    /// Its name is no sum.
    Unknown,
}

impl Cache {
    /// What it holds, by repository.
    pub fn repos(&self) -> Result<Vec<CachedRepo>, RemoteError> {
        let mut repos = Vec::new();
        for name in names(self.root())? {
            let Some(repo) = Repo::of_folder(&name) else {
                continue;
            };
            repos.push(looked_at(repo.describe(), self.folder(&repo))?);
        }
        Ok(repos)
    }

    /// Adds up the whole files of a repository again, one after another.
    pub fn verify(&self, repo: &Repo, mut said: impl FnMut(CachedFile)) -> Result<(), RemoteError> {
        let blobs = self.folder(repo).join("blobs");
        for name in names(&blobs)? {
            if name.ends_with(INCOMPLETE) || name.ends_with(PIECES) {
                continue;
            }
            let path = blobs.join(&name);
            let sum = match name.len() {
                64 => Some(Sum::Sha256(name)),
                40 => Some(Sum::Git(name)),
                _ => None,
            };
            let state = match sum {
                None => FileState::Unknown,
                Some(sum) if sum_of(&path, &sum)? == sum.text() => FileState::Right,
                Some(_) => FileState::Wrong,
            };
            said(CachedFile { path, state });
        }
        Ok(())
    }

    /// Takes a repository out of the cache; `false`: it was not there, or another process is at work on it.
    pub fn remove(&self, repo: &Repo) -> Result<bool, RemoteError> {
        take_out(&self.folder(repo), &self.locks(repo))
    }
}

/// What a folder keeps of places that are no repositories: those of the web, or buckets.
#[derive(Clone, Debug)]
pub struct Places {
    folder: PathBuf,
}

impl Places {
    /// Of this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The places by their addresses.
    pub fn all(&self) -> Result<Vec<CachedRepo>, RemoteError> {
        let mut places = Vec::new();
        for name in names(&self.folder)? {
            let folder = self.folder.join(name);
            let Some(address) = read(&folder.join(ADDRESS), ADDRESS_LIMIT)? else {
                continue;
            };
            let address = String::from_utf8_lossy(&address).into_owned();
            places.push(looked_at(address, folder)?);
        }
        Ok(places)
    }

    /// Takes out what is kept of an address; `false`: nothing is, or another process is at work on it.
    pub fn remove(&self, address: &str) -> Result<bool, RemoteError> {
        let address = address.trim_end_matches('/');
        let all = self.all()?.into_iter();
        let mut found = all.filter(|place| place.id.trim_end_matches('/') == address);
        match found.next() {
            Some(place) => take_out(&place.folder, &place.folder.join(".locks")),
            None => Ok(false),
        }
    }
}

/// Largest address, bytes.
const ADDRESS_LIMIT: u64 = 1 << 16;

/// What a folder keeps of a place.
fn looked_at(id: String, folder: PathBuf) -> Result<CachedRepo, RemoteError> {
    let (mut bytes, mut files, mut incomplete) = (0, 0, 0);
    for blob in names(&folder.join("blobs"))? {
        let path = folder.join("blobs").join(&blob);
        bytes += allocated(&path);
        if blob.ends_with(INCOMPLETE) {
            incomplete += 1;
        } else if !blob.ends_with(PIECES) {
            files += 1;
        }
    }
    Ok(CachedRepo {
        id,
        bytes,
        commits: names(&folder.join("snapshots"))?,
        folder,
        files,
        incomplete,
    })
}

/// Removes a folder nobody else is at work on; `false`: it is not there, or somebody is.
fn take_out(folder: &Path, locks: &Path) -> Result<bool, RemoteError> {
    let mut held = Vec::new();
    for name in names(locks)? {
        match Lock::take(&locks.join(name))? {
            Some(lock) => held.push(lock),
            None => return Ok(false),
        }
    }
    match fs_err::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(RemoteError::disk(folder, &error)),
    }
    drop(held);
    // Empty files: what is left of them harms nobody.
    let _ = fs_err::remove_dir_all(locks);
    Ok(true)
}

/// Bytes that a file takes of its disk: one that is on its way has holes.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs_err::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

fn sum_of(path: &Path, sum: &Sum) -> Result<String, RemoteError> {
    let mut file = fs_err::File::open(path).map_err(failed(path))?;
    let size = file.metadata().map_err(failed(path))?.len();
    let mut summing = Summing::begin(sum, size);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(failed(path))?;
        if count == 0 {
            return Ok(summing.finish());
        }
        summing.add(&buffer[..count]);
    }
}
