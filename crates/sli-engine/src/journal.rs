//! The life of an output folder: empty, at work, finished; and what survives a kill in between.
//!
//! All work is in `DIR/.sli/`: a lock, the state, partial results and saved activations. Results move to
//! `DIR` when the run is complete; `run.json` comes last, then `.sli` goes. So a folder with `run.json` is
//! finished, one with `.sli/state.json` is continued, one with neither and nothing else in it starts, and any
//! other is somebody else's and is not touched.
//!
//! Invariant: what the state file says is on the device. [`OutputFolder::checkpoint`] first makes all that
//! the new state relies on durable, then replaces the state in one step, then removes what only the old state
//! needed. Files that the state does not know may hold anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs::TryLockError;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sli_checkpoint::Found;

use crate::durable::{Disk, DiskError};
use crate::fingerprint::{self, Fingerprinted};
use crate::floats;
use crate::portion::Portion;
use crate::spent::Spent;

/// The folder for work in progress inside an output folder.
const WORK: &str = ".sli";
const MANIFEST: &str = "run.json";
const FORMAT: u64 = 3;
/// The blob of what was read of the weights: no accumulator, it stays where a super-batch starts again.
pub(crate) const WEIGHTS: &str = "weights";
/// How parts of a key begin that are files of the model's folder.
const FILE_PART: &str = "model ";
/// The value of such a part where there is no such file.
const NO_FILE: &str = "not there";
/// Bytes of activations hashed and written at a time.
const PIECE: usize = 1 << 20;
/// Of a finished run, this many bytes of its smallest results are compared with their hashes when it is opened:
/// a tenth of a second or two.
const CHECKED: u64 = 256 << 20;

/// An output folder cannot be used, or its state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process is at work there.
    #[error("another run is writing to {}", .0.display())]
    Locked(PathBuf),
    /// It holds files that no run of this program made.
    #[error("{} is not empty and was not made by this program", .0.display())]
    NotOurs(PathBuf),
    /// It belongs to a run of something else.
    #[error(
        "{} belongs to another run; {}",
        path.display(),
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Different {
        /// The output folder.
        path: PathBuf,
        /// Every part of the key that differs.
        differences: Vec<Difference>,
    },
    /// A file of the journal is not as it was written.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl JournalError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked(_) => "wait for it to end, or choose another --out".into(),
            Self::NotOurs(_) => "choose an empty or new folder for --out".into(),
            Self::Different { .. } => {
                "choose another --out, or give --fresh to discard what is there".into()
            }
            Self::Damaged { .. } => "give --fresh to start over".into(),
            Self::Disk(error) => error.hint(),
        }
    }

    /// The exit code of the program: 3 for a folder of something else, 5 for input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotOurs(_) | Self::Different { .. } => 3,
            Self::Locked(_) | Self::Damaged { .. } => 5,
            Self::Disk(error) => error.exit_code(),
        }
    }
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.into())
    }
}

/// What determines the bytes of a run's results, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKey {
    parts: BTreeMap<String, String>,
}

impl RunKey {
    /// A key without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part: `model.config`, `data`, `compute`, ...; the value is compared and shown, so hash long ones.
    pub fn set(&mut self, name: impl Into<String>, value: impl fmt::Display) -> &mut Self {
        self.parts.insert(name.into(), value.to_string());
        self
    }

    /// The value of a part.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parts.get(name).map(String::as_str)
    }

    /// All parts by name.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds what was read of a model's folder, as [`sli_checkpoint::ModelFolder::record`] has it.
    pub fn add_files(&mut self, record: &BTreeMap<String, Found>) {
        for (name, found) in record {
            let found = found.as_deref().unwrap_or(NO_FILE);
            self.set(format!("{FILE_PART}{name}"), found);
        }
    }

    /// Names of the files of the model's folder that the key knows.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.parts
            .keys()
            .filter_map(|name| name.strip_prefix(FILE_PART))
    }

    /// The key of the run that is in a folder, finished or not; `None` if there is none, or none that can
    /// be read, which opening the folder will say. Nothing is locked: the run may go on meanwhile.
    pub fn of_folder(folder: &Path) -> Option<Self> {
        match State::read(&folder.join(WORK)) {
            Ok(Some(state)) => Some(state.key),
            _ => Some(Manifest::read(folder).ok()??.key),
        }
    }

    /// The parts in which `now` differs from this, earlier, key.
    pub fn difference(&self, now: &Self) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.parts.keys().chain(now.parts.keys()).collect();
        let changed = |name: &&String| self.parts.get(*name) != now.parts.get(*name);
        let describe = |name: &String| Difference {
            name: name.clone(),
            was: self.parts.get(name).cloned(),
            is: now.parts.get(name).cloned(),
        };
        names.into_iter().filter(changed).map(describe).collect()
    }
}

