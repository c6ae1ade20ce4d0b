//! Tokenised records on disk, so that memory does not grow with the dataset.
//!
//! A spool is a folder of flat little-endian files: `tokens` (u32), `types` (u32 beside the tokens, only if
//! a record has any), `labels` (the same), `ids` (UTF-8 end to end), `index` (for each record a token count, an id length, the length
//! of the common beginning with the record before, the row in the input in two halves, what is known of its text, the
//! bytes of that and of its completion), `offsets` (two u32 a token) and `marks` (a byte a token, 1 in a
//! completion), both only if a record has any, and, written last, `spool.json` with the sizes and hashes
//! of the others. Where records have a second sequence, for the decoder behind an encoder, it is a spool of its own in
//! the folder `decoder`, whose hash is among those. A spool without it, or whose files differ from it, was not finished and is made again. In
//! memory a record costs 12 bytes and a bit.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use serde::{Deserialize, Serialize};

use crate::annotation::{Annotation, Completion, TextSpans};
use crate::durable::{Disk, DiskError, DiskFile};
use crate::error::EngineError;
use crate::fingerprint;
use crate::prefix::{LEAST, Node, PrefixTree};
use crate::results::ResultsError;
use sli_spec::{ModelSpec, Sequence};

/// One input of the dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Unique within the dataset; the name of the record's results.
    pub id: String,
    /// Its row in the input, from 0, counting those that are left out.
    pub row: u64,
    /// Token ids, special tokens included; may be empty.
    pub tokens: Vec<u32>,
    /// Token type (segment) ids, as many as tokens; `None` means the model's default.
    pub token_types: Option<Vec<u32>>,
    /// What every token's row is to predict, as many as tokens; `None`: the token that follows.
    pub labels: Option<Vec<u32>>,
    /// The numbers of which the rows are made where they are of no tokens: then all of these are 0. Only written;
    /// [`RecordSpool::features`] reads them.
    pub features: Option<Vec<f32>>,
}

/// No label of a row.
pub(crate) const NO_LABEL: u32 = u32::MAX;

/// The folder of the second sequence.
const DECODER: &str = "decoder";

impl Record {
    /// Its tokens with their types.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let tokens = self.tokens.iter().copied();
        match &self.token_types {
            Some(types) => tokens.zip(types.iter().copied()).collect(),
            None => tokens.map(|token| (token, 0)).collect(),
        }
    }
}

/// Set in an index entry's token count when the record has token types.
const TYPED: u32 = 1 << 31;
/// Bytes of an index entry.
const ENTRY: usize = 32;
/// Records between two remembered positions in `ids`.
const ID_STRIDE: usize = 64;
/// Longest id, bytes.
const LONGEST_ID: usize = 1 << 16;
const FORMAT: u32 = 6;
/// Tokens of records that a later one is compared with.
const WINDOW: usize = 1 << 17;

const FILES: [&str; 8] = [
    "tokens", "types", "ids", "index", "offsets", "marks", "labels", "features",
];
/// What an index entry says of a record: it has a text; a completion; whose bytes are known; labels.
const HAS_TEXT: u32 = 1;
const HAS_COMPLETION: u32 = 2;
const HAS_COMPLETION_BYTES: u32 = 4;
const HAS_LABELS: u32 = 8;
const HAS_FEATURES: u32 = 16;
const HEADER: &str = "spool.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: u32,
    records: u64,
    /// Records of the input that were left out.
    skipped: u64,
    tokens: u64,
    longest: u64,
    longest_shared: u64,
    /// Records that are shorter than their texts.
    #[serde(default)]
    cut: u64,
    /// Tokens at the beginning of every record that are a prompt which is not pooled.
    #[serde(default)]
    prompt_tokens: u64,
    /// Whether any record has an annotation.
    annotated: bool,
    /// The smallest budget, bytes, with which the dataset became tokens.
    needed: u64,
    /// Length in bytes and blake3 of each of [`FILES`].
    files: [(u64, String); 8],
    /// Hash of the second sequence, where there is one.
    #[serde(default)]
    decoder: Option<String>,
}

/// Writes a spool, record by record.
pub struct RecordSpoolWriter {
    folder: PathBuf,
    disk: Disk,
    files: [HashedFile; 8],
    /// Token types that would be zero are not written before the first record that has some.
    typed: bool,
    /// The same for places in texts, and for completions.
    placed: bool,
    marked: bool,
    /// Records with an annotation.
    annotated: u64,
    needed: u64,
    records: u64,
    skipped: u64,
    tokens: u64,
    longest: u64,
    cut: u64,
    prompt_tokens: u64,
    beginnings: Beginnings,
    /// None: they were looked at with the first sequence.
    ids: Option<SeenIds>,
    decoder: Option<Box<RecordSpoolWriter>>,
}

impl RecordSpoolWriter {
    /// Starts an empty spool in `folder`, which is created; what a half-written one left is overwritten.
    pub fn create(folder: &Path) -> Result<Self, ResultsError> {
        Self::create_on(&Disk::real(), folder)
    }

