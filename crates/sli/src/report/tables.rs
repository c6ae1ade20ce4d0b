//! Columns of finished tables, a few rows in memory.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float32Type};

use super::error::ReportError;
use crate::finished_table::FinishedTable;

/// Rows that are decoded together.
const ROWS: usize = 64;

/// Some columns of a table, in the order in which they were asked for.
pub struct Columns<'a> {
    path: &'a Path,
    batch: &'a RecordBatch,
    names: &'a [&'a str],
}

/// Gives `use_rows` these columns of a table, some rows at a time.
pub fn read(
    path: &Path,
    names: &[&str],
    mut use_rows: impl FnMut(&Columns<'_>) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let table = FinishedTable::open(path)?;
    for batch in table.batches(Some(names), ROWS)? {
        use_rows(&Columns {
            path,
            batch: &batch?,
            names,
        })?;
    }
    Ok(())
}

impl Columns<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn column(&self, at: usize) -> Result<&ArrayRef, ReportError> {
        let name = self.names[at];
        let column = self.batch.column_by_name(name);
        column.ok_or_else(|| ReportError::damaged(self.path, format!("it has no column `{name}`")))
    }

    fn other(&self, at: usize) -> ReportError {
        let name = self.names[at];
        ReportError::damaged(self.path, format!("its column `{name}` is of another type"))
    }

    /// The texts of a column.
    pub fn texts(&self, at: usize) -> Result<Vec<&str>, ReportError> {
        let column = self.column(at)?.as_string_opt::<i32>();
        let column = column.ok_or_else(|| self.other(at))?;
        Ok(column.iter().map(Option::unwrap_or_default).collect())
    }

    /// The numbers of a column.
    pub fn numbers<T: ArrowPrimitiveType>(
        &self,
        at: usize,
    ) -> Result<Vec<Option<T::Native>>, ReportError> {
        let column = self.column(at)?.as_primitive_opt::<T>();
        let column = column.ok_or_else(|| self.other(at))?;
        Ok(column.iter().collect())
    }

    /// A row's list of numbers; what is null in it is not a number.
    pub fn list(&self, at: usize, row: usize) -> Result<Vec<f32>, ReportError> {
        let values = self.list_of::<Float32Type>(at, row)?.into_iter();
        Ok(values.map(|value| value.unwrap_or(f32::NAN)).collect())
    }

    /// A row's list; of a row that is null an empty one.
    pub fn list_of<T: ArrowPrimitiveType>(
        &self,
        at: usize,
        row: usize,
    ) -> Result<Vec<Option<T::Native>>, ReportError> {
        let lists = self.column(at)?.as_list_opt::<i32>();
        let lists = lists.ok_or_else(|| self.other(at))?;
        if lists.is_null(row) {
            return Ok(Vec::new());
        }
        let list = lists.value(row);
        let values = list.as_primitive_opt::<T>();
        let values = values.ok_or_else(|| self.other(at))?;
        Ok(values.iter().collect())
    }
}