/// One part of a key that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The part.
    pub name: String,
    /// Its value in the folder; `None` if it had none.
    pub was: Option<String>,
    /// Its value now; `None` if it has none.
    pub is: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        write!(
            f,
            "{} was {}, is {}",
            self.name,
            value(&self.was),
            value(&self.is)
        )
    }
}

/// How far a run is. Records are counted in input order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Records whose results are complete.
    pub records_done: u64,
    /// The super-batch that follows, if some of its layers are done.
    pub current: Option<SuperBatchProgress>,
    /// Passes of a super-batch through a layer so far, over all processes.
    pub layer_passes: u64,
    /// Tokens times the layers they ran through so far, over all processes; what records share counts
    /// once.
    pub token_layers: u64,
    /// What it cost so far, over all processes.
    #[serde(default)]
    pub spent: Spent,
    /// Saved accumulators by name; [`OutputFolder::save_blob`] enters them.
    pub blobs: BTreeMap<String, BufferRef>,
}

/// A super-batch between two layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuperBatchProgress {
    /// Its records, in the portions whose activations are in memory together.
    pub portions: Vec<Portion>,
    /// Whether records share what they have in common, where they can: then the activations are those of
    /// a tree.
    pub shared: bool,
    /// The stack that it is in.
    pub stack: usize,
    /// Layers of that stack that are done.
    pub boundary: usize,
    /// The activations there.
    pub buffers: Vec<BufferRef>,
    /// The ends of earlier stacks that later ones read.
    #[serde(default)]
    pub ends: Vec<EndProgress>,
}

/// The end of a stack, part by part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndProgress {
    /// Which stack.
    pub stack: usize,
    /// Its rows in every part.
    pub buffers: Vec<BufferRef>,
}

impl SuperBatchProgress {
    /// All of its records.
    pub fn records(&self) -> Range<usize> {
        let (first, last) = (self.portions.first(), self.portions.last());
        let first = first.map_or(0, |portion| portion.records.start);
        first..last.map_or(first, |portion| portion.records.end)
    }
}

/// A file of saved values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferRef {
    file: String,
    /// Rows; of a blob its length in bytes.
    pub rows: usize,
    /// Columns; of a blob 1.
    pub cols: usize,
    blake3: String,
}

/// A file that a checkpoint has to make durable, registered with [`OutputFolder::register`].
pub trait Durable: Send + Sync {
    /// Writes out everything and returns, once it is on the device, what counts of it.
    fn make_durable(&self) -> Result<Mark, DiskError>;
}

/// What a checkpoint knows of a file that grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The length that counts.
    pub length: u64,
    /// A sum of what was written, so that it is known again: whose, the file's kind decides.
    pub digest: String,
}

/// What `.sli/state.json` holds after its checksum.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    format: u64,
    key: RunKey,
    generation: u64,
    progress: Progress,
    /// What counts of every registered file.
    sinks: BTreeMap<String, Mark>,
    /// The last checkpoint between two super-batches.
    whole: Whole,
    /// Names in the output folder that are, or will be, the run's.
    results: BTreeSet<String>,
}

/// What it takes to go back to a point between two super-batches.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Whole {
    records_done: u64,
    blobs: BTreeMap<String, BufferRef>,
    sinks: BTreeMap<String, Mark>,
}

/// What [`OutputFolder::open`] found.
pub enum Opened {
    /// Nothing was there; the run starts.
    New(OutputFolder),
    /// A run that ended early; it continues after [`OutputFolder::progress`].
    Resumed(OutputFolder),
    /// The same run, complete.
    Finished(Manifest),
}

/// The content of a `run.json`.
#[derive(Clone, Debug)]
pub struct Manifest {
    json: Value,
    key: RunKey,
    files: Vec<ResultFile>,
}

/// A file of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFile {
    /// Path relative to the output folder, with `/`.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// blake3 of the content, in hexadecimal; folders of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// What a result file is written through, from its beginning to its end.
pub type ResultWriter = BufWriter<Fingerprinted>;

impl Manifest {
    /// Everything in it.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// What the results depend on.
    pub fn key(&self) -> &RunKey {
        &self.key
    }

    /// The result files.
    pub fn files(&self) -> &[ResultFile] {
        &self.files
    }

