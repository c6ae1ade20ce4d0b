//! The index of a checkpoint: which tensors there are and where, from headers alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::choice;
use crate::codes::{Coded, Codes, Fault, Holder, Tensors};
use crate::error::CheckpointError;
use crate::formats::format::Listing;
use crate::formats::gguf::{self, Metadata};
use crate::identity::ModelIdentity;
use crate::ledger::Ledger;
use crate::place::ModelPlace;
use crate::problem::LeafProblem;
use crate::sample::Sample;
use crate::source::{
    Arrival, ByteSource, CacheUse, LocalSource, NamedRange, RangeRead, ReadChoice, ReadMode,
    SourceError, Stamp,
};
use crate::tensors::{Choice, FileIndex, Index, TensorInfo, WeightFile};

/// An opened checkpoint. Nothing but headers has been read.
#[derive(Debug)]
pub struct Checkpoint {
    source: Box<dyn ByteSource>,
    files: Vec<WeightFile>,
    /// Sorted by name.
    tensors: Vec<TensorInfo>,
    /// The names in the files, where they are others, in the order of the tensors.
    stored_names: Vec<Box<str>>,
    /// How tensors are coded that are not stored plainly, by place.
    coded: BTreeMap<u32, Result<Coded, LeafProblem>>,
    /// The kernels that the codes were made for round the inputs of products too.
    rounds_inputs: bool,
    identity: ModelIdentity,
    choice: Option<Choice>,
    metadata: Option<Metadata>,
    /// When the files were changed last before they were opened.
    opened: BTreeMap<String, Stamp>,
    sample: OnceLock<Sample>,
    /// Where it is kept what was read.
    ledger: OnceLock<Ledger>,
    bytes_read: AtomicU64,
    /// Nanoseconds.
    reading: AtomicU64,
}

impl Checkpoint {
    /// Opens a folder or a single weights file. Which files of a folder are its weights follows from their names
    /// (`docs/formats.md`); other files are not looked at.
    pub fn open(folder_or_file: &Path) -> Result<Self, CheckpointError> {
        Self::open_with_mode(folder_or_file, ReadMode::Buffered)
    }

