//! Removing what a run left, all or nothing.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Component, Path};

use super::error::JournalError;
use super::files::{names_in, read_if_there};
use crate::durable::Disk;

pub(super) const CLEARING: &str = "clearing.json";

/// Notes what is to be removed, so that a kill while removing does not leave half a run.
pub(super) fn begin_clearing(
    disk: &Disk,
    work: &Path,
    names: &BTreeSet<String>,
) -> Result<(), JournalError> {
    let json = serde_json::to_vec(names).map_err(io::Error::from)?;
    Ok(disk.write_atomic(&work.join(CLEARING), |writer| writer.write_all(&json))?)
}

/// Removes what is noted to be removed, if anything is.
pub(super) fn finish_clearing(disk: &Disk, folder: &Path, work: &Path) -> Result<(), JournalError> {
    let path = work.join(CLEARING);
    let Some(bytes) = read_if_there(&path)? else {
        return Ok(());
    };
    let names: BTreeSet<String> = serde_json::from_slice(&bytes).unwrap_or_default();
    let inside = |name: &&String| {
        Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    let mut folders = BTreeSet::new();
    for name in names.iter().filter(inside) {
        let file = folder.join(name);
        disk.remove_file(&file)?;
        folders.extend(
            file.parent()
                .filter(|&parent| parent != folder)
                .map(Path::to_owned),
        );
    }
    for folder in folders {
        disk.remove_dir_if_empty(&folder)?;
    }
    disk.sync_dir(folder)?;
    clear_work(disk, work)?;
    disk.remove_file(&path)?;
    Ok(disk.sync_dir(work)?)
}

/// Empties the work folder, except for the lock and the note of what is being removed.
pub(super) fn clear_work(disk: &Disk, work: &Path) -> Result<(), JournalError> {
    for name in names_in(work)? {
        let path = work.join(&name);
        if name == "lock" || name == CLEARING {
        } else if path.is_dir() {
            clear_folder(disk, &path)?;
        } else {
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes a folder of the work folder and what is in it.
pub(super) fn clear_folder(disk: &Disk, folder: &Path) -> Result<(), JournalError> {
    for name in names_in(folder)? {
        let path = folder.join(name);
        if path.is_dir() {
            clear_folder(disk, &path)?;
        } else {
            disk.remove_file(&path)?;
        }
    }
    Ok(disk.remove_dir_if_empty(folder)?)
}

/// The last step of a run; the lock goes last.
pub(super) fn remove_work(disk: &Disk, folder: &Path, work: &Path) -> Result<(), JournalError> {
    clear_work(disk, work)?;
    disk.remove_file(&work.join(CLEARING))?;
    disk.remove_file(&work.join("lock"))?;
    disk.remove_dir_if_empty(work)?;
    Ok(disk.sync_dir(folder)?)
}
