//! What rows must know of the earlier rows of their record, handed on from what ran before them.
//!
//! Rows follow each other in a chunk, in the next chunk of a batch, or in the next piece of a record that is
//! cut. Keys and values of a batch's rows are carried in memory; those of a record that is cut lie in a file.
//! A recurrence leaves a summary at every row that others go on from: a node of the tree, or the end of a
//! piece.

use std::path::PathBuf;

use sli_kernels::{Mat, MatRef};

use super::batch::Chunk;
use super::place::{Place, Start};
use crate::durable::{Disk, DiskError, DiskFile};
use crate::floats;

/// Summaries of a mechanism that are in memory at a time; more lie in a file.
pub(crate) const IN_MEMORY: usize = 4;

/// A mechanism of a layer, and which of its states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MixerId {
    /// Its step.
    pub step: usize,
    /// Its branch of the step.
    pub branch: usize,
    /// Which of the things that it hands on, where these are several.
    pub part: usize,
}

/// Everything that is handed on, by the mechanism that made it.
pub(crate) struct States {
    carried: Vec<Carried>,
    summaries: Vec<Summary>,
    /// Where summaries go for which there is no room.
    overflow: Overflow,
    /// The record whose pieces run.
    cut: Option<CutRecord>,
}

/// Keys and values of earlier chunks, one row a position, from the first on.
struct Carried {
    mixer: MixerId,
    key: Mat,
    value: Mat,
}

struct Summary {
    mixer: MixerId,
    place: Place,
    held: Held,
}

enum Held {
    Memory(Vec<f32>),
    /// Bytes of the file.
    File {
        offset: u64,
        values: usize,
    },
}

struct Overflow {
    disk: Disk,
    path: PathBuf,
    file: Option<DiskFile>,
    /// Where the next summary goes; all of them are gone when a layer ends.
    end: u64,
}

impl States {
    /// None yet. What does not fit memory goes to files in `folder`.
    pub fn new(disk: &Disk, folder: &std::path::Path) -> Self {
        Self {
            carried: Vec::new(),
            summaries: Vec::new(),
            overflow: Overflow {
                disk: disk.clone(),
                path: folder.join("states"),
                file: None,
                end: 0,
            },
            cut: None,
        }
    }

    /// Other rows follow, of other records.
    pub fn clear(&mut self) {
        self.carried.clear();
        self.summaries.clear();
        self.overflow.end = 0;
    }

    /// The pieces of a record of `rows` rows follow; `window`: keys that are in memory at a time.
    pub fn begin_record(&mut self, rows: usize, window: usize) -> Result<(), DiskError> {
        self.clear();
        let file = match self.cut.take() {
            Some(cut) => cut.file,
            None => {
                let path = self.overflow.path.with_file_name("keys");
                self.overflow.disk.create(&path)?
            }
        };
        self.cut = Some(CutRecord {
            file,
            rows,
            window,
            regions: Vec::new(),
            raw: Vec::new(),
        });
        Ok(())
    }

    /// The record whose pieces run.
    pub fn cut(&mut self) -> Option<&mut CutRecord> {
        self.cut.as_mut()
    }

    /// Keys and values in front of a chunk, whose own have so many columns.
    pub fn carried(
        &self,
        mixer: MixerId,
        chunk: &Chunk,
        columns: (usize, usize),
    ) -> (MatRef<'_>, MatRef<'_>) {
        let entry = self.carried.iter().find(|entry| entry.mixer == mixer);
        match entry.filter(|_| chunk.carried > 0) {
            Some(entry) => (entry.key.view(), entry.value.view()),
            None => (
                MatRef::from_slice(&[], 0, columns.0),
                MatRef::from_slice(&[], 0, columns.1),
            ),
        }
    }

