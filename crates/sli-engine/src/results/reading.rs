//! Rows of a finished table, encoded again as they were when it was written.

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type, UInt32Type, UInt64Type};
use fs_err::File;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::ResultsError;
use super::columns::Kind;
use super::rows::{EncodedRow, RowEncoder};
use crate::durable::DiskError;

/// Rows that are read together, at most: no more than a row group has.
const ROWS: usize = 256;

/// The rows of a finished table, a few hundred in memory.
pub(crate) struct TableReader {
    path: PathBuf,
    columns: Vec<(String, Kind)>,
    batches: ParquetRecordBatchReader,
    batch: RecordBatch,
    next: usize,
}

impl TableReader {
    /// Opens a table that this program wrote.
    pub fn open(path: &Path) -> Result<Self, ResultsError> {
        let file = File::open(path).map_err(DiskError::from)?;
        let failed = |problem: String| ResultsError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.into_file())
            .map_err(|error| failed(error.to_string()))?;
        let schema = builder.schema().clone();
        let kind = |field: &arrow::datatypes::FieldRef| {
            let kind = Kind::of(field);
            let unknown = || {
                failed(format!(
                    "its column `{}` is of another program",
                    field.name()
                ))
            };
            Ok((field.name().clone(), kind.ok_or_else(unknown)?))
        };
        let columns: Result<_, ResultsError> = schema.fields().iter().map(kind).collect();
        let batches = builder.with_batch_size(ROWS).build();
        Ok(Self {
            path: path.to_owned(),
            columns: columns?,
            batches: batches.map_err(|error| failed(error.to_string()))?,
            batch: RecordBatch::new_empty(schema),
            next: 0,
        })
    }

    /// Its columns.
    pub fn columns(&self) -> &[(String, Kind)] {
        &self.columns
    }

    /// Encodes the next row into `row`; `false` after the last.
    pub fn next(&mut self, row: &mut EncodedRow) -> Result<bool, ResultsError> {
        let damaged = |problem: String| ResultsError::Damaged {
            path: self.path.clone(),
            problem,
        };
        while self.next == self.batch.num_rows() {
            match self.batches.next() {
                None => return Ok(false),
                Some(batch) => self.batch = batch.map_err(|error| damaged(error.to_string()))?,
            }
            self.next = 0;
        }
        row.encode(|encoder| {
            for (cells, &(_, kind)) in self.batch.columns().iter().zip(&self.columns) {
                encode(cells, self.next, kind, encoder);
            }
        });
        self.next += 1;
        Ok(true)
    }
}

/// Encodes a cell. The columns are of the kinds that their own types say.
fn encode(cells: &ArrayRef, at: usize, kind: Kind, row: &mut RowEncoder<'_>) {
    let there = cells.is_valid(at);
    match kind {
        Kind::Text | Kind::Name => row.text(cells.as_string::<i32>().value(at)),
        Kind::Names => {
            let names = cells.as_list::<i32>().value(at);
            let names = names.as_string::<i32>().iter();
            let names: Vec<String> = names.flatten().map(str::to_owned).collect();
            row.names(&names);
        }
        Kind::U32 => row.u32(cells.as_primitive::<UInt32Type>().value(at)),
        Kind::OptionalU32 => {
            let value = cells.as_primitive::<UInt32Type>().value(at);
            row.optional_u32(there.then_some(value));
        }
        Kind::I64 => row.u64(cells.as_primitive::<Int64Type>().value(at).cast_unsigned()),
        Kind::U64 => row.u64(cells.as_primitive::<UInt64Type>().value(at)),
        Kind::F64 => row.f64(cells.as_primitive::<Float64Type>().value(at)),
        Kind::OptionalF64 => {
            let value = cells.as_primitive::<Float64Type>().value(at);
            row.optional_f64(there.then_some(value));
        }
        Kind::ListU32 => {
            let list = cells.as_list::<i32>().value(at);
            row.list_u32(list.as_primitive::<UInt32Type>().values().iter().copied());
        }
        Kind::ListF32 => {
            let list = cells.as_list::<i32>().value(at);
            let values = list.as_primitive::<Float32Type>();
            if !values.is_empty() && values.is_null(0) {
                row.list_f32_after_null(&values.values()[1..]);
            } else {
                row.list_f32(values.values().iter().copied());
            }
        }
        Kind::MatrixU32 => {
            let lists = cells.as_list::<i32>().value(at);
            let values = values_of(&lists);
            let values = values.as_primitive::<UInt32Type>().values();
            let bytes = values.iter().map(|value| value.to_le_bytes());
            row.matrix(width(&lists), values.len(), bytes);
        }
        Kind::MatrixF32 => {
            let lists = cells.as_list::<i32>().value(at);
            let values = values_of(&lists);
            let values = values.as_primitive::<Float32Type>().values();
            let bytes = values.iter().map(|value| value.to_le_bytes());
            row.matrix(width(&lists), values.len(), bytes);
        }
        Kind::OptionalPairs => {
            let lists = cells.as_list::<i32>().value(at);
            let values = values_of(&lists);
            let values = values.as_primitive::<UInt32Type>().values();
            row.optional_pairs(there.then_some(values.as_chunks().0));
        }
        Kind::Vector(_) => {
            let vector = cells.as_fixed_size_list().value(at);
            let values = vector.as_primitive::<Float32Type>().values();
            row.vector(there.then_some(values));
        }
    }
}

/// How long each of the lists of a cell is.
fn width(lists: &ArrayRef) -> usize {
    let lists = lists.as_list::<i32>();
    if lists.is_empty() {
        0
    } else {
        lists.value_length(0) as usize
    }
}

/// The values of all lists of a cell.
fn values_of(lists: &ArrayRef) -> ArrayRef {
    let lists = lists.as_list::<i32>();
    let offsets = lists.offsets();
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    lists.values().slice(first, last - first)
}
