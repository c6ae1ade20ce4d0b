//! What a run that is not complete keeps on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::files::read_if_there;
use super::key::RunKey;
use super::progress::{BufferRef, Mark, Progress};
use crate::durable::Disk;

pub(super) const FORMAT: u64 = 5;

/// What `.sli/state.json` holds after its checksum.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub format: u64,
    pub key: RunKey,
    pub generation: u64,
    pub progress: Progress,
    /// What counts of every registered file.
    pub sinks: BTreeMap<String, Mark>,
    /// The last checkpoint between two super-batches.
    pub whole: Whole,
    /// Names in the output folder that are, or will be, the run's.
    pub results: BTreeSet<String>,
}

/// What it takes to go back to a point between two super-batches.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Whole {
    pub records_done: u64,
    pub blobs: BTreeMap<String, BufferRef>,
    pub sinks: BTreeMap<String, Mark>,
}

impl State {
    pub const FILE: &str = "state.json";

    /// The line of the checksum, then JSON.
    pub fn write(&self, disk: &Disk, work: &Path) -> Result<(), JournalError> {
        let json = serde_json::to_vec(self).map_err(io::Error::from)?;
        let hash = blake3::hash(&json).to_hex();
        disk.write_atomic(&work.join(Self::FILE), |writer| {
            writeln!(writer, "{hash}")?;
            writer.write_all(&json)
        })?;
        Ok(())
    }

    /// `None` if the run has no state yet; one that is not as it was written is an error.
    pub fn read(work: &Path) -> Result<Option<Self>, JournalError> {
        let path = work.join(Self::FILE);
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        let damaged = |problem: &str| JournalError::Damaged {
            path: path.clone(),
            problem: format!("the state of the interrupted run {problem}"),
        };
        let split = bytes.iter().position(|&byte| byte == b'\n');
        let (hash, json) = bytes.split_at(split.map_or(bytes.len(), |newline| newline + 1));
        if hash.trim_ascii() != blake3::hash(json).to_hex().as_bytes() {
            return Err(damaged("does not match its checksum"));
        }
        let state: Self = serde_json::from_slice(json)
            .map_err(|error| damaged(&format!("is not in the format of this version: {error}")))?;
        if state.format != FORMAT {
            return Err(damaged("is not in the format of this version"));
        }
        Ok(Some(state))
    }
}
