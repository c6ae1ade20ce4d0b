//! What it takes to read rows of a Parquet file, from the sizes of its pages, before any is read.

use fs_err::File;
use parquet::arrow::ProjectionMask;
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::pages::PageSizes;
use super::rows::{self, RowSize};
use crate::memory::WORKING_BYTES;

/// Rows decoded at a time, at most.
const BATCH_ROWS: usize = 64;
/// Bytes that a number of a row takes at most: with its levels in the batch, as it is cast, in the record.
const NUMBER_COST: u64 = 24;

/// Bytes that a part of a conversation takes at most, a value or a key: in the record, as transformers hands
/// it on, and as the template sees it.
pub const PART_COST: u64 = 250;
/// Bytes that a byte of a conversation takes besides.
pub const BYTE_COST: u64 = 12;
/// Bytes that a value of a nested column takes at most as a part of a conversation: with its key, which the column
/// has only once, and its share of the mapping. 600 were seen in messages of two short texts.
const VALUE_COST: u64 = 640;
/// Columns whose values become trees for the chat template.
const CONVERSATIONS: [&str; 4] = ["messages", "tools", "documents", "chat_template_kwargs"];

/// What it takes to read rows, at most, bytes.
#[derive(Debug, Default)]
pub struct Costs {
    /// The pages that are open at a time, in the row group that needs most.
    pub pages: u64,
    /// First row of that group.
    pub first_row: u64,
    /// A row beside them, in the group whose rows can be the largest.
    row: u64,
    /// The group that needs most for its pages and a row that is as large as any: how much that is, and where the
    /// row is. Nothing where no row can be large.
    pub largest: Option<(u64, u64)>,
    /// Whether there are columns for the tokenizer.
    pub holds_text: bool,
}

impl Costs {
    /// Of the columns that are read of a file; `views` if its strings are not copied out of their pages, `exactly` if
    /// rows that may be large are looked at.
    pub fn of(
        file: &File,
        metadata: &ParquetMetaData,
        mask: &ProjectionMask,
        views: bool,
        exactly: bool,
    ) -> Self {
        let mut costs = Self::default();
        let mut first_row = 0;
        for group in metadata.row_groups() {
            let leaves = group.columns().iter().enumerate();
            let leaves: Vec<Leaf<'_>> = leaves
                .filter(|(leaf, _)| mask.leaf_included(*leaf))
                .map(|(_, chunk)| Leaf {
                    chunk,
                    sizes: PageSizes::of(file, chunk),
                })
                .collect();
            let rows = group.num_rows().max(0).unsigned_abs();
            let sum = |cost: &dyn Fn(&Leaf<'_>) -> u64| {
                leaves.iter().map(cost).fold(0, u64::saturating_add)
            };
            let pages = sum(&|leaf| leaf.open_pages());
            if pages > costs.pages {
                (costs.pages, costs.first_row) = (pages, first_row);
            }
            let mut row = sum(&|leaf| leaf.row_cost(views));
            if exactly && sum(&|leaf| leaf.largest_possible(rows)) > WORKING_BYTES {
                let largest = largest_row(file, &leaves, rows, views);
                row = largest.0;
                let needed = pages.saturating_add(row);
                if costs.largest.is_none_or(|(most, _)| needed > most) {
                    costs.largest = Some((needed, first_row + largest.1));
                }
            }
            costs.row = costs.row.max(row);
            first_row += rows;
        }
        let columns = metadata.file_metadata().schema_descr().columns().iter();
        costs.holds_text = columns
            .filter_map(|column| column.path().parts().first())
            .any(|root| ["text", "text_pair", "messages"].contains(&root.as_str()));
        costs
    }

    /// Rows that can be decoded at a time.
    pub fn rows(&self, most: u64) -> usize {
        let rows = most.saturating_sub(self.pages) / self.row.max(1);
        (rows as usize).clamp(1, BATCH_ROWS)
    }
}

/// What the leaves take for rows that are each as large as any, and the number of the one that takes most.
fn largest_row(file: &File, leaves: &[Leaf<'_>], rows: u64, views: bool) -> (u64, u64) {
    let (mut all, mut most, mut number) = (0_u64, 0, 0);
    for leaf in leaves {
        let found = leaf
            .is_list()
            .then(|| rows::largest(file, leaf.chunk, rows, |row| leaf.cost_of(row)).ok())
            .flatten();
        // What cannot be read is for the decoder to refuse.
        let cost = found.map_or_else(|| leaf.row_cost(views), |row| leaf.cost_of(&row));
        all = all.saturating_add(cost);
        if let Some(row) = found.filter(|_| cost > most) {
            (most, number) = (cost, row.row);
        }
    }
    (all, number)
}

/// A column without parts in a row group.
struct Leaf<'a> {
    chunk: &'a ColumnChunkMetaData,
    sizes: PageSizes,
}

impl Leaf<'_> {
    /// The pages that are open at a time: a page is decompressed while the one before is still there.
    fn open_pages(&self) -> u64 {
        self.sizes.dictionary + 2 * self.sizes.data + self.sizes.stored
    }

    fn is_list(&self) -> bool {
        self.chunk.column_descr().max_rep_level() > 0
    }

    fn has_strings(&self) -> bool {
        self.chunk.column_type() == PhysicalType::BYTE_ARRAY
            || self.chunk.column_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY
    }

    /// What a row can take as far as the headers of the pages tell, if none goes over several pages.
    fn row_cost(&self, views: bool) -> u64 {
        let sizes = self.sizes;
        match (self.has_strings(), views && !self.is_list()) {
            (false, _) => NUMBER_COST.saturating_mul(sizes.values),
            // Views of pages that stay as long as their rows.
            (true, true) => sizes.data,
            // Copies: a page of plain strings, or an entry of the dictionary for each value.
            (true, false) => sizes
                .data
                .saturating_add(sizes.values.saturating_mul(sizes.dictionary)),
        }
    }

    /// What a row takes that has all values of the group but one for each other row.
    fn largest_possible(&self, rows: u64) -> u64 {
        if !self.is_list() {
            return 0;
        }
        let values = self.chunk.num_values().max(0).unsigned_abs();
        let values = (values + 1).saturating_sub(rows.max(1));
        let data = self.chunk.uncompressed_size().max(0).unsigned_abs();
        let bytes = data.saturating_add(values.saturating_mul(self.sizes.dictionary));
        self.cost_of(&RowSize {
            row: 0,
            values,
            bytes,
        })
    }

    fn cost_of(&self, row: &RowSize) -> u64 {
        let root = self.chunk.column_descr().path().parts().first();
        if root.is_some_and(|root| CONVERSATIONS.contains(&root.as_str())) {
            let parts = VALUE_COST.saturating_mul(row.values);
            return parts.saturating_add(BYTE_COST.saturating_mul(row.bytes));
        }
        if self.has_strings() {
            row.bytes
        } else {
            NUMBER_COST.saturating_mul(row.values)
        }
    }
}
