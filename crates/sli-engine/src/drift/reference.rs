//! The trace of the reference, read.

use sli_kernels::Mat;
use sli_spec::ModelSpec;

use super::trace::{LOGITS, StackTrace, shape};
use super::{reference_folder, reference_records};
use crate::exec::batch::{Batch, BatchRecord};
use crate::journal::OutputFolder;
use crate::records::RecordSpool;
use crate::results::{ResultsError, TensorRows};

/// The trace of the reference.
pub(super) struct Reference {
    pub stacks: Vec<StackTrace<TensorRows>>,
    pub logits: Option<TensorRows>,
}

impl Reference {
    /// Opens the trace that is in the work folder of the run that is compared with it; the model is of the same shape.
    pub fn open(spec: &ModelSpec, folder: &OutputFolder) -> Result<Self, ResultsError> {
        let (place, path) = (
            reference_folder(folder.work_dir()),
            reference_records(folder.work_dir()),
        );
        let records = RecordSpool::open(&path)?.ok_or_else(|| ResultsError::Damaged {
            path,
            problem: "the records of the reference are not there".into(),
        })?;
        let stacks = spec.stacks.iter().enumerate().map(|(index, stack)| {
            let records = records.of(stack.sequence);
            StackTrace::open(spec, index, |name, columns| {
                TensorRows::open(&place, records, name, shape(columns))
            })
        });
        let output = spec.output_stack();
        let logits = output.head.logits.as_ref().map(|logits| {
            let columns = logits.projection.out_features;
            let records = records.of(output.sequence);
            TensorRows::open(&place, records, LOGITS, shape(columns))
        });
        Ok(Self {
            stacks: stacks.collect::<Result<_, ResultsError>>()?,
            logits: logits.transpose()?,
        })
    }
}

/// A stretch of rows of one record in a batch.
pub(super) struct Stretch<'a> {
    /// The number of the record among all that run.
    pub number: usize,
    pub record: &'a BatchRecord,
    /// The token of the first row.
    pub token: usize,
    /// Rows of the batch.
    pub rows: std::ops::Range<usize>,
}

/// The rows of a batch in stretches of at most `most`, in order.
pub(super) fn stretches(batch: &Batch, most: usize) -> impl Iterator<Item = Stretch<'_>> {
    let records = (batch.first_record..).zip(&batch.records);
    records.flat_map(move |(number, record)| {
        let mut stretches = Vec::new();
        let mut token = record.first;
        for run in batch.path(record) {
            for start in run.clone().step_by(most) {
                let rows = start..run.end.min(start.saturating_add(most));
                let length = rows.len();
                stretches.push(Stretch {
                    number,
                    record,
                    token,
                    rows,
                });
                token += length;
            }
        }
        stretches
    })
}

impl Stretch<'_> {
    /// Reads the reference's rows in place of those of a buffer.
    pub fn replace(&self, file: &TensorRows, buffer: &mut Mat) -> Result<(), ResultsError> {
        let columns = buffer.cols();
        let place = self.rows.start * columns..self.rows.end * columns;
        file.read_rows(
            super::of_reference(self.number),
            self.token,
            &mut buffer.as_mut_slice()[place],
        )
    }

    /// Reads the reference's rows into a buffer of their own.
    pub fn read(&self, file: &TensorRows, into: &mut Mat) -> Result<(), ResultsError> {
        into.reset(self.rows.len(), file.columns());
        let record = super::of_reference(self.number);
        file.read_rows(record, self.token, into.as_mut_slice())
    }
}