    /// [`Self::create`] on a given disk.
    pub fn create_on(disk: &Disk, folder: &Path) -> Result<Self, ResultsError> {
        disk.create_dir_all(folder)?;
        disk.remove_file(&folder.join(HEADER))?;
        disk.sync_dir(folder)?;
        let [tokens, types, ids, index, offsets, marks, labels, features] =
            FILES.map(|name| HashedFile::create(disk, &folder.join(name)));
        Ok(Self {
            folder: folder.to_owned(),
            disk: disk.clone(),
            files: [
                tokens?, types?, ids?, index?, offsets?, marks?, labels?, features?,
            ],
            typed: false,
            placed: false,
            marked: false,
            annotated: 0,
            needed: 0,
            records: 0,
            skipped: 0,
            tokens: 0,
            longest: 0,
            cut: 0,
            prompt_tokens: 0,
            beginnings: Beginnings::default(),
            ids: Some(SeenIds::default()),
            decoder: None,
        })
    }

    /// Gives the records a second sequence, [`Self::push_decoder`].
    pub fn with_decoder(mut self) -> Result<Self, ResultsError> {
        let mut decoder = Self::create_on(&self.disk, &self.folder.join(DECODER))?;
        decoder.ids = None;
        self.decoder = Some(Box::new(decoder));
        Ok(self)
    }

    /// Appends the second sequence of the record that was just appended, under its id and row.
    ///
    /// # Panics
    /// If the records have none.
    pub fn push_decoder(
        &mut self,
        record: &Record,
        annotation: &Annotation,
    ) -> Result<(), ResultsError> {
        let decoder = self.decoder.as_mut();
        decoder
            .expect("the records have a second sequence")
            .push_annotated(record, annotation)
    }

    /// Appends a record. An id that occurred before, or that a result file cannot hold, is an error.
    pub fn push(&mut self, record: &Record) -> Result<(), ResultsError> {
        self.push_annotated(record, &Annotation::default())
    }

    /// Appends a record of which more is known; else as [`Self::push`].
    pub fn push_annotated(
        &mut self,
        record: &Record,
        annotation: &Annotation,
    ) -> Result<(), ResultsError> {
        let refuse = |problem| ResultsError::Id {
            id: shortened(&record.id),
            problem,
        };
        if record.id == "__metadata__" {
            return Err(refuse("this name is reserved in safetensors files"));
        }
        if record.id.len() > LONGEST_ID {
            return Err(refuse("an id has at most 65536 bytes"));
        }
        let seen = self.ids.as_mut();
        if seen.is_some_and(|seen| !seen.insert(&record.id)) {
            return Err(refuse("an earlier record has the same id"));
        }
        let length = record.tokens.len();
        if length >= TYPED as usize {
            return Err(refuse("the record has more than 2^31 tokens"));
        }
        if record
            .token_types
            .as_ref()
            .is_some_and(|types| types.len() != length)
        {
            return Err(refuse("the record has not as many token types as tokens"));
        }
        if record
            .labels
            .as_ref()
            .is_some_and(|labels| labels.len() != length || labels.contains(&NO_LABEL))
        {
            return Err(refuse("the record has not as many labels as tokens"));
        }
        if !annotation.fits(length) {
            return Err(refuse("the record has not as many annotations as tokens"));
        }
        let mut notes = self.annotate(annotation, length as u64)?;
        let [tokens, types, ids, index, _, _, labels, features] = &mut self.files;
        if let Some(values) = &record.features {
            notes = [HAS_FEATURES, values.len() as u32, 0];
            features.write_u32s(bytemuck::cast_slice(values))?;
        }
        if record.labels.is_some() && labels.length == 0 {
            labels.write_zeros(self.tokens * 4)?;
        }
        match &record.labels {
            Some(values) => {
                notes[0] |= HAS_LABELS;
                labels.write_u32s(values)?;
            }
            None if labels.length > 0 => labels.write_zeros(length as u64 * 4)?,
            None => {}
        }
        if record.token_types.is_some() && !self.typed {
            self.typed = true;
            types.write_zeros(self.tokens * 4)?;
        }
        tokens.write_u32s(&record.tokens)?;
        match &record.token_types {
            Some(values) => types.write_u32s(values)?,
            None if self.typed => types.write_zeros(length as u64 * 4)?,
            None => {}
        }
        ids.write(record.id.as_bytes())?;
        let flag = if record.token_types.is_some() {
            TYPED
        } else {
            0
        };
        let shared = self.beginnings.of(record.nodes());
        index.write_u32s(&[
            length as u32 | flag,
            record.id.len() as u32,
            shared as u32,
            record.row as u32,
            (record.row >> 32) as u32,
            notes[0],
            notes[1],
            notes[2],
        ])?;
        self.records += 1;
        self.tokens += length as u64;
        self.longest = self.longest.max(length as u64);
        Ok(())
    }

    /// Notes that the record just appended is shorter than its text.
    pub fn count_cut(&mut self) {
        self.cut += 1;
    }

    /// Says that every record begins with so many tokens that are a prompt which is not pooled.
    pub fn set_prompt_tokens(&mut self, tokens: usize) {
        self.prompt_tokens = tokens as u64;
    }

