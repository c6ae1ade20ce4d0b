//! Rows of the results of a run, one after the other.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int64Type, UInt32Type};
use sli_engine::results::ResultsError;

use crate::finished_table::{Batches, FinishedTable};

/// Rows that are in memory together.
const ROWS: usize = 8;

/// A table of results with a row a record, in the order of the input.
pub struct Table {
    batches: Batches,
    batch: Option<RecordBatch>,
    next: usize,
}

impl Table {
    /// Opens a table that a run wrote; `None`: the run did not.
    pub fn open(folder: &Path, name: &str) -> Result<Option<Self>, ResultsError> {
        let path = folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let table = FinishedTable::open(&path)?;
        Ok(Some(Self {
            batches: table.batches(None, ROWS)?,
            batch: None,
            next: 0,
        }))
    }

    /// The cells of a row of the input in these columns; `None`: the table has no such row. Rows are asked for in their order.
    pub fn row<const N: usize>(
        &mut self,
        row: u64,
        columns: [&str; N],
    ) -> Result<Option<[Cell; N]>, ResultsError> {
        loop {
            let Some(batch) = self
                .batch
                .as_ref()
                .filter(|batch| self.next < batch.num_rows())
            else {
                match self.batches.next() {
                    None => return Ok(None),
                    Some(batch) => self.batch = Some(batch?),
                }
                self.next = 0;
                continue;
            };
            let lacks = |name: &str| {
                let problem = format!("it has no column `{name}`");
                ResultsError::from(self.batches.damaged(problem))
            };
            let rows = batch.column_by_name("row").ok_or_else(|| lacks("row"))?;
            let rows = rows.as_primitive_opt::<Int64Type>();
            let rows = rows.ok_or_else(|| lacks("row"))?;
            let own = rows.value(self.next).cast_unsigned();
            if own > row {
                return Ok(None);
            }
            if own < row {
                self.next += 1;
                continue;
            }
            let mut cells = [const { None }; N];
            for (cell, name) in cells.iter_mut().zip(columns) {
                let column = batch.column_by_name(name).ok_or_else(|| lacks(name))?;
                *cell = Some(Cell(column.slice(self.next, 1)));
            }
            return Ok(Some(cells.map(|cell| cell.unwrap_or_else(Cell::none))));
        }
    }
}

/// A cell of a table.
pub struct Cell(ArrayRef);

impl Cell {
    fn none() -> Self {
        Self(arrow::array::new_empty_array(
            &arrow::datatypes::DataType::Null,
        ))
    }

    /// The numbers of a vector, or of a list.
    pub fn floats(&self) -> Vec<f32> {
        let values = match self.0.as_fixed_size_list_opt() {
            Some(vectors) if vectors.is_valid(0) => vectors.value(0),
            Some(_) => return Vec::new(),
            None => self.0.as_list::<i32>().value(0),
        };
        values.as_primitive::<Float32Type>().values().to_vec()
    }

    /// The whole numbers of a list.
    pub fn numbers(&self) -> Vec<u32> {
        let values = self.0.as_list::<i32>().value(0);
        values.as_primitive::<UInt32Type>().values().to_vec()
    }

    /// The whole numbers of a list of lists; nothing where it is null.
    pub fn rows_of_numbers(&self) -> Vec<Vec<u32>> {
        let list = |values: ArrayRef| values.as_primitive::<UInt32Type>().values().to_vec();
        self.lists().map(list).collect()
    }

    /// The numbers of a list of lists.
    pub fn rows_of_floats(&self) -> Vec<Vec<f32>> {
        let list = |values: ArrayRef| values.as_primitive::<Float32Type>().values().to_vec();
        self.lists().map(list).collect()
    }

    fn lists(&self) -> impl Iterator<Item = ArrayRef> {
        let lists = self.0.as_list::<i32>();
        let all = lists.is_valid(0).then(|| lists.value(0));
        let all = all.into_iter().flat_map(|all| {
            let lists = all.as_list::<i32>().clone();
            (0..lists.len()).map(move |index| lists.value(index))
        });
        all.collect::<Vec<_>>().into_iter()
    }
}