    /// [`Self::open`], reading as `mode` says.
    pub fn open_with_mode(folder_or_file: &Path, mode: ReadMode) -> Result<Self, CheckpointError> {
        match fs_err::metadata(folder_or_file) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let place = folder_or_file.display().to_string();
                return Err(CheckpointError::NotThere { place });
            }
            Err(error) => {
                let place = folder_or_file.display().to_string();
                return Err(SourceError::Io {
                    file: ".".to_owned(),
                    place,
                    error,
                }
                .into());
            }
        }
        let name = folder_or_file.file_name().and_then(|name| name.to_str());
        if let (true, Some(name)) = (folder_or_file.is_file(), name) {
            let folder = match folder_or_file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            return Self::open_file(Box::new(LocalSource::with_mode(folder, mode)), name);
        }
        Self::open_with(Box::new(LocalSource::with_mode(folder_or_file, mode)))
    }

    /// [`Self::open`] for a place that may be elsewhere.
    pub fn at(place: &ModelPlace) -> Result<Self, CheckpointError> {
        let source = Box::new(Arc::clone(place.source()));
        match place.file() {
            Some(file) => Self::open_file(source, file),
            None => Self::open_with(source),
        }
    }

    /// The GGUF file that [`Self::at`] takes, where it takes one: it holds all that a model consists of.
    pub fn gguf_file(place: &ModelPlace) -> Option<String> {
        if let Some(name) = place.file() {
            return gguf::is_gguf(name).then(|| name.to_owned());
        }
        let listing = Listing::of(&**place.source()).ok()?;
        if !listing.names.iter().any(|name| gguf::is_gguf(name)) {
            return None;
        }
        // What is wrong with the folder is said by who opens it.
        let (_, choice, _) = choice::choose(&listing).ok()??;
        gguf::is_gguf(&choice.taken).then_some(choice.taken)
    }

    /// [`Self::open`] on a folder from anywhere.
    pub fn open_with(source: Box<dyn ByteSource>) -> Result<Self, CheckpointError> {
        let listing = Listing::of(&*source)?;
        let Some((format, choice, way)) = choice::choose(&listing)? else {
            return Err(choice::none(&listing));
        };
        let mut index = format.index(&*source, &way)?;
        index.choice = Some(choice);
        Ok(Self::of(source, index))
    }

    /// Opens one weight file of a source.
    pub fn open_file(source: Box<dyn ByteSource>, file: &str) -> Result<Self, CheckpointError> {
        let index = choice::of_file(file).index_of_file(&*source, file)?;
        Ok(Self::of(source, index))
    }

    /// A checkpoint whose index is known.
    pub fn of(source: Box<dyn ByteSource>, index: Index) -> Self {
        Self {
            opened: stamps(&*source, &index.files),
            source,
            files: index.files,
            tensors: index.tensors,
            stored_names: Vec::new(),
            coded: BTreeMap::new(),
            rounds_inputs: false,
            identity: index.identity,
            choice: index.choice,
            metadata: index.metadata,
            sample: OnceLock::new(),
            ledger: OnceLock::new(),
            bytes_read: index.bytes_read.into(),
            reading: AtomicU64::new(0),
        }
    }

    /// Every tensor, in order of names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(self.position(name)?)
    }

    /// The weight files.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// Name of a weight file.
    pub fn file_name(&self, file: FileIndex) -> &str {
        self.files
            .get(file.0 as usize)
            .map_or("", |file| &file.name)
    }

    /// Bytes of all tensors.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// What was taken of a folder and what was left; `None` where a file was named by itself.
    pub fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    /// What the files themselves say of the model, where their format has a place for that.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// What makes this the same model as another.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// Hashes of blocks of every tensor, read at the first call.
    pub fn sample(&self) -> Result<&Sample, CheckpointError> {
        if let Some(sample) = self.sample.get() {
            return Ok(sample);
        }
        let sample = self.sample_again()?;
        Ok(self.sample.get_or_init(|| sample))
    }

    /// The sample, if it has been taken.
    pub fn known_sample(&self) -> Option<&Sample> {
        self.sample.get()
    }

    /// [`Self::sample`] of what the files hold now.
    pub fn sample_again(&self) -> Result<Sample, CheckpointError> {
        let id = |file: &WeightFile| self.source.content_id(&file.name);
        if let Some(ids) = self.files.iter().map(id).collect::<Option<Vec<_>>>() {
            return Ok(Sample::of_ids(&self.tensors, &self.files, &ids));
        }
        let read = |file, offset, out: &mut [u8]| self.look_at(file, offset, out);
        Sample::of(&self.tensors, &self.files, read)
    }

    /// From the first call on it is kept what is read, and compared with what was read before.
    pub fn keep_ledger(&self) -> &Ledger {
        self.ledger.get_or_init(|| Ledger::new(self.stored_bytes()))
    }

    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.ledger.get()
    }

    /// Begins to fetch these files where they are elsewhere, of them these ranges first.
    pub fn fetch_ahead(
        &self,
        files: &[String],
        first: &[NamedRange],
    ) -> Result<(), CheckpointError> {
        Ok(self.source.fetch_ahead(files, first)?)
    }

    /// How often the weights come over a line.
    pub fn arrival(&self) -> Arrival {
        self.source.arrival()
    }

    /// Memory that the source holds while it fetches what is elsewhere, bytes.
    pub fn source_memory(&self) -> u64 {
        self.source.memory()
    }

    /// Refuses what was read if it was not what it should have been.
    pub fn settle(&self) -> Result<(), CheckpointError> {
        Ok(self.source.settle()?)
    }

    /// When the weight files were last changed, as far as their system says.
    pub fn stamps(&self) -> BTreeMap<String, Stamp> {
        stamps(&*self.source, &self.files)
    }

    /// [`Self::stamps`] of when the checkpoint was opened.
    pub fn opened(&self) -> &BTreeMap<String, Stamp> {
        &self.opened
    }

    /// Bytes read so far, headers included.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Time that reads of weight files have taken so far, summed over threads.
    pub fn time_reading(&self) -> Duration {
        Duration::from_nanos(self.reading.load(Ordering::Relaxed))
    }

    /// Reads bytes of a weight file.
    pub fn read_at(
        &self,
        file: FileIndex,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let start = Instant::now();
        self.source.read_at(self.file_name(file), offset, out)?;
        let elapsed = start.elapsed().as_nanos() as u64;
        self.reading.fetch_add(elapsed, Ordering::Relaxed);
        self.bytes_read
            .fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads ranges of a weight file together.
    pub(crate) fn read_ranges(
        &self,
        file: FileIndex,
        ranges: &mut [RangeRead<'_>],
    ) -> Result<(), CheckpointError> {
        let start = Instant::now();
        self.source.read_ranges(self.file_name(file), ranges)?;
        let elapsed = start.elapsed().as_nanos() as u64;
        self.reading.fetch_add(elapsed, Ordering::Relaxed);
        let bytes: usize = ranges.iter().map(|range| range.out.len()).sum();
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// How far apart ranges may lie that are read as one.
    pub(crate) fn gap(&self) -> u64 {
        self.source.gap()
    }

    /// Reads bytes of a weight file that are not part of the work.
    pub(crate) fn look_at(
        &self,
        file: FileIndex,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        Ok(self.source.read_at(self.file_name(file), offset, out)?)
    }

    /// Bytes a second over the line that the weights come over, measured while so many bytes from the middle of the largest
    /// file arrive, with all that arrives beside them; `None`: nothing had to come, or the file is too small to tell.
    pub fn line_rate(&self, bytes: usize) -> Option<f64> {
        if self.arrival() == Arrival::Here {
            return None;
        }
        let file = self.files.iter().max_by_key(|file| file.size)?;
        let middle = file.size.checked_sub(4 * bytes as u64)? / 2;
        let mut buffer = vec![0; bytes];
        let (began, before) = (Instant::now(), self.source.received());
        self.source.read_at(&file.name, middle, &mut buffer).ok()?;
        let received = self.source.received() - before;
        (received > 0).then(|| received as f64 / began.elapsed().as_secs_f64().max(1e-9))
    }

    /// Measures on the largest weight file how large reads are best done, and does them so from now on;
    /// `None` where there is nothing to choose.
    pub fn choose_mode(&self, cache: CacheUse) -> Result<Option<ReadChoice>, CheckpointError> {
        match self.files.iter().max_by_key(|file| file.size) {
            Some(file) => Ok(self.source.choose_mode(&file.name, cache)?),
            None => Ok(None),
        }
    }

    /// These bytes are read next.
    pub fn advise_soon(&self, file: FileIndex, range: std::ops::Range<u64>) {
        self.source.advise_soon(self.file_name(file), range);
    }

    /// These bytes will not be read again soon.
    pub fn advise_done(&self, file: FileIndex, range: std::ops::Range<u64>) {
        self.source.advise_done(self.file_name(file), range);
    }

    /// For messages: the folder or address.
    pub fn place(&self) -> String {
        self.source.describe()
    }

    /// Gives every tensor another name, in the order of the tensors; all differ.
    pub(crate) fn rename(&mut self, names: Vec<Box<str>>) {
        debug_assert_eq!(names.len(), self.tensors.len(), "a name for every tensor");
        let tensors = std::mem::take(&mut self.tensors);
        let mut known = std::mem::take(&mut self.stored_names).into_iter();
        let renamed = (0_u32..).zip(tensors).zip(names);
        let mut renamed: Vec<(u32, TensorInfo, Box<str>)> = renamed
            .map(|((at, mut tensor), name)| {
                let before = std::mem::replace(&mut tensor.name, name);
                (at, tensor, known.next().unwrap_or(before))
            })
            .collect();
        renamed.sort_by(|(_, one, _), (_, other, _)| one.name.cmp(&other.name));
        let mut moved = vec![0; renamed.len()];
        for (to, (from, ..)) in (0..).zip(&renamed) {
            moved[*from as usize] = to;
        }
        let pairs = renamed.into_iter().map(|(_, tensor, name)| (tensor, name));
        (self.tensors, self.stored_names) = pairs.unzip();
        let coded = std::mem::take(&mut self.coded).into_iter();
        let coded = coded.filter_map(|(at, mut coded)| {
            if let Ok(coded) = &mut coded {
                coded.relocate(&moved);
            }
            Some((*moved.get(at as usize)?, coded))
        });
        self.coded = coded.collect();
    }

    /// Says which codes the tensors have. They have the names of the files; a coded one gets the name that the model
    /// has for it.
    pub fn declare(&mut self, codes: &Codes) -> Result<(), CheckpointError> {
        let tensors = Tensors {
            holder: self,
            widths: codes.widths(),
        };
        let mut names: Vec<Box<str>> = Vec::with_capacity(self.tensors.len());
        let (mut coded, mut given) = (BTreeMap::new(), BTreeSet::new());
        for (at, tensor) in (0..).zip(&self.tensors) {
            names.push(tensor.name.clone());
            let Some(found) = codes.find(tensor, tensors)? else {
                continue;
            };
            if *found.name != *tensor.name {
                if let Some((other, _)) = tensors.get(&found.name) {
                    let names = vec![found.name, tensor.name.to_string()];
                    coded.insert(other, Err(LeafProblem::Ambiguous { names }));
                    continue;
                }
                if !given.insert(found.name.clone()) {
                    continue;
                }
                names[at as usize] = found.name.into();
            }
            coded.entry(at).or_insert(found.coded);
        }
        self.rounds_inputs = codes.rounds_inputs() && !coded.is_empty();
        self.coded = coded;
        if !given.is_empty() {
            self.rename(names);
        }
        Ok(())
    }

    /// Bytes that so many numbers of a coded tensor take in the first of its parts, rounded up.
    pub(crate) fn bytes_of_numbers(&self, at: u32, numbers: usize) -> u64 {
        let known = self.tensor_at(at as usize).zip(self.coded(at as usize));
        let Some((info, Ok(coded))) = known else {
            return 0;
        };
        let all = coded.shape.iter().map(|&side| side as u128);
        let all: u128 = all.product::<u128>().max(1);
        (u128::from(info.bytes) * numbers as u128).div_ceil(all) as u64
    }

    /// A coded tensor whose parts cannot be decoded.
    pub(crate) fn undecodable(&self, coded: &Coded, fault: Fault) -> CheckpointError {
        let part = coded.parts.get(fault.part);
        let at = part.map_or(0, |part| part.tensor as usize);
        let file = self.tensor_at(at).map(|tensor| tensor.file);
        CheckpointError::Undecodable {
            place: self.place(),
            file: file.map_or("", |file| self.file_name(file)).to_owned(),
            tensor: self.stored_name(at).to_owned(),
            reason: fault.reason,
        }
    }

    /// The places of tensors that decode the coded ones, each with that of the one that it decodes.
    pub(crate) fn owners(&self) -> BTreeMap<u32, u32> {
        let coded = self.coded.iter();
        let parts = coded.filter_map(|(&at, coded)| Some((at, coded.as_ref().ok()?)));
        parts
            .flat_map(|(at, coded)| coded.tensors().map(move |part| (part, at)))
            .filter(|(part, at)| part != at)
            .collect()
    }

    /// Whether kernels made for the codes of these weights round the inputs of products too, which is no matter of the
    /// weights and is not done here.
    pub fn rounds_inputs(&self) -> bool {
        self.rounds_inputs
    }

    /// Whether there are codes that are stored transposed: some rows of such a weight are strips of all that is stored.
    pub fn has_strips(&self) -> bool {
        let mut coded = self.coded.values().filter_map(|coded| coded.as_ref().ok());
        coded.any(|coded| coded.turned)
    }

    /// How the tensor at a place is coded; `None` where it is stored plainly.
    pub(crate) fn coded(&self, position: usize) -> Option<&Result<Coded, LeafProblem>> {
        self.coded.get(&(position as u32))
    }

    /// The name in the file of the tensor at a place in the order of names.
    pub(crate) fn stored_name(&self, position: usize) -> &str {
        let own = || self.tensors.get(position).map(|tensor| &tensor.name);
        let stored = self.stored_names.get(position).or_else(own);
        stored.map_or("", |name| name)
    }

    /// Place of a tensor in the order of names.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.tensors
            .binary_search_by(|tensor| (*tensor.name).cmp(name))
            .ok()
    }

    /// The tensor at a place in the order of names.
    pub(crate) fn tensor_at(&self, position: usize) -> Option<&TensorInfo> {
        self.tensors.get(position)
    }
}

fn stamps(source: &dyn ByteSource, files: &[WeightFile]) -> BTreeMap<String, Stamp> {
    let stamp = |file: &WeightFile| Some((file.name.clone(), source.stamp(&file.name)?));
    files.iter().filter_map(stamp).collect()
}

impl Holder for Checkpoint {
    fn position_of(&self, name: &str) -> Option<usize> {
        self.position(name)
    }

    fn tensor_in(&self, place: usize) -> Option<&TensorInfo> {
        self.tensor_at(place)
    }

    fn look(&self, tensor: &TensorInfo, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.look_at(tensor.file, tensor.offset, out)
    }

    fn description(&self) -> String {
        self.place()
    }
}