    /// Writes what is known of a record of `length` tokens; what its index entry says of it.
    fn annotate(&mut self, annotation: &Annotation, length: u64) -> Result<[u32; 3], ResultsError> {
        let before = self.tokens;
        let [.., offsets, marks, _, _] = &mut self.files;
        let mut notes = [0; 3];
        if let Some(text) = &annotation.text {
            notes[0] |= HAS_TEXT;
            notes[1] = text.bytes;
            if !self.placed {
                self.placed = true;
                offsets.write_zeros(before * 8)?;
            }
            offsets.write_u32s(text.offsets.as_flattened())?;
        } else if self.placed {
            offsets.write_zeros(length * 8)?;
        }
        if let Some(completion) = &annotation.completion {
            notes[0] |= HAS_COMPLETION;
            if let Some(bytes) = completion.bytes {
                notes[0] |= HAS_COMPLETION_BYTES;
                notes[2] = bytes;
            }
            if !self.marked {
                self.marked = true;
                marks.write_zeros(before)?;
            }
            let bytes: Vec<u8> = completion.tokens.iter().copied().map(u8::from).collect();
            marks.write(&bytes)?;
        } else if self.marked {
            marks.write_zeros(length)?;
        }
        self.annotated += u64::from(notes[0] != 0);
        Ok(notes)
    }

    /// The smallest budget, bytes, with which the dataset became tokens.
    pub fn set_needed(&mut self, bytes: u64) {
        self.needed = bytes;
    }

    /// Bytes that the search for repeated ids and common beginnings holds in memory; ids that are their
    /// record's number are free.
    pub fn bytes_in_memory(&self) -> usize {
        let ids = self.ids.as_ref().map_or(0, SeenIds::bytes_in_memory);
        let decoder = self.decoder.as_ref();
        ids + FILES.len() * BUFFER
            + 2 * WINDOW * size_of::<Node>()
            + decoder.map_or(0, |decoder| decoder.bytes_in_memory())
    }

    /// How many records of the input were left out.
    pub fn set_skipped(&mut self, records: u64) {
        self.skipped = records;
    }

    /// Makes the spool durable and complete.
    pub fn finish(self) -> Result<RecordSpool, ResultsError> {
        let decoder = self.decoder.map(|decoder| decoder.finish()).transpose()?;
        let [tokens, types, ids, index, offsets, marks, labels, features] =
            self.files.map(HashedFile::finish);
        let header = Header {
            format: FORMAT,
            records: self.records,
            skipped: self.skipped,
            tokens: self.tokens,
            longest: self.longest,
            longest_shared: self.beginnings.longest as u64,
            cut: self.cut,
            prompt_tokens: self.prompt_tokens,
            annotated: self.annotated > 0,
            needed: self.needed,
            files: [
                tokens?, types?, ids?, index?, offsets?, marks?, labels?, features?,
            ],
            decoder: decoder.as_ref().map(RecordSpool::content_hash),
        };
        // The memory of the ids is free before the index is read.
        drop(self.ids);
        let json = serde_json::to_vec(&header).unwrap_or_default();
        self.disk
            .write_atomic(&self.folder.join(HEADER), |w| w.write_all(&json))?;
        let spool = RecordSpool::load(&self.folder, header, decoder)?;
        Ok(RecordSpool(Arc::new(spool)))
    }
}

/// The records of a dataset, on disk; cheap to clone, readable from several threads.
#[derive(Clone, Debug)]
pub struct RecordSpool(Arc<Spool>);

#[derive(Debug)]
struct Spool {
    folder: PathBuf,
    tokens: File,
    types: File,
    ids: File,
    index: File,
    offsets: File,
    marks: File,
    labels: File,
    features: File,
    header: Header,
    /// The second sequence.
    decoder: Option<RecordSpool>,
    /// Number of tokens before each record, and in all.
    starts: Vec<u64>,
    /// Tokens that each record begins with as the one before does.
    shared: Vec<u32>,
    /// Position in `ids` of every 64th record.
    id_starts: Vec<u64>,
    /// A bit a record: whether it has token types.
    typed: Vec<u64>,
    /// Number of values before each record and in all, where any has features.
    feature_starts: Vec<u64>,
}

impl RecordSpool {
    /// Opens a finished spool; `None` if there is none or it is not whole. Reads it once, to check the hashes.
    pub fn open(folder: &Path) -> Result<Option<Self>, ResultsError> {
        let Ok(json) = fs_err::read(folder.join(HEADER)) else {
            return Ok(None);
        };
        let Ok(header) = serde_json::from_slice::<Header>(&json) else {
            return Ok(None);
        };
        if header.format != FORMAT {
            return Ok(None);
        }
        for (name, (length, hash)) in FILES.iter().zip(&header.files) {
            let path = folder.join(name);
            let Ok(metadata) = fs_err::metadata(&path) else {
                return Ok(None);
            };
            if metadata.len() != *length || fingerprint::of_file(&path)? != *hash {
                return Ok(None);
            }
        }
        let mut decoder = None;
        if let Some(hash) = &header.decoder {
            match Self::open(&folder.join(DECODER))? {
                Some(spool) if spool.content_hash() == *hash => decoder = Some(spool),
                _ => return Ok(None),
            }
        }
        Ok(Some(Self(Arc::new(Self::load(folder, header, decoder)?))))
    }

