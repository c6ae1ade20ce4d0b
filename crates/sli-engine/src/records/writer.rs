//! Writing a spool.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_spec::{ModelSpec, Place, RowRule};

use super::beginnings::{Beginnings, SameRows, WINDOW};
use super::hashed::{BUFFER, HashedFile};
use super::ids::{LONGEST_ID, REPEATED, SeenIds, shortened};
use super::layout::{
    DECODER, FILES, FORMAT, HAS_COMPLETION, HAS_COMPLETION_BYTES, HAS_FEATURES, HAS_INPUTS,
    HAS_LABELS, HAS_TEXT, HEADER, Header, PICTURES, ROWS, TYPED,
};
use super::record::{NO_LABEL, Record};
use super::spool::RecordSpool;
use crate::annotation::Annotation;
use crate::durable::Disk;
use crate::prefix::Node;
use crate::results::ResultsError;
use crate::shard::Shard;

/// Writes a spool, record by record.
pub struct RecordSpoolWriter {
    pub(super) folder: PathBuf,
    pub(super) disk: Disk,
    pub(super) files: [HashedFile; 9],
    /// Numbers of a token among the inputs; 0: no record had any so far.
    pub(super) input_columns: usize,
    /// Token types that would be zero are not written before the first record that has some.
    pub(super) typed: bool,
    /// The same for places in texts, and for completions.
    pub(super) placed: bool,
    pub(super) marked: bool,
    /// Records with an annotation.
    pub(super) annotated: u64,
    pub(super) needed: u64,
    pub(super) records: u64,
    pub(super) skipped: u64,
    pub(super) tokens: u64,
    pub(super) longest: u64,
    pub(super) cut: u64,
    pub(super) prompt_tokens: u64,
    pub(super) shard: Option<Shard>,
    pub(super) copies: u64,
    pub(super) beginnings: Beginnings,
    /// Of pictures, which are the same or not, in the place of beginnings.
    pub(super) same: Option<SameRows>,
    /// None: they were looked at with the first sequence.
    pub(super) ids: Option<SeenIds>,
    pub(super) decoder: Option<Box<RecordSpoolWriter>>,
    pub(super) pictures: Option<Box<RecordSpoolWriter>>,
    pub(super) rows: Vec<(RowRule, RecordSpoolWriter)>,
    /// Tokens of the last record.
    pub(super) last: usize,
}