    /// `None` if there is no manifest; a file of another program is [`JournalError::NotOurs`].
    fn read(folder: &Path) -> Result<Option<Self>, JournalError> {
        let Some(bytes) = read_if_there(&folder.join(MANIFEST))? else {
            return Ok(None);
        };
        let ours = || {
            let json: Value = serde_json::from_slice(&bytes).ok()?;
            json.get("sli")?.as_str()?;
            let key = serde_json::from_value(json.get("key")?.clone()).ok()?;
            let files = serde_json::from_value(json.get("files")?.clone()).ok()?;
            Some(Self { json, key, files })
        };
        ours()
            .map(Some)
            .ok_or_else(|| JournalError::NotOurs(folder.to_owned()))
    }

    /// That every file is there with its length, and small ones with their content.
    fn check(&self, folder: &Path) -> Result<(), JournalError> {
        let mut left = CHECKED;
        let mut files: Vec<&ResultFile> = self.files.iter().collect();
        files.sort_by_key(|file| file.bytes);
        for file in files {
            let path = folder.join(&file.name);
            let problem = match fs_err::metadata(&path) {
                Ok(metadata) if metadata.len() == file.bytes => {
                    left = left.saturating_sub(file.bytes);
                    let Some(hash) = file.blake3.as_ref().filter(|_| left > 0) else {
                        continue;
                    };
                    if fingerprint::of_file(&path)? == *hash {
                        continue;
                    }
                    format!("its content is not what {MANIFEST} says was written")
                }
                Ok(metadata) => {
                    format!(
                        "{MANIFEST} says {} bytes, it has {}",
                        file.bytes,
                        metadata.len()
                    )
                }
                Err(_) => format!("{MANIFEST} lists it, but it is not there"),
            };
            return Err(JournalError::Damaged { path, problem });
        }
        Ok(())
    }
}

/// An output folder that this process holds, at work.
pub struct OutputFolder {
    folder: PathBuf,
    work: PathBuf,
    disk: Disk,
    key: RunKey,
    generation: u64,
    progress: Progress,
    whole: Whole,
    shared: Mutex<Shared>,
    published: Vec<ResultFile>,
    /// Dropping it gives the folder free.
    _lock: File,
}

/// What sinks change while the run holds the folder.
#[derive(Default)]
struct Shared {
    sinks: BTreeMap<String, Arc<dyn Durable>>,
    /// What counted of every sink at the last checkpoint.
    marks: BTreeMap<String, Mark>,
    results: BTreeSet<String>,
    /// Those of `results` that the state on the device lists.
    durable_results: BTreeSet<String>,
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
                Some(manifest) if !fresh => return manifest.finished(folder, &key),
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
            return Ok(finished);
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
        let mut read = RunKey::new();
        read.add_files(record);
        for (name, value) in read.parts {
            self.key.parts.entry(name).or_insert(value);
        }
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
            current.buffers.iter().chain(ends)
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

    /// Saves activations `[rows, cols]` for the next checkpoint. Saving under the same name again before that
    /// replaces them; the previous checkpoint's stay until then.
    pub fn save_buffer(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        values: &[f32],
    ) -> Result<BufferRef, JournalError> {
        debug_assert_eq!(values.len(), rows * cols, "a buffer has rows x cols values");
        let pieces = values.chunks(PIECE / 4);
        let (file, blake3) = self.save(name, |out| {
            for piece in pieces {
                if cfg!(target_endian = "little") {
                    out(bytemuck::cast_slice(piece))?;
                } else {
                    let mut bytes = Vec::with_capacity(4 * piece.len());
                    floats::write(piece, &mut bytes);
                    out(&bytes)?;
                }
            }
            Ok(())
        })?;
        Ok(BufferRef {
            file,
            rows,
            cols,
            blake3,
        })
    }

    /// Reads activations back into `values`, which has `rows * cols` elements.
    pub fn load_buffer(&self, buffer: &BufferRef, values: &mut [f32]) -> Result<(), JournalError> {
        if buffer.rows.checked_mul(buffer.cols) != Some(values.len()) {
            return Err(self.damaged(buffer, "it has another shape than the run needs".into()));
        }
        self.load(buffer, bytemuck::cast_slice_mut(values))?;
        for value in values {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
        Ok(())
    }

    /// Saves an accumulator for the next checkpoint, which will list it in [`Progress::blobs`].
    pub fn save_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let (file, blake3) = self.save(name, |out| bytes.chunks(PIECE).try_for_each(out))?;
        let blob = BufferRef {
            file,
            rows: bytes.len(),
            cols: 1,
            blake3,
        };
        self.progress.blobs.insert(name.to_owned(), blob);
        Ok(())
    }