    fn load(folder: &Path, header: Header, decoder: Option<Self>) -> Result<Spool, ResultsError> {
        let open = |name: &str| File::open(folder.join(name)).map_err(DiskError::from);
        let records = header.records as usize;
        let mut spool = Spool {
            folder: folder.to_owned(),
            tokens: open("tokens")?,
            types: open("types")?,
            ids: open("ids")?,
            index: open("index")?,
            offsets: open("offsets")?,
            marks: open("marks")?,
            labels: open("labels")?,
            features: open("features")?,
            feature_starts: Vec::new(),
            header,
            decoder,
            starts: Vec::with_capacity(records + 1),
            shared: Vec::with_capacity(records),
            id_starts: Vec::with_capacity(records.div_ceil(ID_STRIDE)),
            typed: vec![0; records.div_ceil(64)],
        };
        let (mut tokens, mut id_bytes, mut values) = (0, 0, 0);
        let has_features = spool.header.files[7].0 > 0;
        for first in (0..records).step_by(BUFFER / ENTRY) {
            let range = first..(first + BUFFER / ENTRY).min(records);
            for (record, entry) in range.clone().zip(spool.entries(range)?) {
                if record % ID_STRIDE == 0 {
                    spool.id_starts.push(id_bytes);
                }
                spool.typed[record / 64] |= u64::from(entry.typed) << (record % 64);
                spool.starts.push(tokens);
                spool.shared.push(entry.shared);
                if has_features {
                    spool.feature_starts.push(values);
                    values += entry.features();
                }
                tokens += u64::from(entry.tokens);
                id_bytes += entry.id_bytes as u64;
            }
        }
        spool.starts.push(tokens);
        if has_features {
            spool.feature_starts.push(values);
        }
        Ok(spool)
    }

