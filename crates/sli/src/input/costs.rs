//! What it takes to read rows of a Parquet file, from the sizes of its pages, before any is read.

use fs_err::File;
use parquet::arrow::ProjectionMask;
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::pages::PageSizes;

/// Rows decoded at a time, at most.
const BATCH_ROWS: usize = 64;
/// Bytes that a number of a row takes at most: with its levels in the batch, as it is cast, in the record.
const NUMBER_COST: u64 = 24;

/// What it takes to read rows, at most, bytes.
#[derive(Debug, Default)]
pub struct Costs {
    /// The pages that are open at a time, in the row group that needs most.
    pub pages: u64,
    /// First row of that group.
    pub first_row: u64,
    /// A row beside them, in the group whose rows can be the largest.
    row: u64,
    /// Whether there are columns for the tokenizer.
    pub holds_text: bool,
}

impl Costs {
    /// Of the columns that are read of a file; `views` if its strings are not copied out of their pages.
    pub fn of(file: &File, metadata: &ParquetMetaData, mask: &ProjectionMask, views: bool) -> Self {
        let mut costs = Self::default();
        let mut first_row = 0;
        for group in metadata.row_groups() {
            let (pages, row) = group_costs(file, group, mask, views);
            if pages > costs.pages {
                (costs.pages, costs.first_row) = (pages, first_row);
            }
            costs.row = costs.row.max(row);
            first_row += group.num_rows().max(0).unsigned_abs();
        }
        let columns = metadata.file_metadata().schema_descr().columns().iter();
        costs.holds_text = columns
            .filter_map(|column| column.path().parts().first())
            .any(|root| ["text", "messages"].contains(&root.as_str()));
        costs
    }

    /// Rows that can be decoded at a time.
    pub fn rows(&self, most: u64) -> usize {
        let rows = most.saturating_sub(self.pages) / self.row.max(1);
        (rows as usize).clamp(1, BATCH_ROWS)
    }
}

/// What the pages of a row group and what one of its rows take.
fn group_costs(
    file: &File,
    group: &RowGroupMetaData,
    mask: &ProjectionMask,
    views: bool,
) -> (u64, u64) {
    let leaves = group.columns().iter().enumerate();
    leaves
        .filter(|(leaf, _)| mask.leaf_included(*leaf))
        .map(|(_, chunk)| (chunk, PageSizes::of(file, chunk)))
        .fold((0, 0), |(pages, rows): (u64, u64), (chunk, sizes)| {
            // A page is decompressed while the one before is still there.
            let open = sizes.dictionary + 2 * sizes.data + sizes.stored;
            (
                pages.saturating_add(open),
                rows.saturating_add(row_cost(chunk, sizes, views)),
            )
        })
}

fn row_cost(chunk: &ColumnChunkMetaData, sizes: PageSizes, views: bool) -> u64 {
    let bytes = chunk.column_type() == PhysicalType::BYTE_ARRAY
        || chunk.column_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY;
    let shared = views && chunk.column_descr().max_rep_level() == 0;
    match (bytes, shared) {
        (false, _) => NUMBER_COST.saturating_mul(sizes.values),
        // Views of pages that stay as long as their rows.
        (true, true) => sizes.data,
        // Copies: a page of plain strings, or an entry of the dictionary for each value.
        (true, false) => sizes
            .data
            .saturating_add(sizes.values.saturating_mul(sizes.dictionary)),
    }
}
