//! Sums of a layer, as they were saved.

use super::bins::{LARGEST, LEAST};
use super::sums::{LayerSums, MAGIC, Matrix};
use crate::durable::DiskError;

/// Bytes of what is known of the matrices of a layer, at most.
const HEADER: u64 = 1 << 30;

/// Takes what [`LayerSums::save`] gave, a piece at a time.
pub(crate) struct Loading {
    sums: LayerSums,
    /// What is not written yet: all of it, until the matrices are known.
    header: Option<Vec<u8>>,
    written: u64,
}

impl Loading {
    /// Into sums of which there are none yet.
    pub fn new(empty: LayerSums) -> Self {
        Self {
            sums: empty,
            header: Some(Vec::new()),
            written: 0,
        }
    }

    /// The next bytes; `false`: these are not from there.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, DiskError> {
        let Some(mut header) = self.header.take() else {
            return self.write(bytes);
        };
        header.extend_from_slice(bytes);
        let begins = header.iter().zip(MAGIC).all(|(one, other)| one == other);
        let Some((length, rest)) = header
            .get(MAGIC.len()..)
            .and_then(<[u8]>::split_first_chunk)
        else {
            self.header = Some(header);
            return Ok(begins);
        };
        let length = u64::from_le_bytes(*length);
        if !begins || length > HEADER {
            return Ok(false);
        }
        let Some((json, rest)) = rest.split_at_checked(length as usize) else {
            self.header = Some(header);
            return Ok(true);
        };
        let Ok(matrices) = serde_json::from_slice::<Vec<Matrix>>(json) else {
            return Ok(false);
        };
        if !matrices.iter().all(is_sound) {
            return Ok(false);
        }
        self.sums.matrices = matrices;
        for matrix in &mut self.sums.matrices {
            matrix.offset = self.sums.end;
            self.sums.end += matrix.bytes();
        }
        self.write(rest)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<bool, DiskError> {
        if bytes.len() as u64 > self.sums.end - self.written {
            return Ok(false);
        }
        self.sums.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(true)
    }

    /// All of it; `None`: something is missing.
    pub fn end(self) -> Option<LayerSums> {
        let is_whole = self.header.is_none() && self.written == self.sums.end;
        is_whole.then_some(self.sums)
    }
}

/// Whether what a file says of a matrix can be.
fn is_sound(matrix: &Matrix) -> bool {
    let exponents = &matrix.exponents;
    // Rows of more columns are not addressed.
    matrix.inputs < 1 << 28
        && !matrix.names.is_empty()
        && (exponents.is_empty() || exponents.len() == matrix.inputs)
        && exponents.iter().all(|own| (LEAST..=LARGEST).contains(own))
}