    /// Records.
    pub fn len(&self) -> usize {
        self.0.starts.len() - 1
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records as a stack gets them that reads this sequence. A spool without a second one is the first.
    pub fn of(&self, sequence: Sequence) -> &Self {
        match sequence {
            Sequence::Record => self,
            Sequence::Decoder(_) => self.0.decoder.as_ref().unwrap_or(self),
        }
    }

    /// Whether the records have the sequences that the stacks of a model read.
    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<(), EngineError> {
        let (has, wants) = (self.0.decoder.is_some(), spec.decoder_input().is_some());
        if has == wants {
            return Ok(());
        }
        let problem = format!("a second sequence of the records: {has}, of the model: {wants}");
        Err(EngineError::Internal(problem))
    }

    /// Tokens of all records, in all sequences of a model.
    pub fn tokens_in_all(&self, spec: &ModelSpec) -> u64 {
        let stacks = spec.stacks.iter();
        stacks
            .map(|stack| self.of(stack.sequence).total_tokens())
            .sum()
    }

    /// Tokens of all records times the layers of the stacks that they run through.
    pub fn token_layers(&self, spec: &ModelSpec) -> u64 {
        let layers = spec.stacks.iter().map(|stack| {
            let tokens = self.of(stack.sequence).total_tokens();
            tokens * stack.layers.len() as u64
        });
        layers.sum()
    }

    /// Records of the input that were left out.
    pub fn skipped(&self) -> u64 {
        self.0.header.skipped
    }

    /// Tokens of all records.
    pub fn total_tokens(&self) -> u64 {
        self.0.header.tokens
    }

    /// Records that are shorter than their texts.
    pub fn cut(&self) -> u64 {
        self.0.header.cut
    }

    /// Tokens at the beginning of every record that are a prompt which is not pooled.
    pub fn prompt_tokens(&self) -> usize {
        self.0.header.prompt_tokens as usize
    }

    /// Tokens of the longest record.
    pub fn longest(&self) -> usize {
        self.0.header.longest as usize
    }

    /// Tokens of one record.
    pub fn tokens_of(&self, record: usize) -> usize {
        (self.0.starts[record + 1] - self.0.starts[record]) as usize
    }

    /// Tokens with which a record begins as the one before it does, types included; 0 where they are
    /// too few to be shared.
    pub fn shared_with_previous(&self, record: usize) -> usize {
        self.0.shared[record] as usize
    }

    /// The most tokens with which a record begins as one of those shortly before it does.
    pub fn longest_shared(&self) -> usize {
        self.0.header.longest_shared as usize
    }

    /// Tokens of all records before `record`, which may be the number of records.
    pub fn token_start(&self, record: usize) -> u64 {
        self.0.starts[record]
    }

    /// The smallest budget, bytes, with which the dataset became tokens; 0 if any would do.
    pub fn needed(&self) -> u64 {
        self.0.header.needed
    }

    /// What is known of a record beyond its tokens.
    pub fn annotation(&self, record: usize) -> Result<Annotation, ResultsError> {
        let spool = &*self.0;
        if !spool.header.annotated {
            return Ok(Annotation::default());
        }
        let entries = spool.entries(record..record + 1)?;
        let (start, end) = (spool.starts[record], spool.starts[record + 1]);
        let mut annotation = Annotation::default();
        for entry in entries {
            if entry.notes & HAS_TEXT != 0 {
                let flat = read_u32s(&spool.offsets, 2 * start..2 * end)?;
                annotation.text = Some(TextSpans {
                    bytes: entry.text_bytes,
                    offsets: flat.as_chunks().0.to_vec(),
                });
            }
            if entry.notes & HAS_COMPLETION != 0 {
                let mut marks = vec![0; (end - start) as usize];
                let read = spool.marks.read_exact_at(&mut marks, start);
                read.map_err(DiskError::from)?;
                annotation.completion = Some(Completion {
                    tokens: marks.iter().map(|&mark| mark != 0).collect(),
                    bytes: (entry.notes & HAS_COMPLETION_BYTES != 0)
                        .then_some(entry.completion_bytes),
                });
            }
        }
        Ok(annotation)
    }

    /// Rows in the input and ids of a range.
    pub fn names(&self, range: Range<usize>) -> Result<Vec<(u64, String)>, ResultsError> {
        let rows = self.0.entries(range.clone())?;
        let ids = self.0.ids(range)?;
        Ok(rows.iter().map(|entry| entry.row).zip(ids).collect())
    }

    /// The record that the token with this number, among those of all records, belongs to.
    pub fn record_of(&self, token: u64) -> usize {
        let starts = &self.0.starts;
        starts
            .partition_point(|&start| start <= token)
            .saturating_sub(1)
    }

    /// Whether any record has token types.
    pub fn has_token_types(&self) -> bool {
        self.0.header.files[1].0 > 0
    }

    /// A hash of everything in the spool, for the key of a run.
    pub fn content_hash(&self) -> String {
        let mut text = String::new();
        for (_, hash) in &self.0.header.files {
            let _ = writeln!(text, "{hash}");
        }
        if let Some(hash) = &self.0.header.decoder {
            let _ = writeln!(text, "decoder {hash}");
        }
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Bytes held in memory while the spool is open.
    pub fn bytes_in_memory(&self) -> usize {
        let decoder = self.0.decoder.as_ref();
        8 * (self.0.starts.capacity() + self.0.id_starts.capacity() + self.0.typed.capacity())
            + 4 * self.0.shared.capacity()
            + decoder.map_or(0, Self::bytes_in_memory)
    }

    /// Shows every token of some records, in order.
    pub fn for_each_token(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(u32),
    ) -> Result<(), ResultsError> {
        let spool = &*self.0;
        let (mut start, end) = (spool.starts[range.start], spool.starts[range.end]);
        while start < end {
            let next = end.min(start + VISITED);
            let tokens = read_u32s(&spool.tokens, start..next)?;
            tokens.into_iter().for_each(&mut visit);
            start = next;
        }
        Ok(())
    }

    /// The records of a range.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<Record>, ResultsError> {
        let spool = &*self.0;
        let ids = spool.ids(range.clone())?;
        let entries = spool.entries(range.clone())?;
        let span = spool.starts[range.start]..spool.starts[range.end];
        let tokens = read_u32s(&spool.tokens, span.clone())?;
        let typed = |record: usize| spool.typed[record / 64] >> (record % 64) & 1 == 1;
        let types = if range.clone().any(typed) {
            read_u32s(&spool.types, span.clone())?
        } else {
            Vec::new()
        };
        let labels = if entries.iter().any(|entry| entry.notes & HAS_LABELS != 0) {
            read_u32s(&spool.labels, span.clone())?
        } else {
            Vec::new()
        };
        let mut records = Vec::with_capacity(range.len());
        for ((record, id), entry) in range.zip(ids).zip(entries) {
            let rows = (spool.starts[record] - span.start) as usize
                ..(spool.starts[record + 1] - span.start) as usize;
            records.push(Record {
                id,
                row: entry.row,
                tokens: tokens[rows.clone()].to_vec(),
                token_types: typed(record).then(|| types[rows.clone()].to_vec()),
                labels: (entry.notes & HAS_LABELS != 0).then(|| labels[rows].to_vec()),
                features: None,
            });
        }
        Ok(records)
    }

    /// The numbers that a record brought along; none where it has no features.
    pub fn features(&self, record: usize) -> Result<Vec<f32>, ResultsError> {
        let starts = &self.0.feature_starts;
        let (Some(&start), Some(&end)) = (starts.get(record), starts.get(record + 1)) else {
            return Ok(Vec::new());
        };
        let bits = read_u32s(&self.0.features, start..end)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }

    /// The ids of a range.
    pub fn ids(&self, range: Range<usize>) -> Result<Vec<String>, ResultsError> {
        self.0.ids(range)
    }

    /// Calls `visit` with every id of a range, in order, holding a few thousand at a time.
    pub fn for_each_id<E: From<ResultsError>>(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(usize, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        const STEP: usize = 32 * ID_STRIDE;
        for first in range.clone().step_by(STEP) {
            let ids = self.0.ids(first..(first + STEP).min(range.end))?;
            for (offset, id) in ids.iter().enumerate() {
                visit(first + offset, id)?;
            }
        }
        Ok(())
    }
}

/// What the index says of a record.
struct IndexEntry {
    tokens: u32,
    typed: bool,
    id_bytes: usize,
    /// Tokens with which it begins as the record before does.
    shared: u32,
    /// Its row in the input.
    row: u64,
    /// [`HAS_TEXT`] and the others.
    notes: u32,
    text_bytes: u32,
    completion_bytes: u32,
}

impl IndexEntry {
    /// Numbers that the record brought along.
    fn features(&self) -> u64 {
        if self.notes & HAS_FEATURES == 0 {
            return 0;
        }
        // In the place of a text.
        u64::from(self.text_bytes)
    }
}

impl Spool {
    /// The index of the records of a range.
    fn entries(&self, range: Range<usize>) -> Result<Vec<IndexEntry>, ResultsError> {
        let mut bytes = vec![0; range.len() * ENTRY];
        let read = self
            .index
            .read_exact_at(&mut bytes, (range.start * ENTRY) as u64);
        read.map_err(DiskError::from)?;
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        let decode = |entry: &[u8; ENTRY]| {
            let mut words = entry.as_chunks().0.iter().copied().map(u32::from_le_bytes);
            let mut next = || words.next().unwrap_or(0);
            let length = next();
            IndexEntry {
                tokens: length & !TYPED,
                typed: length & TYPED != 0,
                id_bytes: next() as usize,
                shared: next(),
                row: u64::from(next()) | u64::from(next()) << 32,
                notes: next(),
                text_bytes: next(),
                completion_bytes: next(),
            }
        };
        Ok(entries.iter().map(decode).collect())
    }

    fn ids(&self, range: Range<usize>) -> Result<Vec<String>, ResultsError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let block = range.start / ID_STRIDE;
        let entries = self.entries(block * ID_STRIDE..range.end)?;
        let (before, wanted) = entries.split_at(range.start - block * ID_STRIDE);
        let start = self.id_starts[block]
            + before
                .iter()
                .map(|entry| entry.id_bytes as u64)
                .sum::<u64>();
        let mut bytes = vec![0; wanted.iter().map(|entry| entry.id_bytes).sum()];
        self.ids
            .read_exact_at(&mut bytes, start)
            .map_err(DiskError::from)?;
        let mut rest = &bytes[..];
        let next = |entry: &IndexEntry| {
            let (id, after) = rest.split_at(entry.id_bytes);
            rest = after;
            String::from_utf8(id.to_vec()).map_err(|_| ResultsError::Damaged {
                path: self.folder.join("ids"),
                problem: "an id is not UTF-8".into(),
            })
        };
        wanted.iter().map(next).collect()
    }
}

fn read_u32s(file: &File, span: Range<u64>) -> Result<Vec<u32>, ResultsError> {
    let mut values = vec![0_u32; (span.end - span.start) as usize];
    let bytes = bytemuck::cast_slice_mut(&mut values);
    file.read_exact_at(bytes, span.start * 4)
        .map_err(DiskError::from)?;
    for value in &mut values {
        *value = u32::from_le(*value);
    }
    Ok(values)
}

/// Tokens that are read at a time to look at all of them.
const VISITED: u64 = 1 << 16;

const BUFFER: usize = 1 << 16;

/// A file that is hashed as it is written.
struct HashedFile {
    writer: BufWriter<DiskFile>,
    hasher: blake3::Hasher,
    length: u64,
}

impl HashedFile {
    fn create(disk: &Disk, path: &Path) -> Result<Self, ResultsError> {
        let writer = BufWriter::with_capacity(BUFFER, disk.create(path)?);
        Ok(Self {
            writer,
            hasher: blake3::Hasher::new(),
            length: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ResultsError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.writer.write_all(bytes).map_err(DiskError::from)?;
        Ok(())
    }

    fn write_u32s(&mut self, values: &[u32]) -> Result<(), ResultsError> {
        if cfg!(target_endian = "little") {
            return self.write(bytemuck::cast_slice(values));
        }
        values
            .iter()
            .try_for_each(|value| self.write(&value.to_le_bytes()))
    }

    fn write_zeros(&mut self, mut count: u64) -> Result<(), ResultsError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let step = count.min(ZEROS.len() as u64);
            self.write(&ZEROS[..step as usize])?;
            count -= step;
        }
        Ok(())
    }