    /// Reads back an accumulator; `None` if there is none of that name.
    pub fn load_blob(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let Some(blob) = self.progress.blobs.get(name) else {
            return Ok(None);
        };
        let mut bytes = vec![0; blob.rows];
        self.load(blob, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn save(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(String, String), JournalError> {
        let buffers = self.work.join("buffers");
        self.disk.create_dir_all(&buffers)?;
        // Never the file that the state on the device refers to.
        let file = format!("{name}.{}", self.generation + 1);
        let mut hasher = blake3::Hasher::new();
        self.disk.write_durable(&buffers.join(&file), |writer| {
            write(&mut |bytes| {
                hasher.update(bytes);
                writer.write_all(bytes)
            })
        })?;
        Ok((file, hasher.finalize().to_hex().to_string()))
    }

    fn load(&self, buffer: &BufferRef, bytes: &mut [u8]) -> Result<(), JournalError> {
        let file = File::open(self.work.join("buffers").join(&buffer.file))?;
        if file.metadata()?.len() != bytes.len() as u64 {
            return Err(self.damaged(buffer, "its length is not what was saved".into()));
        }
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        for piece in bytes.chunks_mut(PIECE) {
            file.read_exact_at(piece, offset)?;
            hasher.update(piece);
            offset += piece.len() as u64;
        }
        if hasher.finalize().to_hex().as_str() == buffer.blake3 {
            Ok(())
        } else {
            Err(self.damaged(buffer, "its content is not what was saved".into()))
        }
    }

    fn damaged(&self, buffer: &BufferRef, problem: String) -> JournalError {
        JournalError::Damaged {
            path: self.work.join("buffers").join(&buffer.file),
            problem,
        }
    }

    /// Moves a complete and durable file of the work folder to its name in the output folder.
    ///
    /// A file that an earlier attempt has moved already is only entered in the manifest. `hash`: blake3 of its
    /// content.
    pub fn publish(
        &mut self,
        partial: &Path,
        name: &str,
        hash: String,
    ) -> Result<(), JournalError> {
        self.announce(name)?;
        let target = self.folder.join(name);
        if let Some(parent) = target.parent() {
            self.disk.create_dir_all(parent)?;
        }
        if partial.exists() || !target.exists() {
            self.disk.rename(partial, &target)?;
        }
        let bytes = fs_err::metadata(&target)?.len();
        self.published.push(ResultFile {
            name: name.to_owned(),
            bytes,
            blake3: Some(hash),
        });
        Ok(())
    }

    /// Writes a whole result file, durably, and publishes it.
    pub fn publish_new<E: From<JournalError>>(
        &mut self,
        name: &str,
        write: impl FnOnce(ResultWriter) -> Result<ResultWriter, E>,
    ) -> Result<(), E> {
        self.announce(name)?;
        let partial = partial_path(&self.work, name);
        let create = || {
            Ok(BufWriter::with_capacity(
                1 << 16,
                Fingerprinted::new(self.disk.create(&partial)?),
            ))
        };
        let writer = write(create().map_err(|error: DiskError| JournalError::from(error))?)?;
        let close = || {
            let file = writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            file.finish()
        };
        let hash = close().map_err(JournalError::from)?;
        Ok(self.publish(&partial, name, hash)?)
    }

    /// Makes sure that the state lists a name before a file of that name is in the output folder.
    fn announce(&mut self, name: &str) -> Result<(), JournalError> {
        let shared = self
            .shared
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if shared.durable_results.contains(name) {
            return Ok(());
        }
        shared.results.insert(name.to_owned());
        self.checkpoint()
    }

    /// Ends the run: writes `run.json` with the members of `manifest`, the key and the files published, and
    /// removes the work folder.
    pub fn finish(mut self, manifest: Value) -> Result<Manifest, JournalError> {
        self.published.sort_by(|a, b| a.name.cmp(&b.name));
        let mut json = serde_json::Map::new();
        json.insert("sli".into(), env!("CARGO_PKG_VERSION").into());
        json.insert("key".into(), to_value(&self.key));
        json.insert("files".into(), to_value(&self.published));
        if let Value::Object(members) = manifest {
            for (name, value) in members {
                json.entry(name).or_insert(value);
            }
        }
        let json = Value::Object(json);
        let partial = self.work.join(format!("{MANIFEST}.partial"));
        self.disk.write_durable(&partial, |writer| {
            serde_json::to_writer_pretty(&mut *writer, &json)?;
            writer.write_all(b"\n")
        })?;
        self.disk.rename(&partial, &self.folder.join(MANIFEST))?;
        remove_work(&self.disk, &self.folder, &self.work)?;
        Ok(Manifest {
            json,
            key: self.key,
            files: self.published,
        })
    }
}

/// A blob of the run in a folder, which may be at work; `None` if there is none that can be read.
pub(crate) fn blob_of(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let work = folder.join(WORK);
    let state = State::read(&work).ok()??;
    let blob = state.progress.blobs.get(name)?;
    fs_err::read(work.join("buffers").join(&blob.file)).ok()
}

/// Where the partial file of the result `name` is.
pub(crate) fn partial_path(work: &Path, name: &str) -> PathBuf {
    work.join(format!("{}.partial", name.replace('/', "-")))
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Manifest {
    fn finished(&self, folder: &Path, key: &RunKey) -> Result<Opened, JournalError> {
        different(folder, &self.key, key)?;
        self.check(folder)?;
        Ok(Opened::Finished(self.clone()))
    }
}

impl State {
    const FILE: &str = "state.json";

    /// The line of the checksum, then JSON.
    fn write(&self, disk: &Disk, work: &Path) -> Result<(), JournalError> {
        let json = serde_json::to_vec(self).map_err(io::Error::from)?;
        let hash = blake3::hash(&json).to_hex();
        disk.write_atomic(&work.join(Self::FILE), |writer| {
            writeln!(writer, "{hash}")?;
            writer.write_all(&json)
        })?;
        Ok(())
    }

    /// `None` if the run has no state yet; one that is not as it was written is an error.
    fn read(work: &Path) -> Result<Option<Self>, JournalError> {
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
        let state = serde_json::from_slice(json)
            .map_err(|error| damaged(&format!("is not in the format of this version: {error}")))?;
        Ok(Some(state))
    }
}

fn different(folder: &Path, was: &RunKey, is: &RunKey) -> Result<(), JournalError> {
    let differences = was.difference(is);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(JournalError::Different {
            path: folder.to_owned(),
            differences,
        })
    }
}

/// Whether nothing counts in a folder: hidden files and a file system's own folder do not.
fn is_empty(folder: &Path) -> Result<bool, JournalError> {
    let counts = |name: &String| !name.starts_with('.') && name != "lost+found";
    Ok(!names_in(folder)?.iter().any(counts))
}

fn names_in(folder: &Path) -> Result<Vec<String>, JournalError> {
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match fs_err::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A device may have no end, a pipe no other end.
        Ok(metadata) if !metadata.is_file() => Err(JournalError::Damaged {
            path: path.to_owned(),
            problem: "it is not a regular file".into(),
        }),
        other => other
            .and_then(|_| fs_err::read(path))
            .map(Some)
            .map_err(Into::into),
    }
}

/// Takes the work folder for this process.
fn lock(disk: &Disk, folder: &Path, work: &Path) -> Result<File, JournalError> {
    let path = work.join("lock");
    loop {
        disk.create_dir_all(work)?;
        let mut options = fs_err::OpenOptions::new();
        let file = match options.write(true).create(true).truncate(false).open(&path) {
            // The run that held it has just removed its work folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(DiskError::from)?,
        };
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked(folder.to_owned())),
            // Some network file systems have no locks; the run is worth more than the check.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        if is_still_named(&file, &path) {
            return Ok(file);
        }
    }
}

