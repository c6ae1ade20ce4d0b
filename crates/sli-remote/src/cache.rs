//! The hub's cache of files, laid out as the hub's own library does it.
//!
//! `models--ORG--NAME/blobs/ETAG` hold contents, `snapshots/COMMIT/PATH` are relative links to them, `refs/REVISION`
//! hold commits, and `trees/COMMIT.json` say what a commit holds, so that a snapshot is known not to be complete.
//! Beside a blob that is on its way, `ETAG.NUMBER.incomplete`, `ETAG.NUMBER.incomplete.pieces` has a bit for each of
//! its pieces that is there.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::RemoteError;
use crate::lock::Lock;
use crate::repo::{Repo, is_commit};
use crate::settings::Settings;
use crate::store::{Entry, Sum};
use crate::sums::Summing;

/// Largest list of files that is read, bytes.
const TREE_LIMIT: u64 = 256 << 20;
/// What marks a folder as one that backups leave out.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                   # This file marks the folder as a cache: https://bford.info/cachedir/\n";

/// What ends the name of a blob that is not whole.
pub(crate) const INCOMPLETE: &str = ".incomplete";
/// What ends the name of the file with the bits of its pieces.
pub(crate) const PIECES: &str = ".pieces";

/// The cache of the hub.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    without_links: bool,
}

/// Where the files of one commit are kept.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// The folder of the repository.
    pub folder: PathBuf,
    locks: PathBuf,
    snapshot: Snapshot,
    without_links: bool,
}

/// Where files have their names.
#[derive(Clone, Debug)]
enum Snapshot {
    /// In the folder of a commit.
    Commit(PathBuf),
    /// In folders of their contents.
    Contents(PathBuf),
}

/// A file of a commit, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeFile {
    pub size: u64,
    pub blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xet_hash: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u64,
    files: BTreeMap<String, TreeFile>,
}

impl TreeFile {
    /// Whether it says what can be true.
    pub fn is_sound(&self, path: &str) -> bool {
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let parts = path.split('/');
        let is_inside = parts.into_iter().all(|part| {
            !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\\'])
        });
        is_inside
            && (is_hex(&self.blob_id, 40) || is_hex(&self.blob_id, 64))
            && self.lfs_sha256.as_ref().is_none_or(|sha| is_hex(sha, 64))
    }

    pub fn entry(self, path: String) -> Entry {
        let size = self.lfs_size.unwrap_or(self.size);
        match self.lfs_sha256 {
            Some(sha) => Entry {
                path,
                size,
                etag: sha.clone(),
                is_content: true,
                sum: Some(Sum::Sha256(sha)),
            },
            None => Entry {
                path,
                size,
                etag: self.blob_id.clone(),
                is_content: true,
                sum: (self.blob_id.len() == 40).then_some(Sum::Git(self.blob_id)),
            },
        }
    }
}

/// A repository in the cache.
#[derive(Clone, Debug, Serialize)]
pub struct CachedRepo {
    /// As the user names it.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes of its blobs, those on their way included.
    pub bytes: u64,
    /// Commits of which something is there.
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

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RemoteError + '_ {
    move |error| RemoteError::disk(path, &error)
}

