//! `classes.parquet`: of which class a record, or every token of it, is.

use super::ResultsError;
use super::columns::{Kind, write_table};
use super::record_name::RecordName;
use super::rows::RowSpool;
use super::tables::fits_a_list;
use crate::journal::OutputFolder;

/// The table of classes.
pub struct ClassesSink {
    spool: RowSpool,
    labels: Vec<String>,
    kind: Kind,
}

impl ClassesSink {
    const FILE: &str = "classes.parquet";

    /// Starts the table of classes of records, or continues it from the last checkpoint.
    pub fn of_records(folder: &OutputFolder, labels: &[String]) -> Result<Self, ResultsError> {
        Self::open(folder, labels, Kind::Vector(labels.len()))
    }

    /// The same of tokens.
    pub fn of_tokens(folder: &OutputFolder, labels: &[String]) -> Result<Self, ResultsError> {
        Self::open(folder, labels, Kind::MatrixF32)
    }

    fn open(folder: &OutputFolder, labels: &[String], kind: Kind) -> Result<Self, ResultsError> {
        Ok(Self {
            spool: RowSpool::open(folder, "classes", Self::FILE)?,
            labels: labels.to_vec(),
            kind,
        })
    }

    /// Appends a record's logits and, where there are any, probabilities; one of no tokens has neither.
    pub fn push_record(
        &self,
        record: RecordName<'_>,
        values: Option<(&[f32], Option<&[f32]>)>,
    ) -> Result<(), ResultsError> {
        self.spool.push(|row| {
            row.named(record);
            row.vector(values.map(|(logits, _)| logits));
            row.vector(values.and_then(|(_, probabilities)| probabilities));
        })
    }

    /// Appends a record's tokens: logits and probabilities `[tokens, classes]`.
    pub fn push_tokens(
        &self,
        record: RecordName<'_>,
        logits: &[f32],
        probabilities: &[f32],
    ) -> Result<(), ResultsError> {
        fits_a_list(record.id, logits.len())?;
        let width = self.labels.len();
        self.spool.push(|row| {
            row.named(record);
            for values in [logits, probabilities] {
                let count = values.len();
                row.matrix(width, count, values.iter().map(|value| value.to_le_bytes()));
            }
        })
    }

    /// Writes the Parquet file.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        let columns = [
            ("row", Kind::I64),
            ("id", Kind::Text),
            ("logits", self.kind),
            ("probabilities", self.kind),
            ("labels", Kind::Names),
        ];
        let mut reader = self.spool.reader()?;
        write_table(folder, Self::FILE, &columns, |row| {
            let there = reader.next(row)?;
            row.append(|cells| cells.names(&self.labels));
            Ok(there)
        })
    }
}
