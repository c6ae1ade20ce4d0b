//! Folders of results.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sli_engine::journal::{Opened, OutputFolder, RunKey};

/// Result files by name.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Everything in a finished folder but `run.json`.
pub fn files(out: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![out.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "run.json" {
                let name = path.strip_prefix(out).unwrap().to_owned();
                found.insert(name, fs_err::read(&path).unwrap());
            }
        }
    }
    found
}

/// The folder of a run that is not finished.
pub fn open(out: &Path) -> OutputFolder {
    // A run enters the files that it reads into its key.
    let key = RunKey::of_folder(out).unwrap_or_default();
    match OutputFolder::open(out, key, false).unwrap() {
        Opened::New(folder) | Opened::Resumed(folder) => folder,
        Opened::Finished(_) => panic!("the run is not finished"),
    }
}
