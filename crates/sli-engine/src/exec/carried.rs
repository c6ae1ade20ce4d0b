//! Keys and values that a chunk leaves to the next one: of the rows that the latter's records begin with.

use sli_kernels::{Mat, MatRef};
use sli_spec::WeightIndex;

use super::batch::Chunk;

/// What was left, by the mixer that made it.
#[derive(Default)]
pub(crate) struct Carried {
    entries: Vec<Entry>,
}

/// One row a position, from the first on.
struct Entry {
    /// The mixer's output projection.
    mixer: WeightIndex,
    key: Mat,
    value: Mat,
}

impl Carried {
    /// Keys and values in front of a chunk, whose own have so many columns.
    pub fn of(
        &self,
        mixer: WeightIndex,
        chunk: &Chunk,
        columns: (usize, usize),
    ) -> (MatRef<'_>, MatRef<'_>) {
        let entry = self.entries.iter().find(|entry| entry.mixer == mixer);
        match entry.filter(|_| chunk.carried > 0) {
            Some(entry) => (entry.key.view(), entry.value.view()),
            None => (
                MatRef::from_slice(&[], 0, columns.0),
                MatRef::from_slice(&[], 0, columns.1),
            ),
        }
    }

    /// Takes of a chunk's keys and values what the next one needs.
    pub fn keep(&mut self, mixer: WeightIndex, chunk: &Chunk, key: &Mat, value: &Mat) {
        let kept = &chunk.kept;
        if kept.carried == 0 && kept.rows.is_empty() {
            return;
        }
        let index = self
            .entries
            .iter()
            .position(|entry| entry.mixer == mixer)
            .unwrap_or_else(|| {
                let (key, value) = (Mat::default(), Mat::default());
                self.entries.push(Entry { mixer, key, value });
                self.entries.len() - 1
            });
        let entry = &mut self.entries[index];
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
}
