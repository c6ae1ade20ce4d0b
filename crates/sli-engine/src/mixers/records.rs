//! The records of a chunk.

use std::ops::Range;

use crate::exec::Rows;

/// The records of a chunk, by its own rows.
pub(super) fn records_of(rows: Rows<'_>) -> Vec<Range<usize>> {
    let first = rows.chunk.rows.start;
    let records = rows.batch.branches_of(rows.chunk).into_iter();
    let own = records.map(|record| record.start - first..record.end - first);
    own.collect()
}