    /// Length and hash, once the content is durable.
    fn finish(self) -> Result<(u64, String), ResultsError> {
        let file = self
            .writer
            .into_inner()
            .map_err(|error| DiskError::from(error.into_error()))?;
        file.sync()?;
        Ok((self.length, self.hasher.finalize().to_hex().to_string()))
    }
}

fn shortened(id: &str) -> String {
    match id.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &id[..end]),
        None => id.to_owned(),
    }
}

/// Compares what records begin with.
#[derive(Default)]
struct Beginnings {
    previous: Vec<Node>,
    /// The last records.
    recent: PrefixTree,
    /// Most nodes that a record has in common with one of the last.
    longest: usize,
}

impl Beginnings {
    /// How many nodes the record has in common with the one before; 0 for fewer than are shared.
    fn of(&mut self, record: Vec<Node>) -> usize {
        let pairs = record.iter().zip(&self.previous);
        let shared = pairs.take_while(|(own, other)| own == other).count();
        let shared = if shared < LEAST { 0 } else { shared };
        if self.recent.rows() + record.len() > WINDOW {
            self.recent = PrefixTree::default();
        }
        let recent = match record.len() {
            0..=WINDOW => self.recent.insert(&record, usize::MAX).shared,
            _ => 0,
        };
        self.longest = self.longest.max(shared).max(recent);
        self.previous = record;
        shared
    }
}

