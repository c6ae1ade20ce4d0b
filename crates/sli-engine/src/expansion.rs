//! From the rows of a batch to the records that pass through them.

use std::ops::Range;

use sli_kernels::{Mat, MatRef};

use crate::exec::batch::Batch;
use crate::results::{ResultsError, TensorFile};

/// Values that are collected for one write.
const COLLECTED: usize = 1 << 18;

/// Writes the rows of every record: of all `streams`, one behind the other.
pub(crate) fn write_rows(
    file: &TensorFile,
    batch: &Batch,
    streams: &[&Mat],
) -> Result<(), ResultsError> {
    let [hidden] = streams else {
        return write_streams(file, batch, streams);
    };
    if batch.is_plain() {
        let first = batch.records.first().map_or(0, |record| record.first);
        return file.write_rows(batch.first_record, first, hidden.as_slice());
    }
    let columns = hidden.cols();
    let mut collected = Vec::new();
    // Record and token of the first row that was collected.
    let mut first = (batch.first_record, 0);
    for (index, record) in (batch.first_record..).zip(&batch.records) {
        let mut token = record.first;
        for run in batch.path(record) {
            if collected.is_empty() {
                first = (index, token);
            }
            token += run.len();
            collected.extend_from_slice(&hidden.as_slice()[run.start * columns..run.end * columns]);
            if collected.len() >= COLLECTED {
                file.write_rows(first.0, first.1, &collected)?;
                collected.clear();
            }
        }
    }
    file.write_rows(first.0, first.1, &collected)
}

/// A record's streams stand one behind the other.
fn write_streams(file: &TensorFile, batch: &Batch, streams: &[&Mat]) -> Result<(), ResultsError> {
    for (index, record) in (batch.first_record..).zip(&batch.records) {
        let runs = batch.path(record);
        for (number, stream) in streams.iter().enumerate() {
            let columns = stream.cols();
            let mut first = number * record.length + record.first;
            for run in &runs {
                let values = &stream.as_slice()[run.start * columns..run.end * columns];
                file.write_rows(index, first, values)?;
                first += run.len();
            }
        }
    }
    Ok(())
}

/// Writes some columns of the rows from `first_row` on, for all records that pass through them.
pub(crate) fn write_block(
    file: &TensorFile,
    batch: &Batch,
    (first_row, first_column): (usize, usize),
    block: MatRef<'_>,
) -> Result<(), ResultsError> {
    let columns = first_column..first_column + block.cols();
    let values =
        |rows: Range<usize>| -> Vec<f32> { rows.flat_map(|row| block.row(row)).copied().collect() };
    if batch.is_plain() {
        let values = values(0..block.rows());
        let first = batch.records.first().map_or(0, |record| record.first);
        return file.write_columns(batch.first_record, first + first_row, columns, &values);
    }
    let rows = first_row..first_row + block.rows();
    for (index, record) in (batch.first_record..).zip(&batch.records) {
        let mut token = record.first;
        for run in batch.path(record) {
            let here = run.start.clamp(rows.start, rows.end)..run.end.clamp(rows.start, rows.end);
            if !here.is_empty() {
                let first = token + here.start - run.start;
                let values = values(here.start - first_row..here.end - first_row);
                file.write_columns(index, first, columns.clone(), &values)?;
            }
            token += run.len();
        }
    }
    Ok(())
}

/// Some runs of rows as one matrix: in place where it is one run, else copied to `copy`.
pub(crate) fn rows<'a>(x: &'a Mat, runs: &[Range<usize>], copy: &'a mut Mat) -> MatRef<'a> {
    if let [run] = runs {
        return x.rows_view(run.clone());
    }
    copy.reset(runs.iter().map(ExactSizeIterator::len).sum(), x.cols());
    for (row, source) in runs.iter().cloned().flatten().enumerate() {
        copy.row_mut(row).copy_from_slice(x.row(source));
    }
    copy.view()
}

/// Of `width` values a row, those of some runs of rows.
pub(crate) fn values<T: Copy>(values: &[T], width: usize, runs: &[Range<usize>]) -> Vec<T> {
    let of = |run: &Range<usize>| &values[run.start * width..run.end * width];
    runs.iter().flat_map(of).copied().collect()
}
