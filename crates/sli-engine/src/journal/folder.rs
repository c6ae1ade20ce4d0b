//! An output folder at work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err::File;
use sli_checkpoint::Found;

use super::clearing::{begin_clearing, clear_work, finish_clearing, remove_work};
use super::error::JournalError;
use super::files::{MANIFEST, WORK, is_empty, lock, names_in};
use super::key::RunKey;
use super::manifest::{Manifest, ResultFile, different};
use super::progress::{Mark, Progress, WEIGHTS};
use super::state::{FORMAT, State, Whole};
use crate::durable::{Disk, DiskError};

/// What [`OutputFolder::open`](super::OutputFolder::open) found.
pub enum Opened {
    /// Nothing was there; the run starts.
    New(OutputFolder),
    /// A run that ended early; it continues after [`OutputFolder::progress`](super::OutputFolder::progress).
    Resumed(OutputFolder),
    /// The same run, complete.
    Finished(Manifest),
}

/// A file that a checkpoint has to make durable, registered with [`OutputFolder::register`](super::OutputFolder::register).
pub trait Durable: Send + Sync {
    /// Writes out everything and returns, once it is on the device, what counts of it.
    fn make_durable(&self) -> Result<Mark, DiskError>;
}

/// An output folder that this process holds, at work.
pub struct OutputFolder {
    pub(super) folder: PathBuf,
    pub(super) work: PathBuf,
    pub(super) disk: Disk,
    pub(super) key: RunKey,
    pub(super) generation: u64,
    pub(super) progress: Progress,
    pub(super) whole: Whole,
    pub(super) shared: Mutex<Shared>,
    pub(super) published: Vec<ResultFile>,
    /// Dropping it gives the folder free.
    pub(super) _lock: File,
}

/// What sinks change while the run holds the folder.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) sinks: BTreeMap<String, Arc<dyn Durable>>,
    /// What counted of every sink at the last checkpoint.
    pub(super) marks: BTreeMap<String, Mark>,
    pub(super) results: BTreeSet<String>,
    /// Those of `results` that the state on the device lists.
    pub(super) durable_results: BTreeSet<String>,
}

impl OutputFolder {
    /// Opens or creates the output folder of the run `key`.
    ///
    /// `fresh` discards what an earlier run left there, whatever its key; files that are not this program's
    /// are refused even then.
    pub fn open(folder: &Path, key: RunKey, fresh: bool) -> Result<Opened, JournalError> {
        Self::open_on(&Disk::real(), folder, key, fresh)
    }

    /// [`Self::open`] on a given disk.
    pub fn open_on(
        disk: &Disk,
        folder: &Path,
        key: RunKey,
        fresh: bool,
    ) -> Result<Opened, JournalError> {
        disk.create_dir_all(folder)?;
        let work = folder.join(WORK);
        if !work.is_dir() {
            match Manifest::read(folder)? {
                Some(manifest) if !fresh => {
                    return manifest.finished(folder, &key).map(Opened::Finished);
                }
                None if !is_empty(folder)? => return Err(JournalError::NotOurs(folder.into())),
                _ => {}
            }
        }
        let lock = lock(disk, folder, &work)?;
        // Only now does nobody else change the folder.
        finish_clearing(disk, folder, &work)?;
        let manifest = Manifest::read(folder)?;
        if fresh {
            let state = State::read(&work).unwrap_or_default();
            let mut names: BTreeSet<String> = state.map_or_else(BTreeSet::new, |s| s.results);
            if let Some(manifest) = &manifest {
                names.extend(manifest.files.iter().map(|file| file.name.clone()));
                names.insert(MANIFEST.into());
            }
            begin_clearing(disk, &work, &names)?;
            finish_clearing(disk, folder, &work)?;
        } else if let Some(manifest) = &manifest {
            // The run was killed between its last two steps, or ended while this one waited.
            let finished = manifest.finished(folder, &key)?;
            remove_work(disk, folder, &work)?;
            return Ok(Opened::Finished(finished));
        }
        let mut output = Self {
            folder: folder.to_owned(),
            work,
            disk: disk.clone(),
            key,
            generation: 0,
            progress: Progress::default(),
            whole: Whole::default(),
            shared: Mutex::default(),
            published: Vec::new(),
            _lock: lock,
        };
        let Some(state) = State::read(&output.work)? else {
            clear_work(disk, &output.work)?;
            return Ok(Opened::New(output));
        };
        different(folder, &state.key, &output.key)?;
        output.generation = state.generation;
        output.progress = state.progress;
        output.whole = state.whole;
        output.shared = Mutex::new(Shared {
            sinks: BTreeMap::new(),
            marks: state.sinks,
            results: state.results.clone(),
            durable_results: state.results,
        });
        Ok(Opened::Resumed(output))
    }

    /// Opens or creates the folder in which `parts` parts of the run `key` become one; else as [`Self::open`]. While that
    /// is at work, the folder is not one of the run.
    pub(crate) fn open_merge(
        folder: &Path,
        key: &RunKey,
        parts: usize,
        fresh: bool,
    ) -> Result<Opened, JournalError> {
        let mut own = key.clone();
        if fresh || Manifest::read(folder)?.is_none() {
            own.set("merge", format!("of {parts} parts"));
        }
        Self::open(folder, own, fresh)
    }