/// Finds ids that occur twice: 16 bytes of hash each, but only a bit for ids that are their record's number.
#[derive(Default)]
struct SeenIds {
    records: u64,
    /// A bit a record: its id is its number, and its hash is not in `hashes`.
    numbered: Vec<u64>,
    hashes: HashSet<[u8; 16]>,
}

impl SeenIds {
    /// Whether the id is new.
    fn insert(&mut self, id: &str) -> bool {
        let record = self.records;
        self.records += 1;
        if record.is_multiple_of(64) {
            self.numbered.push(0);
        }
        let number = canonical_number(id);
        let is_numbered = |n: u64| self.numbered[(n / 64) as usize] >> (n % 64) & 1 == 1;
        if number.is_some_and(|number| number < record && is_numbered(number)) {
            return false;
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
        if number == Some(record) {
            self.numbered[(record / 64) as usize] |= 1 << (record % 64);
            return self.hashes.is_empty() || !self.hashes.contains(&hash);
        }
        self.hashes.insert(hash)
    }

    /// The set keeps 16 bytes and a control byte for each place.
    fn bytes_in_memory(&self) -> usize {
        self.hashes.capacity() * 8 / 7 * 17 + self.numbered.capacity() * 8
    }
}

/// The number that a text is the usual spelling of.
fn canonical_number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(id: &str, tokens: &[u32]) -> Record {
        Record {
            id: id.into(),
            row: (id.len() as u64) << 33 | 3,
            tokens: tokens.into(),
            token_types: None,
            labels: None,
            features: None,
        }
    }

    fn spool_of(folder: &Path, records: &[Record]) -> RecordSpool {
        let mut writer = RecordSpoolWriter::create(folder).unwrap();
        for record in records {
            writer.push(record).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn reads_back_any_range() {
        let folder = tempfile::tempdir().unwrap();
        let mut records: Vec<Record> = (0..300_u32)
            .map(|i| {
                record(
                    &format!("id \u{1F600} {i}"),
                    &(0..i % 7).collect::<Vec<_>>(),
                )
            })
            .collect();
        records[130].token_types = Some(vec![1; records[130].tokens.len()]);
        records[140].token_types = Some(Vec::new());
        records[140].tokens.clear();
        let made = spool_of(folder.path(), &records);
        let opened = RecordSpool::open(folder.path()).unwrap().unwrap();
        for spool in [made, opened] {
            assert_eq!(spool.len(), 300);
            assert_eq!(spool.longest(), 6);
            let total: usize = records.iter().map(|record| record.tokens.len()).sum();
            assert_eq!(spool.total_tokens(), total as u64);
            assert_eq!(spool.token_start(300), total as u64);
            assert!(spool.has_token_types());
            for range in [0..300, 63..64, 64..64, 100..200, 130..131, 299..300] {
                assert_eq!(spool.read(range.clone()).unwrap(), records[range]);
            }
            assert_eq!(spool.tokens_of(130), records[130].tokens.len());
            let mut seen = Vec::new();
            spool
                .for_each_id::<ResultsError>(10..300, |index, id| {
                    assert_eq!(index, 10 + seen.len());
                    seen.push(id.to_owned());
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, spool.ids(10..300).unwrap());
            assert!(spool.bytes_in_memory() <= 16 * 300);
        }
    }

    #[test]
    fn what_is_known_of_a_record_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let text = |offsets: &[[u32; 2]]| TextSpans {
            bytes: 9,
            offsets: offsets.to_vec(),
        };
        let completion = |tokens: &[bool], bytes| Completion {
            tokens: tokens.to_vec(),
            bytes,
        };
        let records = [
            (record("none", &[1, 2]), Annotation::default()),
            (
                record("text", &[3, 4, 5]),
                Annotation {
                    text: Some(text(&[[0, 0], [0, 4], [4, 9]])),
                    completion: None,
                },
            ),
            (record("between", &[6]), Annotation::default()),
            (
                record("both", &[7, 8]),
                Annotation {
                    text: Some(text(&[[0, 2], [2, 9]])),
                    completion: Some(completion(&[false, true], Some(0))),
                },
            ),
            (
                record("labels", &[7]),
                Annotation {
                    text: None,
                    completion: Some(completion(&[true], None)),
                },
            ),
            (
                record("empty", &[]),
                Annotation {
                    text: Some(text(&[])),
                    completion: None,
                },
            ),
        ];
        let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
        for (record, annotation) in &records {
            writer.push_annotated(record, annotation).unwrap();
        }
        let wrong = Annotation {
            text: Some(text(&[[0, 1]])),
            completion: None,
        };
        assert!(
            writer
                .push_annotated(&record("wrong", &[]), &wrong)
                .is_err()
        );
        writer.set_needed(77);
        let made = writer.finish().unwrap();
        let opened = RecordSpool::open(folder.path()).unwrap().unwrap();
        for spool in [made, opened] {
            for (index, (record, annotation)) in records.iter().enumerate() {
                assert_eq!(
                    &spool.annotation(index).unwrap(),
                    annotation,
                    "{}",
                    record.id
                );
            }
            let names = spool.names(1..3).unwrap();
            assert_eq!(
                names,
                [
                    (4 << 33 | 3, "text".into()),
                    (7 << 33 | 3, "between".into())
                ]
            );
            assert_eq!(spool.needed(), 77);
            assert_eq!(
                [0, 1, 2, 4, 5, 6, 7, 8].map(|token| spool.record_of(token)),
                [0, 0, 1, 1, 2, 3, 3, 4]
            );
        }
    }

    #[test]
    fn common_beginnings_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let long = |id: &str, last: &[u32]| record(id, &[&[7; LEAST], last].concat());
        let records = [
            long("a", &[1, 2, 3, 4]),
            long("b", &[1, 2, 5]),
            long("c", &[1, 2, 3, 4, 6]),
            record("d", &[7, 7]),
            long("e", &[1, 2, 3]),
            Record {
                token_types: Some([&[0; LEAST + 1][..], &[1]].concat()),
                ..long("f", &[1, 2])
            },
        ];
        let spool = spool_of(folder.path(), &records);
        let shared: Vec<usize> = (0..6)
            .map(|index| spool.shared_with_previous(index))
            .collect();
        assert_eq!(shared, [0, LEAST + 2, LEAST + 2, 0, 0, LEAST + 1]);
        assert_eq!(spool.longest_shared(), LEAST + 4);
    }

    #[test]
    fn an_empty_spool_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool_of(folder.path(), &[]);
        assert!(spool.is_empty());
        assert_eq!(spool.read(0..0).unwrap(), []);
        assert!(RecordSpool::open(folder.path()).unwrap().is_some());
    }

