//! Reading a spool.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use sli_spec::{ModelSpec, RowRule, Sequence};

use super::hashed::BUFFER;
use super::layout::{
    DECODER, ENTRY, FILES, FORMAT, HAS_COMPLETION, HAS_COMPLETION_BYTES, HAS_INPUTS, HAS_LABELS,
    HAS_TEXT, HEADER, Header, ID_STRIDE, IndexEntry, PICTURES, ROWS, TYPED,
};
use super::record::Record;
use crate::annotation::{Annotation, Completion, TextSpans};
use crate::durable::DiskError;
use crate::error::EngineError;
use crate::fingerprint;
use crate::results::ResultsError;
use crate::shard::Shard;

/// Tokens that are read at a time to look at all of them.
pub(super) const VISITED: u64 = 1 << 16;

/// The records of a dataset, on disk; cheap to clone, readable from several threads.
#[derive(Clone, Debug)]
pub struct RecordSpool(pub(super) Arc<Spool>);

#[derive(Debug)]
pub(super) struct Spool {
    pub(super) folder: PathBuf,
    pub(super) tokens: File,
    pub(super) types: File,
    pub(super) ids: File,
    pub(super) index: File,
    pub(super) offsets: File,
    pub(super) marks: File,
    pub(super) labels: File,
    pub(super) features: File,
    pub(super) inputs: File,
    pub(super) header: Header,
    /// The second sequence.
    pub(super) decoder: Option<RecordSpool>,
    /// The patches of pictures.
    pub(super) pictures: Option<RecordSpool>,
    /// Rows that follow from the tokens.
    pub(super) rows: Vec<(RowRule, RecordSpool)>,
    /// Number of tokens before each record, and in all.
    pub(super) starts: Vec<u64>,
    /// Tokens that each record begins with as the one before does; of pictures, how many records before the last is that has the
    /// same, and their features.
    pub(super) shared: Vec<u32>,
    /// Position in `ids` of every 64th record.
    pub(super) id_starts: Vec<u64>,
    /// A bit a record: whether it has token types.
    pub(super) typed: Vec<u64>,
    /// Number of values before each record and in all, where any has features.
    pub(super) feature_starts: Vec<u64>,
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
        let mut others = [None, None];
        let named = [(&header.decoder, DECODER), (&header.pictures, PICTURES)];
        for (other, (hash, name)) in others.iter_mut().zip(named) {
            let Some(hash) = hash else { continue };
            match Self::open(&folder.join(name))? {
                Some(spool) if spool.content_hash() == *hash => *other = Some(spool),
                _ => return Ok(None),
            }
        }
        let mut rows = Vec::new();
        for (index, (rule, hash)) in header.rows.iter().enumerate() {
            match Self::open(&folder.join(format!("{ROWS}-{index}")))? {
                Some(spool) if spool.content_hash() == *hash => rows.push((*rule, spool)),
                _ => return Ok(None),
            }
        }
        let spool = Self::load(folder, header, others, rows)?;
        Ok(Some(Self(Arc::new(spool))))
    }

    pub(super) fn load(
        folder: &Path,
        header: Header,
        [decoder, pictures]: [Option<Self>; 2],
        rows: Vec<(RowRule, Self)>,
    ) -> Result<Spool, ResultsError> {
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
            inputs: open("inputs")?,
            feature_starts: Vec::new(),
            header,
            decoder,
            pictures,
            rows,
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
            Sequence::Pictures => self.0.pictures.as_ref().unwrap_or(self),
            Sequence::Rows(rule) => self.rows(rule).unwrap_or(self),
        }
    }

    /// The second sequence, where the records have one.
    pub(super) fn second(&self) -> Option<&Self> {
        self.0.decoder.as_ref()
    }

    /// The patches of pictures, where the records have any.
    pub(super) fn pictures(&self) -> Option<&Self> {
        self.0.pictures.as_ref()
    }

    /// How often each record is there, one beside the other.
    pub fn copies(&self) -> usize {
        self.0.header.copies.max(1) as usize
    }

    /// The rows that follow from the tokens by a rule.
    fn rows(&self, rule: RowRule) -> Option<&Self> {
        let pictures = self.0.pictures.iter();
        let mut all = self
            .0
            .rows
            .iter()
            .chain(pictures.flat_map(|own| &own.0.rows));
        all.find_map(|(own, rows)| (*own == rule).then_some(rows))
    }

    /// Whether the records have the sequences that the stacks of a model read.
    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<(), EngineError> {
        let (has, wants) = (self.0.decoder.is_some(), spec.decoder_input().is_some());
        let has_rows = |rule: &RowRule| self.rows(*rule).is_some();
        if let Some(rule) = spec.row_rules().iter().find(|rule| !has_rows(rule)) {
            let problem = format!("the records have no rows by the rule {rule:?}");
            return Err(EngineError::Internal(problem));
        }
        let pictures = (self.0.pictures.is_some(), spec.has_pictures_beside());
        if has == wants && pictures.0 == pictures.1 {
            return Ok(());
        }
        let problem = format!(
            "a second sequence and pictures of the records: {has}, {}, of the model: {wants}, {}",
            pictures.0, pictures.1
        );
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

    /// Of which part of a dataset they are; `None`: of all of it.
    pub fn shard(&self) -> Option<&Shard> {
        self.0.header.shard.as_ref()
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

    /// The last record before this one that has the same pictures; `None`: it has none, or none has them of those shortly before.
    pub fn same_pictures(&self, record: usize) -> Option<usize> {
        let pictures = self.0.pictures.as_ref()?;
        match pictures.0.shared[record] as usize {
            0 => None,
            before => Some(record - before),
        }
    }

    /// Whether any record has the pictures of another one.
    pub(crate) fn has_same_pictures(&self) -> bool {
        let mut pictures = self.0.pictures.iter();
        pictures.any(|own| own.0.shared.iter().any(|&before| before > 0))
    }

    /// Whether a record and the one before it have pictures, and these are not known to be the same.
    pub(crate) fn differs_in_pictures(&self, record: usize) -> bool {
        let Some(pictures) = &self.0.pictures else {
            return false;
        };
        let mut both = (record - 1..=record).map(|own| pictures.tokens_of(own));
        both.all(|patches| patches > 0) && pictures.0.shared[record] != 1
    }

    /// Of every record of a range the first of the range that has the same pictures, as a place in the range.
    pub(crate) fn owners_of_pictures(&self, range: Range<usize>) -> Vec<usize> {
        let mut owners = Vec::with_capacity(range.len());
        for record in range.clone() {
            let before = self.same_pictures(record);
            let before = before.and_then(|before| before.checked_sub(range.start));
            let owner = before.map_or(record - range.start, |before| owners[before]);
            owners.push(owner);
        }
        owners
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

    /// Whether anything is known of any record beyond its tokens.
    pub(crate) fn is_annotated(&self) -> bool {
        self.0.header.annotated
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

    /// Whether any record has something beside its tokens.
    pub fn has_inputs(&self) -> bool {
        self.0.header.input_columns > 0
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
        if let Some(hash) = &self.0.header.pictures {
            let _ = writeln!(text, "pictures {hash}");
        }
        for (rule, hash) in &self.0.header.rows {
            let _ = writeln!(text, "{rule:?} {hash}");
        }
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Bytes held in memory while the spool is open.
    pub fn bytes_in_memory(&self) -> usize {
        let others = self.0.decoder.iter().chain(&self.0.pictures);
        8 * (self.0.starts.capacity() + self.0.id_starts.capacity() + self.0.typed.capacity())
            + 4 * self.0.shared.capacity()
            + others.map(Self::bytes_in_memory).sum::<usize>()
            + self
                .0
                .rows
                .iter()
                .map(|(_, rows)| rows.bytes_in_memory())
                .sum::<usize>()
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

    /// The kinds of all tokens of a range.
    pub fn kinds(&self, range: Range<usize>) -> Result<Vec<u32>, ResultsError> {
        let starts = &self.0.starts;
        read_u32s(&self.0.types, starts[range.start]..starts[range.end])
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
        let columns = spool.header.input_columns;
        let inputs = if entries.iter().any(|entry| entry.notes & HAS_INPUTS != 0) {
            read_u32s(&spool.inputs, span.start * columns..span.end * columns)?
        } else {
            Vec::new()
        };
        let own_inputs = |rows: &Range<usize>| {
            let columns = columns as usize;
            inputs[rows.start * columns..rows.end * columns].to_vec()
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
                inputs: (entry.notes & HAS_INPUTS != 0).then(|| own_inputs(&rows)),
                labels: (entry.notes & HAS_LABELS != 0).then(|| labels[rows].to_vec()),
                features: None,
                asked: Vec::new(),
            });
        }
        Ok(records)
    }

    /// A record with some of its tokens, and their types, instead of all.
    pub fn read_part(&self, record: usize, rows: Range<usize>) -> Result<Record, ResultsError> {
        let spool = &*self.0;
        let id = spool.ids(record..record + 1)?.into_iter().next();
        let entry = spool.entries(record..record + 1)?.into_iter().next();
        let start = spool.starts[record];
        let span = start + rows.start as u64..start + rows.end as u64;
        let typed = spool.typed[record / 64] >> (record % 64) & 1 == 1;
        let types = typed.then(|| read_u32s(&spool.types, span.clone()));
        Ok(Record {
            id: id.unwrap_or_default(),
            row: entry.map_or(0, |entry| entry.row),
            tokens: read_u32s(&spool.tokens, span)?,
            token_types: types.transpose()?,
            ..Record::default()
        })
    }

    /// The numbers that a record brought along; none where it has no features. Of pictures they are with the first record that has them.
    pub fn features(&self, mut record: usize) -> Result<Vec<f32>, ResultsError> {
        while self.0.header.same && self.0.shared[record] > 0 {
            record -= self.0.shared[record] as usize;
        }
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

impl Spool {
    /// The index of the records of a range.
    pub(super) fn entries(&self, range: Range<usize>) -> Result<Vec<IndexEntry>, ResultsError> {
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

    pub(super) fn ids(&self, range: Range<usize>) -> Result<Vec<String>, ResultsError> {
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

pub(super) fn read_u32s(file: &File, span: Range<u64>) -> Result<Vec<u32>, ResultsError> {
    let mut values = vec![0_u32; (span.end - span.start) as usize];
    let bytes = bytemuck::cast_slice_mut(&mut values);
    file.read_exact_at(bytes, span.start * 4)
        .map_err(DiskError::from)?;
    for value in &mut values {
        *value = u32::from_le(*value);
    }
    Ok(values)
}
