//! Who decides what runs next.

use std::ops::Range;

use crate::journal::Progress;
use crate::plan::division::Division;

/// Says which records pass over the weights next.
///
/// The sweep asks before each pass and keeps to the answer; what it has done since is in the progress, which is all that a
/// driver goes by: asked by another process it gives the same answers.
pub(crate) trait Driver {
    /// The next pass; `None`: everything is done.
    fn next(&mut self, done: &Progress) -> Option<Pass>;
}

/// A super-batch and its way through the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Its records.
    pub records: Range<usize>,
    /// None follows, so no weights are read ahead for another.
    pub is_last: bool,
}

/// All records once, in the order of the dataset.
pub(super) struct Scoring<'a> {
    pub(super) division: Division<'a>,
    /// Records in all.
    pub(super) records: usize,
    /// Rows of a pass, at most.
    pub(super) rows: usize,
}

impl Driver for Scoring<'_> {
    fn next(&mut self, done: &Progress) -> Option<Pass> {
        let first = done.records_done as usize;
        let records = match &done.current {
            Some(current) => current.records(),
            None if first < self.records => {
                first..self.division.end_of(first..self.records, self.rows)
            }
            None => return None,
        };
        let is_last = records.end >= self.records;
        Some(Pass { records, is_last })
    }
}

#[cfg(test)]
mod tests {
    use sli_testing::{Golden, Stored};

    use super::*;
    use crate::journal::SuperBatchProgress;
    use crate::model::Model;
    use crate::open_options::OpenOptions;
    use crate::portion::Portion;
    use crate::records::{Record, RecordSpoolWriter};
    use crate::shared::Shared;

    #[test]
    fn every_record_passes_once_whatever_was_done_before() {
        let folder = tempfile::tempdir().unwrap();
        Golden::open("llama").write(folder.path(), Stored::F32);
        let model = Model::open(folder.path(), &OpenOptions::default()).unwrap();
        let mut writer = RecordSpoolWriter::create(&folder.path().join("records")).unwrap();
        for (row, tokens) in [3, 1, 0, 9, 2, 2].into_iter().enumerate() {
            let record = Record {
                id: row.to_string(),
                tokens: vec![1; tokens],
                ..Record::default()
            };
            writer.push(&record).unwrap();
        }
        let records = writer.finish().unwrap();
        let scoring = || Scoring {
            division: Division::new(&model.spec, &records, Shared::default()),
            records: records.len(),
            rows: 4,
        };
        let rest = |mut done: Progress| {
            let mut driver = scoring();
            let mut passes = Vec::new();
            while let Some(pass) = driver.next(&done) {
                done = Progress {
                    records_done: pass.records.end as u64,
                    ..Progress::default()
                };
                passes.push((pass.records, pass.is_last));
            }
            passes
        };
        let all = [(0..2, false), (2..3, false), (3..4, false), (4..6, true)];
        assert_eq!(rest(Progress::default()), all);
        let done = Progress {
            records_done: 3,
            ..Progress::default()
        };
        assert_eq!(rest(done.clone()), all[2..]);
        // One that was interrupted with a larger budget goes on as it was.
        let current = SuperBatchProgress {
            portions: vec![Portion::whole(3..5)],
            shared: false,
            stack: 0,
            boundary: 1,
            buffers: Vec::new(),
            kept: Vec::new(),
            ends: Vec::new(),
        };
        let current = Some(current);
        assert_eq!(
            rest(Progress { current, ..done }),
            [(3..5, false), (5..6, true)]
        );
    }
}