    /// Takes of a chunk's keys and values what the next one needs.
    pub fn carry(&mut self, mixer: MixerId, chunk: &Chunk, key: &Mat, value: &Mat) {
        let kept = &chunk.kept;
        if kept.carried == 0 && kept.rows.is_empty() {
            return;
        }
        let known = self.carried.iter().position(|entry| entry.mixer == mixer);
        let index = known.unwrap_or_else(|| {
            let (key, value) = (Mat::default(), Mat::default());
            self.carried.push(Carried { mixer, key, value });
            self.carried.len() - 1
        });
        let entry = &mut self.carried[index];
        for (carried, own) in [(&mut entry.key, key), (&mut entry.value, value)] {
            if kept.carried == 0 {
                carried.reset(0, own.cols());
            }
            let rows: usize = kept.rows.iter().map(ExactSizeIterator::len).sum();
            carried.resize_rows(kept.carried + rows);
            let sources = kept.rows.iter().cloned().flatten();
            for (row, source) in (kept.carried..).zip(sources) {
                carried.row_mut(row).copy_from_slice(own.row(source));
            }
        }
    }

    /// Fills `state` with the summary that rows start from; zeros at the beginning of a record.
    pub fn at(
        &mut self,
        mixer: MixerId,
        start: Option<Start>,
        state: &mut [f32],
    ) -> Result<(), DiskError> {
        state.fill(0.0);
        let Some(Start { place, is_last }) = start else {
            return Ok(());
        };
        let known = |summary: &Summary| summary.mixer == mixer && summary.place == place;
        let Some(index) = self.summaries.iter().position(known) else {
            return Ok(());
        };
        match &self.summaries[index].held {
            Held::Memory(values) => state.copy_from_slice(values),
            Held::File { offset, values } => {
                if let Some(file) = &self.overflow.file {
                    let mut raw = vec![0; values * 4];
                    file.read_exact_at(&mut raw, *offset)?;
                    floats::read(&raw, state);
                }
            }
        }
        if is_last {
            self.summaries.swap_remove(index);
        }
        Ok(())
    }

    /// Keeps the summary of all rows up to a place.
    pub fn keep(&mut self, mixer: MixerId, place: Place, state: &[f32]) -> Result<(), DiskError> {
        let others = self.summaries.iter().filter(|other| other.mixer == mixer);
        let in_memory = others.filter(|other| matches!(other.held, Held::Memory(_)));
        let held = if in_memory.count() < IN_MEMORY {
            Held::Memory(state.to_vec())
        } else {
            self.overflow.put(state)?
        };
        self.summaries.push(Summary { mixer, place, held });
        Ok(())
    }
}

impl Overflow {
    fn put(&mut self, state: &[f32]) -> Result<Held, DiskError> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.disk.create(&self.path)?),
        };
        let (offset, values) = (self.end, state.len());
        let mut raw = Vec::with_capacity(values * 4);
        floats::write(state, &mut raw);
        file.write_all_at(&raw, offset)?;
        self.end += raw.len() as u64;
        Ok(Held::File { offset, values })
    }
}

/// A record that is cut: keys and values of its rows, in a file.
pub(crate) struct CutRecord {
    file: DiskFile,
    /// Rows of the record.
    pub rows: usize,
    /// Keys that are in memory at a time.
    pub window: usize,
    regions: Vec<Region>,
    raw: Vec<u8>,
}

/// What one mechanism has in the file: key and value of a row side by side.
struct Region {
    mixer: MixerId,
    start: u64,
    columns: (usize, usize),
}

/// Bytes that cross to or from the file at a time.
pub(crate) const CROSSING: usize = 256 << 10;

impl CutRecord {
    /// Writes keys and values of the rows from `first` on.
    pub fn write(
        &mut self,
        mixer: MixerId,
        first: usize,
        key: MatRef<'_>,
        value: MatRef<'_>,
    ) -> Result<(), DiskError> {
        let region = self.region(mixer, (key.cols(), value.cols()));
        let row_bytes = 4 * (key.cols() + value.cols());
        let mut offset = region + (first * row_bytes) as u64;
        self.raw.clear();
        for row in 0..key.rows() {
            floats::write(key.row(row), &mut self.raw);
            floats::write(value.row(row), &mut self.raw);
            if self.raw.len() >= CROSSING || row + 1 == key.rows() {
                self.file.write_all_at(&self.raw, offset)?;
                offset += self.raw.len() as u64;
                self.raw.clear();
            }
        }
        Ok(())
    }