/// What every one of them gave, or the first error.
fn all<T, E, const N: usize>(results: [Result<T, E>; N]) -> Result<[T; N], E> {
    let mut values = Vec::with_capacity(N);
    for result in results {
        values.push(result?);
    }
    match <[T; N]>::try_from(values) {
        Ok(values) => Ok(values),
        Err(_) => unreachable!("each of {N} gave a value"),
    }
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
        let files = FILES.map(|name| HashedFile::create(disk, &folder.join(name)));
        Ok(Self {
            folder: folder.to_owned(),
            disk: disk.clone(),
            files: all(files)?,
            input_columns: 0,
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
            shard: None,
            copies: 1,
            beginnings: Beginnings::default(),
            same: None,
            ids: Some(SeenIds::default()),
            decoder: None,
            pictures: None,
            rows: Vec::new(),
            last: 0,
        })
    }

    /// Gives the records a second sequence, [`Self::push_decoder`].
    pub fn with_decoder(mut self) -> Result<Self, ResultsError> {
        let mut decoder = Self::create_on(&self.disk, &self.folder.join(DECODER))?;
        decoder.ids = None;
        self.decoder = Some(Box::new(decoder));
        Ok(self)
    }

    /// Makes room for the sequences that the stacks of a model read beside the records' own.
    pub fn with_sequences(mut self, spec: &ModelSpec) -> Result<Self, ResultsError> {
        if spec.decoder_input().is_some() {
            self = self.with_decoder()?;
        }
        let rules = spec.row_rules().into_iter();
        if !spec.has_pictures_beside() {
            return self.with_rows(rules);
        }
        let of_pictures = |rule: &RowRule| matches!(rule, RowRule::Pictures(_));
        let (theirs, own): (Vec<_>, Vec<_>) = rules.partition(of_pictures);
        let mut pictures = Self::create_on(&self.disk, &self.folder.join(PICTURES))?;
        pictures.ids = None;
        pictures.same = Some(SameRows::default());
        self.pictures = Some(Box::new(pictures.with_rows(theirs.into_iter())?));
        self.with_rows(own.into_iter())
    }

    /// Makes room for the rows that follow by some rules.
    fn with_rows(mut self, rules: impl Iterator<Item = RowRule>) -> Result<Self, ResultsError> {
        for (index, rule) in rules.enumerate() {
            let folder = self.folder.join(format!("{ROWS}-{index}"));
            let mut rows = Self::create_on(&self.disk, &folder)?;
            rows.ids = None;
            self.rows.push((rule, rows));
        }
        Ok(self)
    }

    /// Appends the patches of the pictures of the record that was just appended, under its id and row: as many tokens of 0
    /// as rows, their places as inputs, their numbers as features.
    ///
    /// # Panics
    /// If the records have none.
    pub fn push_pictures(&mut self, record: &Record) -> Result<(), ResultsError> {
        let pictures = self.pictures.as_mut();
        pictures
            .expect("the records have pictures")
            .push_annotated(record, &Annotation::default())?;
        let places = Place::all(record.inputs.as_deref().unwrap_or_default());
        let views = places.chunk_by(|one, other| one.view == other.view);
        let rows = views.count() + usize::from(self.last > 0);
        let either = self.rows.iter_mut();
        for (_, own) in either.filter(|(rule, _)| *rule == RowRule::Either) {
            own.push(&plain_rows(record, rows))?;
        }
        Ok(())
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
            return Err(refuse(REPEATED));
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
        if let Some(values) = &record.inputs {
            self.write_inputs(values, length)
                .map_err(|problem| match problem {
                    None => refuse("the record has not as many inputs as tokens"),
                    Some(error) => error,
                })?;
            notes[0] |= HAS_INPUTS;
        } else if self.input_columns > 0 {
            let [.., inputs] = &mut self.files;
            inputs.write_zeros((length * self.input_columns) as u64 * 4)?;
        }
        let [tokens, types, ids, index, _, _, labels, features, _] = &mut self.files;
        let same = self.same.as_mut();
        let same = same.map(|same| same.of(record, self.records));
        // What an earlier record has is not written again.
        if let Some(values) = record.features.as_ref().filter(|_| same.unwrap_or(0) == 0) {
            notes = [notes[0] | HAS_FEATURES, values.len() as u32, 0];
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
        let shared = match same {
            Some(before) => before,
            None => self.beginnings.of(record.nodes()) as u32,
        };
        index.write_u32s(&[
            length as u32 | flag,
            record.id.len() as u32,
            shared,
            record.row as u32,
            (record.row >> 32) as u32,
            notes[0],
            notes[1],
            notes[2],
        ])?;
        // What either has is known with the pictures.
        let rules = self.rows.iter_mut();
        for (rule, rows) in rules.filter(|(rule, _)| *rule != RowRule::Either) {
            rows.push(&rows_of(*rule, record))?;
        }
        self.last = length;
        self.records += 1;
        self.tokens += length as u64;
        self.longest = self.longest.max(length as u64);
        Ok(())
    }

    /// Appends what the tokens of a record have beside them; `None`: not as many for every token of all records.
    fn write_inputs(&mut self, values: &[u32], tokens: usize) -> Result<(), Option<ResultsError>> {
        if tokens == 0 && values.is_empty() {
            return Ok(());
        }
        if tokens == 0 || !values.len().is_multiple_of(tokens) {
            return Err(None);
        }
        let columns = values.len() / tokens;
        let [.., inputs] = &mut self.files;
        if self.input_columns == 0 && columns > 0 {
            self.input_columns = columns;
            inputs.write_zeros(self.tokens * columns as u64 * 4)?;
        }
        if columns != self.input_columns {
            return Err(None);
        }
        Ok(inputs.write_u32s(values)?)
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
        let [.., offsets, marks, _, _, _] = &mut self.files;
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
        let others = self.decoder.iter().chain(&self.pictures);
        let compared = match self.same {
            Some(_) => SameRows::BYTES,
            None => 2 * WINDOW * size_of::<Node>(),
        };
        ids + FILES.len() * BUFFER
            + compared
            + others.map(|other| other.bytes_in_memory()).sum::<usize>()
            + self
                .rows
                .iter()
                .map(|(_, rows)| rows.bytes_in_memory())
                .sum::<usize>()
    }

    /// Says that the records are not those of a whole dataset.
    pub fn set_shard(&mut self, shard: Shard) {
        self.shard = Some(shard);
    }

    /// Says that every record is there so often, one beside the other.
    pub(super) fn set_copies(&mut self, copies: u64) {
        self.copies = copies;
    }

    /// Says that no id occurs twice, as somebody has looked at all of them.
    pub fn trust_ids(&mut self) {
        self.ids = None;
    }

    /// How many records of the input were left out.
    pub fn set_skipped(&mut self, records: u64) {
        self.skipped = records;
    }

    /// Makes the spool durable and complete.
    pub fn finish(self) -> Result<RecordSpool, ResultsError> {
        let decoder = self.decoder.map(|decoder| decoder.finish()).transpose()?;
        let pictures = self.pictures.map(|pictures| pictures.finish());
        let pictures = pictures.transpose()?;
        let rows = self.rows.into_iter();
        let rows = rows.map(|(rule, rows)| Ok((rule, rows.finish()?)));
        let rows: Vec<_> = rows.collect::<Result<_, ResultsError>>()?;
        let files = self.files.map(HashedFile::finish);
        let header = Header {
            format: FORMAT,
            records: self.records,
            skipped: self.skipped,
            tokens: self.tokens,
            longest: self.longest,
            longest_shared: self.beginnings.longest as u64,
            cut: self.cut,
            prompt_tokens: self.prompt_tokens,
            shard: self.shard,
            copies: self.copies,
            annotated: self.annotated > 0,
            needed: self.needed,
            files: all(files)?,
            same: self.same.is_some(),
            input_columns: self.input_columns as u64,
            decoder: decoder.as_ref().map(RecordSpool::content_hash),
            pictures: pictures.as_ref().map(RecordSpool::content_hash),
            rows: rows
                .iter()
                .map(|(rule, rows)| (*rule, rows.content_hash()))
                .collect(),
        };
        // The memory of the ids is free before the index is read.
        drop(self.ids);
        let json = serde_json::to_vec(&header).unwrap_or_default();
        self.disk
            .write_atomic(&self.folder.join(HEADER), |w| w.write_all(&json))?;
        let spool = RecordSpool::load(&self.folder, header, [decoder, pictures], rows)?;
        Ok(RecordSpool(Arc::new(spool)))
    }
}

/// So many rows of a record.
fn plain_rows(record: &Record, rows: usize) -> Record {
    Record {
        id: record.id.clone(),
        row: record.row,
        tokens: vec![0; rows],
        ..Record::default()
    }
}

/// The rows of a record, in the place of its tokens.
fn rows_of(rule: RowRule, record: &Record) -> Record {
    let tokens = record.tokens.len();
    let rows = rule.rows(tokens);
    match rule {
        RowRule::Pictures(rule) => {
            let places = Place::all(record.inputs.as_deref().unwrap_or_default());
            let sources = rule.asking(&places, &record.asked);
            return Record {
                inputs: (!sources.is_empty()).then(|| sources.clone()),
                ..plain_rows(record, sources.len() / rule.parts())
            };
        }
        RowRule::Chosen(choice) => {
            let source = choice.position(&record.tokens) as u32;
            return Record {
                inputs: (rows > 0).then(|| vec![source]),
                ..plain_rows(record, rows)
            };
        }
        _ => {}
    }
    let kinds = record.token_types.as_ref();
    Record {
        token_types: kinds.map(|kinds| {
            (0..rows)
                .map(|row| kinds[rule.token(row, tokens)])
                .collect()
        }),
        ..plain_rows(record, rows)
    }
}