    /// Gives the folder to the run of another key, from its end on.
    pub(crate) fn settle(&mut self, key: RunKey) {
        self.key = key;
    }

    /// Removes what is there, so that the same command starts over.
    pub(crate) fn discard(self) -> Result<(), JournalError> {
        let names = self.shared().results.clone();
        begin_clearing(&self.disk, &self.work, &names)?;
        finish_clearing(&self.disk, &self.folder, &self.work)?;
        remove_work(&self.disk, &self.folder, &self.work)
    }

    /// The output folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A place for files of the run in progress; it goes when the run is finished.
    pub fn work_dir(&self) -> &Path {
        &self.work
    }

    /// The disk that everything in the folder is written through.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What the results depend on.
    pub fn key(&self) -> &RunKey {
        &self.key
    }

    /// Takes into the key what was read of the model's folder since it was made; durable with the next
    /// checkpoint. A part that the key has already stays.
    pub fn add_files(&mut self, record: &BTreeMap<String, Found>) {
        self.add_files_under("", record);
    }

    /// [`Self::add_files`] of another model, under names that begin with `prefix`.
    pub(crate) fn add_files_under(&mut self, prefix: &str, record: &BTreeMap<String, Found>) {
        self.key.add_new_files(prefix, record);
    }

    /// How far the run is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Changes what the next checkpoint will say.
    pub fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Goes back to the last checkpoint that was between two super-batches, which may be some records earlier
    /// than the interrupted one. This is durable at once: what comes after it writes over results that the
    /// interrupted super-batch counts on.
    ///
    /// # Panics
    /// If files are registered already: they were opened as the interrupted super-batch left them.
    pub fn forget_current(&mut self) -> Result<(), JournalError> {
        let shared = self
            .shared
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        assert!(shared.sinks.is_empty(), "go back before results are opened");
        shared.marks.clone_from(&self.whole.sinks);
        self.progress.records_done = self.whole.records_done;
        let weights = self.progress.blobs.remove_entry(WEIGHTS);
        self.progress.blobs.clone_from(&self.whole.blobs);
        self.progress.blobs.extend(weights);
        self.progress.current = None;
        self.checkpoint()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What counted at the last checkpoint of the file registered under `name`; `None` if it is new.
    pub fn mark(&self, name: &str) -> Option<Mark> {
        self.shared().marks.get(name).cloned()
    }

    /// Lets checkpoints make `file` durable and remember what counts of it. `results`: the names in the output
    /// folder that it will get.
    pub fn register(
        &self,
        name: &str,
        file: Arc<dyn Durable>,
        results: impl IntoIterator<Item = String>,
    ) {
        let mut shared = self.shared();
        shared.sinks.insert(name.to_owned(), file);
        shared.results.extend(results);
    }

    /// Makes all registered files and [`Self::progress`] durable; a kill from here on comes back to this point.
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        let shared = self
            .shared
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for (name, sink) in &shared.sinks {
            let mark = sink.make_durable()?;
            shared.marks.insert(name.clone(), mark);
        }
        if self.progress.current.is_none() {
            self.whole = Whole {
                records_done: self.progress.records_done,
                blobs: self.progress.blobs.clone(),
                sinks: shared.marks.clone(),
            };
        }
        let state = State {
            format: FORMAT,
            key: self.key.clone(),
            generation: self.generation + 1,
            progress: self.progress.clone(),
            sinks: shared.marks.clone(),
            whole: self.whole.clone(),
            results: shared.results.clone(),
        };
        self.disk.sync_dir(&self.work)?;
        let buffers = self.work.join("buffers");
        if buffers.is_dir() {
            self.disk.sync_dir(&buffers)?;
        }
        state.write(&self.disk, &self.work)?;
        shared.durable_results.clone_from(&state.results);
        self.generation = state.generation;
        self.remove_unreferenced(&buffers)
    }

    fn remove_unreferenced(&self, buffers: &Path) -> Result<(), JournalError> {
        let current = self.progress.current.iter().flat_map(|current| {
            let ends = current.ends.iter().flat_map(|end| &end.buffers);
            let kept = current.kept.iter().map(|kept| &kept.buffer);
            current.buffers.iter().chain(ends).chain(kept)
        });
        let blobs = self.progress.blobs.values();
        let kept: BTreeSet<&str> = current
            .chain(blobs.chain(self.whole.blobs.values()))
            .map(|buffer| buffer.file.as_str())
            .collect();
        for name in names_in(buffers)? {
            if !kept.contains(name.as_str()) {
                self.disk.remove_file(&buffers.join(name))?;
            }
        }
        Ok(())
    }
}

impl RunKey {
    /// The key of the run that is in a folder, finished or not; `None` if there is none, or none that can
    /// be read, which opening the folder will say. Nothing is locked: the run may go on meanwhile.
    pub fn of_folder(folder: &Path) -> Option<Self> {
        match State::read(&folder.join(WORK)) {
            Ok(Some(state)) => Some(state.key),
            _ => Some(Manifest::read(folder).ok()??.key),
        }
    }
}