    /// Reads the rows from `first` on, as many as the matrices have.
    pub fn read(
        &mut self,
        mixer: MixerId,
        first: usize,
        key: &mut Mat,
        value: &mut Mat,
    ) -> Result<(), DiskError> {
        let (keys, columns) = (key.cols(), key.cols() + value.cols());
        let mut offset = self.region(mixer, (keys, value.cols())) + (first * columns * 4) as u64;
        let step = (CROSSING / (4 * columns).max(1)).max(1);
        for start in (0..key.rows()).step_by(step) {
            let rows = start..key.rows().min(start + step);
            self.raw.resize(rows.len() * columns * 4, 0);
            self.file.read_exact_at(&mut self.raw, offset)?;
            offset += self.raw.len() as u64;
            for (row, raw) in rows.zip(self.raw.chunks_exact(columns * 4)) {
                let (raw_key, raw_value) = raw.split_at(keys * 4);
                floats::read(raw_key, key.row_mut(row));
                floats::read(raw_value, value.row_mut(row));
            }
        }
        Ok(())
    }

    /// Where the rows of a mechanism begin.
    fn region(&mut self, mixer: MixerId, columns: (usize, usize)) -> u64 {
        if let Some(region) = self.regions.iter().find(|region| region.mixer == mixer) {
            return region.start;
        }
        let bytes =
            |region: &Region| (self.rows * (region.columns.0 + region.columns.1) * 4) as u64;
        let start = self
            .regions
            .last()
            .map_or(0, |last| last.start + bytes(last));
        self.regions.push(Region {
            mixer,
            start,
            columns,
        });
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(folder: &std::path::Path) -> States {
        States::new(&Disk::real(), folder)
    }

    #[test]
    fn summaries_come_back_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut states = states(folder.path());
        let mixer = MixerId {
            step: 1,
            ..MixerId::default()
        };
        for row in 0..3 * IN_MEMORY {
            let value = row as f32;
            states
                .keep(mixer, Place::Row(row), &[value, -value])
                .unwrap();
        }
        let mut found = [0.0; 2];
        for row in (0..3 * IN_MEMORY).rev() {
            let place = Place::Row(row);
            for is_last in [false, true] {
                states
                    .at(mixer, Some(Start { place, is_last }), &mut found)
                    .unwrap();
                assert_eq!(found, [row as f32, -(row as f32)]);
            }
        }
        assert!(states.summaries.is_empty());
        states.at(mixer, None, &mut found).unwrap();
        assert_eq!(found, [0.0; 2]);
    }

    #[test]
    fn keys_of_several_mechanisms_lie_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let mut states = states(folder.path());
        states.begin_record(700, 256).unwrap();
        let cut = states.cut().unwrap();
        let mixers = [0, 1].map(|branch| MixerId {
            branch,
            ..MixerId::default()
        });
        let number = |mixer: MixerId, row: usize, column: usize| {
            (mixer.branch * 100_000 + row * 10 + column) as f32
        };
        let filled = |mixer, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let values = rows.clone().flat_map(|row| {
                columns
                    .clone()
                    .map(move |column| number(mixer, row, column))
            });
            Mat::from_vec(rows.len(), columns.len(), values.collect())
        };
        for rows in [0..300, 300..700] {
            for mixer in mixers {
                let (key, value) = (
                    filled(mixer, rows.clone(), 0..3),
                    filled(mixer, rows.clone(), 3..5),
                );
                cut.write(mixer, rows.start, key.view(), value.view())
                    .unwrap();
            }
        }
        for mixer in mixers {
            let (mut key, mut value) = (Mat::new(400, 3), Mat::new(400, 2));
            cut.read(mixer, 256, &mut key, &mut value).unwrap();
            assert_eq!(key.as_slice(), filled(mixer, 256..656, 0..3).as_slice());
            assert_eq!(value.as_slice(), filled(mixer, 256..656, 3..5).as_slice());
        }
    }
}
