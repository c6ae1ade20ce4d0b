//! The hub's cache of files, laid out as the hub's own library does it.
//!
//! `models--ORG--NAME/blobs/ETAG` hold contents, `snapshots/COMMIT/PATH` are relative links to them, `refs/REVISION`
//! hold commits, and `trees/COMMIT.json` say what a commit holds, so that a snapshot is known not to be complete.
//! Beside a blob that is on its way, `ETAG.NUMBER.incomplete`, `ETAG.NUMBER.incomplete.pieces` has a bit for each of
//! its pieces that is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::disk::{failed, names, read, unique};
use crate::error::RemoteError;
use crate::repo::{Repo, is_commit};
use crate::settings::Settings;
use crate::shelf::Shelf;
use crate::store::Entry;
use crate::tree::Tree;

/// Largest list of files that is read, bytes.
const TREE_LIMIT: u64 = 256 << 20;
/// What marks a folder as one that backups leave out.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                   # This file marks the folder as a cache: https://bford.info/cachedir/\n";

/// The cache of the hub.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    without_links: bool,
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

    pub(crate) fn folder(&self, repo: &Repo) -> PathBuf {
        self.root.join(repo.folder())
    }

    /// Where the files of a commit are kept.
    pub(crate) fn shelf(&self, repo: &Repo, commit: &str) -> Shelf {
        let locks = self.locks(repo);
        Shelf::of_commit(self.folder(repo), commit, locks, self.without_links)
    }

    pub(crate) fn locks(&self, repo: &Repo) -> PathBuf {
        self.root.join(".locks").join(repo.folder())
    }

    fn tree_file(&self, repo: &Repo, commit: &str) -> PathBuf {
        let trees = self.folder(repo).join("trees");
        trees.join(format!("{commit}.json"))
    }

    /// What a commit holds, where that is written down.
    pub(crate) fn tree(&self, repo: &Repo, commit: &str) -> Result<Option<Tree>, RemoteError> {
        let text = read(&self.tree_file(repo, commit), TREE_LIMIT)?;
        Ok(text.and_then(|text| Tree::parse(&text)))
    }

    pub(crate) fn keep_tree(
        &self,
        repo: &Repo,
        commit: &str,
        tree: &Tree,
    ) -> Result<(), RemoteError> {
        let path = self.tree_file(repo, commit);
        let text =
            serde_json::to_vec(tree).map_err(|error| RemoteError::disk(&path, &error.into()))?;
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
        if let Some(tree) = self.tree(repo, commit)? {
            return Ok(Some(tree.entries()));
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
