//! Tables of finished runs: what the page about results, batches and the Python package read.
//!
//! A file may be anything: whatever is wrong with it is a [`TableError`], also where the library that reads it panics.

use std::io;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use fs_err::File;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use sli_engine::results::ResultsError;

use crate::guard::guarded;

/// A table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not as a run writes it.
    #[error("{}: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<TableError> for ResultsError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Damaged { path, problem } => Self::Damaged { path, problem },
            TableError::File { path, source } => Self::Damaged {
                path,
                problem: source.to_string(),
            },
        }
    }
}

/// A table that a run wrote.
pub struct FinishedTable {
    path: PathBuf,
    builder: ParquetRecordBatchReaderBuilder<std::fs::File>,
}

impl FinishedTable {
    /// Opens a Parquet file; no rows are read yet.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let file = File::open(path).map_err(|source| TableError::File {
            path: path.to_owned(),
            source,
        })?;
        let opened = guarded(|| ParquetRecordBatchReaderBuilder::try_new(file.into_file()));
        let builder = opened.and_then(|opened| opened.map_err(|error| error.to_string()));
        Ok(Self {
            path: path.to_owned(),
            builder: builder.map_err(|problem| damaged(path, problem))?,
        })
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        self.builder.schema()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        let rows = self.builder.metadata().file_metadata().num_rows();
        usize::try_from(rows).unwrap_or(0)
    }

    /// Bytes of a column, not compressed; 0 where there is none of that name.
    pub fn bytes(&self, column: &str) -> u64 {
        let groups = self.builder.metadata().row_groups().iter();
        let columns = groups.flat_map(RowGroupMetaData::columns);
        let own = columns.filter(|chunk| {
            let parts = chunk.column_path().parts();
            parts.first().is_some_and(|name| name == column)
        });
        own.map(|chunk| u64::try_from(chunk.uncompressed_size()).unwrap_or(0))
            .sum()
    }

    /// Its rows, so many at a time: of the columns `names`, or of all.
    pub fn batches(self, names: Option<&[&str]>, rows: usize) -> Result<Batches, TableError> {
        let Self { path, builder } = self;
        let built = guarded(|| {
            let builder = builder.with_batch_size(rows);
            let Some(names) = names else {
                return builder.build();
            };
            let fields = builder.schema().fields().iter().enumerate();
            let wanted = fields.filter(|(_, field)| names.contains(&field.name().as_str()));
            let wanted: Vec<usize> = wanted.map(|(index, _)| index).collect();
            let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
            builder.with_projection(mask).build()
        });
        let batches = built.and_then(|built| built.map_err(|error| error.to_string()));
        Ok(Batches {
            batches: Some(batches.map_err(|problem| damaged(&path, problem))?),
            path,
        })
    }
}

/// Rows of a table.
pub struct Batches {
    path: PathBuf,
    /// Nothing more is asked of one that failed.
    batches: Option<ParquetRecordBatchReader>,
}

impl Batches {
    /// What is wrong with the file that they are of.
    pub fn damaged(&self, problem: String) -> TableError {
        damaged(&self.path, problem)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.batches.as_mut()?;
        let problem = match guarded(|| batches.next()) {
            Ok(None) => return None,
            Ok(Some(Ok(batch))) => return Some(Ok(batch)),
            Ok(Some(Err(error))) => error.to_string(),
            Err(problem) => problem,
        };
        self.batches = None;
        Some(Err(damaged(&self.path, problem)))
    }
}

/// Rows for those who take them as Arrow does.
pub struct ArrowBatches {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Batches,
}

impl Iterator for ArrowBatches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.batches.next()?;
        Some(next.map_err(|error| ArrowError::ExternalError(Box::new(error))))
    }
}

impl arrow::array::RecordBatchReader for ArrowBatches {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

fn damaged(path: &Path, problem: String) -> TableError {
    TableError::Damaged {
        path: path.to_owned(),
        problem,
    }
}
