//! Rows of the tensors that a finished run left, one a record.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

use super::ResultsError;
use super::safetensors::{FilePart, LIMITS, TensorShape, file_name, layout};
use crate::durable::DiskError;
use crate::records::RecordSpool;
use crate::settings::HiddenDtype;

/// The tensors of one place in the model, a record each, as a [`TensorFile`](super::TensorFile) of f32 with a row a token wrote
/// them.
pub(crate) struct TensorRows {
    columns: usize,
    records: RecordSpool,
    parts: Vec<(FilePart, PathBuf)>,
    open: Mutex<BTreeMap<usize, Arc<File>>>,
}

impl TensorRows {
    /// Opens the tensors `name` of these records in a folder of results.
    ///
    /// # Panics
    /// If there are several rows a token, or they are not of f32.
    pub fn open(
        folder: &Path,
        records: &RecordSpool,
        name: &str,
        shape: TensorShape,
    ) -> Result<Self, ResultsError> {
        assert_eq!((shape.rows_per_token, shape.dtype), (1, HiddenDtype::F32));
        let parts = layout(records, &shape, LIMITS)?;
        let single = parts.len() == 1;
        let mut found = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            let path = folder.join(file_name(name, (!single).then_some(index)));
            let metadata = fs_err::metadata(&path).map_err(DiskError::from)?;
            if metadata.len() != part.bytes {
                let problem = format!("it has {} bytes, not {}", metadata.len(), part.bytes);
                return Err(ResultsError::Damaged { path, problem });
            }
            found.push((part, path));
        }
        Ok(Self {
            columns: shape.cols,
            records: records.clone(),
            parts: found,
            open: Mutex::default(),
        })
    }

    /// Values a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Reads whole rows of a record from row `first` on: as many as there is room for.
    pub fn read_rows(
        &self,
        record: usize,
        first: usize,
        values: &mut [f32],
    ) -> Result<(), ResultsError> {
        self.read(record, first, 0, values)
    }

    /// Reads some columns of a row.
    pub fn read_columns(
        &self,
        record: usize,
        row: usize,
        columns: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), ResultsError> {
        self.read(record, row, columns.start, values)
    }

    fn read(
        &self,
        record: usize,
        row: usize,
        column: usize,
        values: &mut [f32],
    ) -> Result<(), ResultsError> {
        if values.is_empty() {
            return Ok(());
        }
        // A record is in one part.
        let index = self
            .parts
            .partition_point(|(part, _)| part.records.end <= record);
        let Some((part, path)) = self.parts.get(index) else {
            return Err(ResultsError::Damaged {
                path: self
                    .parts
                    .last()
                    .map(|(_, path)| path.clone())
                    .unwrap_or_default(),
                problem: format!("there is no record {record}"),
            });
        };
        let row = self.records.token_start(record) + row as u64 - part.rows.start;
        let offset = part.data + (row * self.columns as u64 + column as u64) * 4;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        let read = self.file(index, path)?.read_exact_at(bytes, offset);
        read.map_err(DiskError::from)?;
        for value in values {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
        Ok(())
    }

    fn file(&self, index: usize, path: &Path) -> Result<Arc<File>, DiskError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&index) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path)?);
        open.insert(index, Arc::clone(&file));
        Ok(file)
    }
}