impl Cache {
    /// The one of these settings; nothing is made yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            root: settings.cache.clone(),
            without_links: settings.without_links,
        }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self, repo: &Repo) -> PathBuf {
        self.root.join(repo.folder())
    }

    /// Where the files of a commit are kept.
    pub(crate) fn shelf(&self, repo: &Repo, commit: &str) -> Shelf {
        let folder = self.folder(repo);
        Shelf {
            locks: self.root.join(".locks").join(repo.folder()),
            snapshot: Snapshot::Commit(folder.join("snapshots").join(commit)),
            folder,
            without_links: self.without_links,
        }
    }

    /// What a commit holds, where that is written down.
    pub(crate) fn tree(
        &self,
        repo: &Repo,
        commit: &str,
    ) -> Result<Option<BTreeMap<String, Entry>>, RemoteError> {
        let path = self
            .folder(repo)
            .join("trees")
            .join(format!("{commit}.json"));
        let Some(text) = read(&path, TREE_LIMIT)? else {
            return Ok(None);
        };
        // One of a later format, or half of one, is as good as none.
        let Ok(tree) = serde_json::from_slice::<Tree>(&text) else {
            return Ok(None);
        };
        let is_sound = tree.files.iter().all(|(path, file)| file.is_sound(path));
        if tree.format_version != 1 || !is_sound {
            return Ok(None);
        }
        let files = tree.files.into_iter();
        Ok(Some(
            files
                .map(|(path, file)| (path.clone(), file.entry(path)))
                .collect(),
        ))
    }

    pub(crate) fn keep_tree(
        &self,
        repo: &Repo,
        commit: &str,
        files: &BTreeMap<String, TreeFile>,
    ) -> Result<(), RemoteError> {
        let tree = Tree {
            format_version: 1,
            files: files.clone(),
        };
        let path = self
            .folder(repo)
            .join("trees")
            .join(format!("{commit}.json"));
        let text =
            serde_json::to_vec(&tree).map_err(|error| RemoteError::disk(&path, &error.into()))?;
        self.write(&path, &text)
    }

    /// The commit that a revision was when it was asked for last.
    pub(crate) fn commit(
        &self,
        repo: &Repo,
        revision: &str,
    ) -> Result<Option<String>, RemoteError> {
        if is_commit(revision) {
            return Ok(Some(revision.to_owned()));
        }
        let path = self.folder(repo).join("refs").join(revision);
        let text = read(&path, 1 << 10)?;
        let text = text.and_then(|text| String::from_utf8(text).ok());
        let commit = text.map(|text| text.trim().to_owned());
        Ok(commit.filter(|commit| is_commit(commit)))
    }

    pub(crate) fn keep_ref(
        &self,
        repo: &Repo,
        revision: &str,
        commit: &str,
    ) -> Result<(), RemoteError> {
        if is_commit(revision) || self.commit(repo, revision)?.as_deref() == Some(commit) {
            return Ok(());
        }
        self.write(
            &self.folder(repo).join("refs").join(revision),
            commit.as_bytes(),
        )
    }

    /// The files of a commit that can be had without asking: all of them where it is written down what it holds, else
    /// those that are there.
    pub(crate) fn known(
        &self,
        repo: &Repo,
        commit: &str,
    ) -> Result<Option<BTreeMap<String, Entry>>, RemoteError> {
        if let Some(files) = self.tree(repo, commit)? {
            return Ok(Some(files));
        }
        let snapshot = self.folder(repo).join("snapshots").join(commit);
        if !snapshot.is_dir() {
            return Ok(None);
        }
        let mut files = BTreeMap::new();
        collect(&snapshot, "", 0, &mut files)?;
        Ok(Some(files))
    }

    /// Writes a small file whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), RemoteError> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder).map_err(failed(folder))?;
        }
        let tag = self.root.join("CACHEDIR.TAG");
        if !tag.exists() {
            // It is of use to others alone.
            let _ = fs_err::write(&tag, TAG);
        }
        let temporary = path.with_extension(format!("{:08x}.tmp", unique()));
        fs_err::write(&temporary, bytes).map_err(failed(&temporary))?;
        fs_err::rename(&temporary, path).map_err(failed(path))
    }

    /// What it holds, by repository.
    pub fn repos(&self) -> Result<Vec<CachedRepo>, RemoteError> {
        let mut repos = Vec::new();
        for name in names(&self.root)? {
            let Some(repo) = Repo::of_folder(&name) else {
                continue;
            };
            let folder = self.folder(&repo);
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
            repos.push(CachedRepo {
                id: repo.describe(),
                bytes,
                commits: names(&folder.join("snapshots"))?,
                folder,
                files,
                incomplete,
            });
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

    /// Takes a file that is wrong out of the cache.
    pub fn remove_file(&self, path: &Path) -> Result<(), RemoteError> {
        fs_err::remove_file(path).map_err(failed(path))
    }

    /// Takes a repository out of the cache; `false`: it was not there, or another process is at work on it.
    pub fn remove(&self, repo: &Repo) -> Result<bool, RemoteError> {
        let folder = self.folder(repo);
        let locks = self.root.join(".locks").join(repo.folder());
        let mut held = Vec::new();
        for name in names(&locks)? {
            match Lock::take(&locks.join(name))? {
                Some(lock) => held.push(lock),
                None => return Ok(false),
            }
        }
        match fs_err::remove_dir_all(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(RemoteError::disk(&folder, &error)),
        }
        drop(held);
        // Empty files: what is left of them harms nobody.
        let _ = fs_err::remove_dir_all(&locks);
        Ok(true)
    }
}

impl Shelf {
    /// A folder for files whose contents change.
    pub fn of_contents(folder: PathBuf) -> Self {
        Self {
            locks: folder.join(".locks"),
            snapshot: Snapshot::Contents(folder.join("files")),
            folder,
            without_links: false,
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
        Ok(folder.join(format!("{}.{:08x}{INCOMPLETE}", entry.etag, unique())))
    }

    /// Bytes that the disk has free, where it says.
    pub fn free(&self) -> Option<u64> {
        let place = self.folder.ancestors().find(|folder| folder.exists())?;
        let stat = rustix::fs::statvfs(place).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A path with something behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The content of a small file; `None`: it is not there, or larger.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
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
fn names(folder: &Path) -> Result<Vec<String>, RemoteError> {
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

/// The files of a snapshot of which nothing is written down.
fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Entry>,
) -> Result<(), RemoteError> {
    for name in names(folder)? {
        let path = folder.join(&name);
        let inner = format!("{prefix}{name}");
        let Ok(metadata) = fs_err::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && depth < 16 {
            collect(&path, &format!("{inner}/"), depth + 1, files)?;
        } else if metadata.is_file() {
            let link = fs_err::read_link(&path).ok();
            let etag = link.as_deref().and_then(|link| link.file_name()?.to_str());
            let entry = Entry {
                size: metadata.len(),
                etag: etag.unwrap_or("-").to_owned(),
                is_content: false,
                sum: None,
                path: inner.clone(),
            };
            files.insert(inner, entry);
        }
    }
    Ok(())
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

/// A number that no other process has at hand.
fn unique() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish() as u32
}