    #[test]
    fn refuses_ids_that_cannot_name_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
        for (id, fine) in [
            ("0", true),
            ("2", true),
            ("2", false),
            ("00", true),
            ("0", false),
            ("5", true),
            ("5", false),
            ("a/../b", true),
            ("", true),
            ("", false),
            ("__metadata__", false),
            ("7", true),
            ("8", true),
            ("8", false),
        ] {
            let outcome = writer.push(&record(id, &[1]));
            assert_eq!(outcome.is_ok(), fine, "{id}");
            if let Err(error) = outcome {
                assert_eq!(error.exit_code(), 3);
            }
        }
        assert!(writer.push(&record(&"x".repeat(70_000), &[])).is_err());
    }

    #[test]
    fn numbers_as_ids_cost_a_bit() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
        for index in 0..10_000 {
            writer.push(&record(&index.to_string(), &[])).unwrap();
        }
        let ids = writer.ids.as_ref().expect("ids are looked at");
        assert!(ids.bytes_in_memory() < 4096);
        for index in 0..1000 {
            writer.push(&record(&format!("x{index}"), &[])).unwrap();
        }
        assert!(writer.bytes_in_memory() >= 16 * 1000);
    }

    #[test]
    fn a_spool_that_is_not_whole_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RecordSpool::open(folder.path()).unwrap().is_none());
        let records = [record("a", &[1, 2, 3]), record("b", &[4])];
        let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
        writer.push(&records[0]).unwrap();
        drop(writer);
        assert!(RecordSpool::open(folder.path()).unwrap().is_none());
        for file in FILES.iter().chain([&HEADER]) {
            spool_of(folder.path(), &records);
            let path = folder.path().join(file);
            let mut bytes = fs_err::read(&path).unwrap();
            match bytes.first_mut() {
                Some(byte) => *byte ^= 1,
                None => bytes.push(0),
            }
            fs_err::write(&path, bytes).unwrap();
            assert!(
                RecordSpool::open(folder.path()).unwrap().is_none(),
                "{file}"
            );
        }
    }

    #[test]
    fn a_crash_or_a_full_disk_leaves_nothing_that_opens_wrongly() {
        let records = [record("a", &[1, 2, 3]), record("b", &[4])];
        let write = |disk: &Disk, folder: &Path| -> Result<RecordSpool, ResultsError> {
            let mut writer = RecordSpoolWriter::create_on(disk, folder)?;
            records.iter().try_for_each(|record| writer.push(record))?;
            writer.finish()
        };
        for steps in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let done = write(&Disk::crashing_after(steps), &folder.path().join("s")).is_ok();
            let opened = RecordSpool::open(&folder.path().join("s")).unwrap();
            if let Some(spool) = &opened {
                assert_eq!(spool.read(0..2).unwrap(), records);
            }
            if done {
                assert!(opened.is_some());
                break;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let error = write(&Disk::limited(40), folder.path()).unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(write(&Disk::real(), folder.path()).is_ok());
    }

    proptest! {
        #[test]
        fn duplicates_are_found(ids in proptest::collection::vec("[0-9]{1,2}|[ab]", 0..80)) {
            let mut seen = SeenIds::default();
            let mut reference = HashSet::new();
            for id in &ids {
                // A refused record ends the run, so nothing follows a repetition.
                let new = reference.insert(id.clone());
                prop_assert_eq!(seen.insert(id), new);
                if !new {
                    break;
                }
            }
        }
    }
}