/// Whether `path` still leads to `file`: a lock on a removed file excludes nobody.
fn is_still_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(named)) = (file.metadata(), fs_err::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

const CLEARING: &str = "clearing.json";

/// Notes what is to be removed, so that a kill while removing does not leave half a run.
fn begin_clearing(disk: &Disk, work: &Path, names: &BTreeSet<String>) -> Result<(), JournalError> {
    let json = serde_json::to_vec(names).map_err(io::Error::from)?;
    Ok(disk.write_atomic(&work.join(CLEARING), |writer| writer.write_all(&json))?)
}

/// Removes what is noted to be removed, if anything is.
fn finish_clearing(disk: &Disk, folder: &Path, work: &Path) -> Result<(), JournalError> {
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
fn clear_work(disk: &Disk, work: &Path) -> Result<(), JournalError> {
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
fn clear_folder(disk: &Disk, folder: &Path) -> Result<(), JournalError> {
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
fn remove_work(disk: &Disk, folder: &Path, work: &Path) -> Result<(), JournalError> {
    clear_work(disk, work)?;
    disk.remove_file(&work.join(CLEARING))?;
    disk.remove_file(&work.join("lock"))?;
    disk.remove_dir_if_empty(work)?;
    Ok(disk.sync_dir(folder)?)
}

/// The hash of a text, for a part of a [`RunKey`] that is too long to show.
pub fn short_hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(32);
    for byte in &blake3::hash(bytes).as_bytes()[..16] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> RunKey {
        let mut key = RunKey::new();
        for (name, value) in parts {
            key.set(*name, value);
        }
        key
    }

    fn one() -> RunKey {
        key(&[("data", "d1"), ("model.config", "m1")])
    }

    fn open(folder: &Path) -> Result<Opened, JournalError> {
        OutputFolder::open(folder, one(), false)
    }

    fn new(folder: &Path) -> OutputFolder {
        match open(folder).unwrap() {
            Opened::New(output) => output,
            Opened::Resumed(_) | Opened::Finished(_) => panic!("not new"),
        }
    }

    fn resumed(folder: &Path) -> OutputFolder {
        match open(folder).unwrap() {
            Opened::Resumed(output) => output,
            Opened::New(_) | Opened::Finished(_) => panic!("not resumed"),
        }
    }

    fn error(outcome: Result<Opened, JournalError>) -> JournalError {
        outcome.err().expect("an error")
    }

    /// Names and contents of everything in a folder, except for the work folder's lock.
    fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for name in names_in(folder).unwrap() {
            let path = folder.join(&name);
            if path.is_dir() {
                let inner = contents(&path);
                all.extend(
                    inner
                        .into_iter()
                        .map(|(inner, v)| (format!("{name}/{inner}"), v)),
                );
            } else {
                all.insert(name, fs_err::read(&path).unwrap());
            }
        }
        all
    }

    fn publish(output: &mut OutputFolder, name: &str, content: &[u8]) {
        output
            .publish_new::<JournalError>(name, |mut writer| {
                writer.write_all(content)?;
                Ok(writer)
            })
            .unwrap();
    }

    #[test]
    fn a_run_from_start_to_end() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let mut output = new(&folder);
        assert_eq!(output.progress(), &Progress::default());
        output.progress_mut().records_done = 7;
        output.progress_mut().layer_passes = 3;
        output.checkpoint().unwrap();
        drop(output);

        let mut output = resumed(&folder);
        assert_eq!(output.progress().records_done, 7);
        assert_eq!(output.progress().layer_passes, 3);
        publish(&mut output, "hidden/decoder.001.safetensors", b"h");
        publish(&mut output, "scores.parquet", b"s!");
        let manifest = output
            .finish(serde_json::json!({ "seconds": 1.5, "sli": "x" }))
            .unwrap();
        assert_eq!(manifest.json()["seconds"], 1.5);
        assert_eq!(manifest.json()["sli"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            manifest.files()[1],
            ResultFile {
                name: "scores.parquet".into(),
                bytes: 2,
                blake3: Some(blake3::hash(b"s!").to_hex().to_string()),
            }
        );
        let names: Vec<String> = contents(&folder).into_keys().collect();
        assert_eq!(
            names,
            [
                "hidden/decoder.001.safetensors",
                "run.json",
                "scores.parquet"
            ]
        );

        let before = contents(&folder);
        let Opened::Finished(again) = open(&folder).unwrap() else {
            panic!("not finished")
        };
        assert_eq!(again.json(), manifest.json());
        assert_eq!(contents(&folder), before);
    }

    #[test]
    fn a_run_that_wrote_no_entry_starts() {
        let folder = tempfile::tempdir().unwrap();
        let output = new(folder.path());
        fs_err::write(output.work_dir().join("scores.rows"), b"left over").unwrap();
        drop(output);
        let other = key(&[("data", "d2")]);
        let Ok(Opened::New(output)) = OutputFolder::open(folder.path(), other, false) else {
            panic!("not new")
        };
        assert!(!output.work_dir().join("scores.rows").exists());
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        for (name, fresh) in [
            ("thesis.txt", false),
            ("thesis.txt", true),
            ("run.json", true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs_err::write(folder.path().join(name), b"{}").unwrap();
            let before = contents(folder.path());
            let error = error(OutputFolder::open(folder.path(), one(), fresh));
            assert!(matches!(error, JournalError::NotOurs(_)), "{error}");
            assert_eq!(error.exit_code(), 3);
            assert_eq!(contents(folder.path()), before);
        }
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("lost+found")).unwrap();
        fs_err::write(folder.path().join(".gitignore"), b"*").unwrap();
        new(folder.path());
    }

    #[test]
    fn a_second_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = new(folder.path());
        for fresh in [false, true] {
            let error = error(OutputFolder::open(folder.path(), one(), fresh));
            assert!(matches!(error, JournalError::Locked(_)), "{error}");
            assert!(error.hint().contains("--out"));
        }
        drop(first);
        new(folder.path());
    }

    #[test]
    fn another_key_is_named_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = new(folder.path());
        output.checkpoint().unwrap();
        let work = output.work_dir().to_owned();
        drop(output);
        let now = || key(&[("data", "d2"), ("model.config", "m1"), ("takes", "logits")]);
        let state = |folder: &Path| fs_err::read(folder.join(State::FILE)).unwrap();
        let before = state(&work);
        let check = |error: JournalError| {
            let JournalError::Different { differences, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(differences.len(), 2);
            let text = error.to_string();
            assert!(text.contains("data was d1, is d2"), "{text}");
            assert!(text.contains("takes was nothing, is logits"), "{text}");
            assert!(error.hint().contains("--fresh"));
            assert_eq!(error.exit_code(), 3);
        };
        check(error(OutputFolder::open(folder.path(), now(), false)));
        assert_eq!(state(&work), before);

        let mut output = resumed(folder.path());
        publish(&mut output, "hidden/decoder.norm.safetensors", b"old");
        output.finish(Value::Null).unwrap();
        let before = contents(folder.path());
        check(error(OutputFolder::open(folder.path(), now(), false)));
        assert_eq!(contents(folder.path()), before);

        fs_err::write(folder.path().join("notes.txt"), b"mine").unwrap();
        let Ok(Opened::New(_)) = OutputFolder::open(folder.path(), now(), true) else {
            panic!("not new")
        };
        let names: Vec<String> = contents(folder.path()).into_keys().collect();
        assert_eq!(names, [".sli/lock", "notes.txt"], "only our files go");
    }

    #[test]
    fn damage_is_an_error_and_not_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = new(folder.path());
        let buffer = output
            .save_buffer("hidden", 2, 2, &[1.0, 2.0, 3.0, 4.0])
            .unwrap();
        output.save_blob("profile", b"sums").unwrap();
        let current = SuperBatchProgress {
            portions: vec![Portion::whole(0..2)],
            shared: false,
            stack: 0,
            boundary: 1,
            ends: Vec::new(),
            buffers: vec![buffer],
        };
        output.progress_mut().current = Some(current);
        output.checkpoint().unwrap();
        let work = output.work_dir().to_owned();
        drop(output);

        let state = work.join(State::FILE);
        let whole = fs_err::read(&state).unwrap();
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        for damaged in [&whole[..whole.len() - 1], &whole[..40], &[], &flipped] {
            fs_err::write(&state, damaged).unwrap();
            let error = error(open(folder.path()));
            assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
            assert_eq!(error.exit_code(), 5);
        }
        fs_err::write(&state, &whole).unwrap();

        let output = resumed(folder.path());
        let buffers = work.join("buffers");
        for name in names_in(&buffers).unwrap() {
            let path = buffers.join(name);
            let mut bytes = fs_err::read(&path).unwrap();
            bytes[1] ^= 1;
            fs_err::write(path, bytes).unwrap();
        }
        let buffer = output.progress().current.as_ref().unwrap().buffers[0].clone();
        let mut values = [0.0; 4];
        let damaged = |error| matches!(error, JournalError::Damaged { .. });
        assert!(damaged(
            output.load_buffer(&buffer, &mut values).unwrap_err()
        ));
        assert!(damaged(
            output.load_buffer(&buffer, &mut [0.0; 3]).unwrap_err()
        ));
        assert!(damaged(output.load_blob("profile").unwrap_err()));
        drop(output);
        fs_err::write(&state, b"").unwrap();
        let fresh = OutputFolder::open(folder.path(), one(), true).unwrap();
        assert!(matches!(fresh, Opened::New(_)));
    }

    #[test]
    fn a_device_in_place_of_a_manifest_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::os::unix::fs::symlink("/dev/zero", folder.path().join(MANIFEST)).unwrap();
        let error = error(open(folder.path()));
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_finished_folder_whose_files_are_gone_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = new(folder.path());
        publish(&mut output, "scores.parquet", b"s");
        output.finish(Value::Null).unwrap();
        fs_err::write(folder.path().join("scores.parquet"), b"longer").unwrap();
        assert!(matches!(
            error(open(folder.path())),
            JournalError::Damaged { .. }
        ));
        fs_err::remove_file(folder.path().join("scores.parquet")).unwrap();
        let error = error(open(folder.path()));
        assert!(error.to_string().contains("not there"), "{error}");
    }

    #[test]
    fn a_flipped_bit_in_a_finished_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = new(folder.path());
        let partial = output.work_dir().join("values");
        fs_err::write(&partial, b"written in any order").unwrap();
        let hash = fingerprint::of_file(&partial).unwrap();
        output
            .publish(&partial, "hidden.safetensors", hash)
            .unwrap();
        publish(&mut output, "scores.parquet", b"scores");
        output.finish(Value::Null).unwrap();
        assert!(matches!(open(folder.path()), Ok(Opened::Finished(_))));
        for name in ["hidden.safetensors", "scores.parquet"] {
            let path = folder.path().join(name);
            let before = fs_err::read(&path).unwrap();
            let mut after = before.clone();
            after[3] ^= 4;
            fs_err::write(&path, after).unwrap();
            let error = error(open(folder.path()));
            assert!(error.to_string().contains("its content"), "{error}");
            assert_eq!(error.exit_code(), 5);
            fs_err::write(&path, before).unwrap();
        }
        assert!(matches!(open(folder.path()), Ok(Opened::Finished(_))));
    }

    #[test]
    fn only_the_last_checkpoint_keeps_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = new(folder.path());
        for round in 0..3_u8 {
            let values = [f32::from(round), f32::NAN];
            let buffer = output.save_buffer("slot-0", 1, 2, &values).unwrap();
            output.save_blob("profile", &[round]).unwrap();
            let current = SuperBatchProgress {
                portions: vec![Portion::whole(0..1)],
                shared: false,
                stack: 0,
                boundary: 1,
                ends: Vec::new(),
                buffers: vec![buffer],
            };
            output.progress_mut().current = Some(current);
            output.checkpoint().unwrap();
            assert_eq!(
                names_in(&output.work_dir().join("buffers")).unwrap().len(),
                2
            );
        }
        // Saved, but not part of a checkpoint.
        output.save_buffer("slot-0", 1, 2, &[9.0, 9.0]).unwrap();
        output.save_blob("profile", &[9]).unwrap();
        drop(output);
        let output = resumed(folder.path());
        let buffer = output.progress().current.as_ref().unwrap().buffers[0].clone();
        let mut values = [0.0; 2];
        output.load_buffer(&buffer, &mut values).unwrap();
        assert_eq!(values.map(f32::to_bits), [2.0, f32::NAN].map(f32::to_bits));
        assert_eq!(output.load_blob("profile").unwrap(), Some(vec![2]));
        assert_eq!(output.load_blob("other").unwrap(), None);
    }

    /// A stop at every operation of `--fresh` on a finished folder: whatever the next run finds, it ends with
    /// its own files only.
    #[test]
    fn clearing_is_all_or_nothing() {
        let finished = |folder: &Path| {
            let mut output = new(folder);
            publish(&mut output, "hidden/decoder.000.safetensors", b"h");
            publish(&mut output, "scores.parquet", b"s");
            output.finish(Value::Null).unwrap();
        };
        for operations in 0.. {
            let folder = tempfile::tempdir().unwrap();
            finished(folder.path());
            let disk = Disk::losing_power_after(operations);
            let outcome = OutputFolder::open_on(&disk, folder.path(), one(), true);
            let done = outcome.is_ok();
            drop(outcome);
            match open(folder.path()).unwrap() {
                Opened::Finished(_) => assert!(!done, "nothing was removed yet"),
                Opened::New(_) => {
                    assert_eq!(
                        contents(folder.path()).into_keys().collect::<Vec<_>>(),
                        [".sli/lock"]
                    );
                }
                Opened::Resumed(_) => panic!("nothing was checkpointed"),
            }
            if done {
                break;
            }
        }
    }

    #[test]
    fn a_full_disk_keeps_the_last_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::limited(4000);
        let opened = OutputFolder::open_on(&disk, folder.path(), one(), false).unwrap();
        let Opened::New(mut output) = opened else {
            panic!("not new")
        };
        output.progress_mut().records_done = 5;
        output.checkpoint().unwrap();
        let error = output
            .save_buffer("slot-0", 1000, 1, &[0.0; 1000])
            .unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(error.hint().contains("continues"));
        drop(output);
        let mut output = resumed(folder.path());
        assert_eq!(output.progress().records_done, 5);
        output.save_buffer("slot-0", 1000, 1, &[0.0; 1000]).unwrap();
        output.checkpoint().unwrap();
        assert_eq!(
            names_in(&output.work_dir().join("buffers")).unwrap(),
            Vec::<String>::new()
        );
    }
}
