//! Sums of squares, exact, so that it does not matter what was added when.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sli_kernels::{Kernels, MatRef};

use crate::exact_sum::ExactSum;

/// Columns that one thread adds up at a time.
const BLOCK: usize = 64;

/// Of the matrices of one layer, by the names of the tensors that get the same inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LayerSums(BTreeMap<Vec<String>, Sums>);

/// What entered one matrix, or every one of several that are stacked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Columns of a matrix.
    pub inputs: usize,
    /// Rows that entered each matrix.
    pub counts: Vec<u64>,
    /// The sums of the squares of their values, `[matrices, inputs]`.
    pub squares: Vec<ExactSum>,
}

impl LayerSums {
    /// The sums of some tensors.
    pub fn of(&mut self, names: Vec<String>, inputs: usize, matrices: usize) -> &mut Sums {
        self.0.entry(names).or_insert_with(|| Sums {
            inputs,
            counts: vec![0; matrices],
            squares: vec![ExactSum::default(); matrices * inputs],
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[String], &Sums)> {
        self.0.iter().map(|(names, sums)| (&**names, sums))
    }

    /// Those of a tensor.
    pub fn get(&self, name: &str) -> Option<&Sums> {
        let mut all = self.iter();
        let found = all.find(|(names, _)| names.iter().any(|own| own == name));
        found.map(|(_, sums)| sums)
    }

    /// Adds those of other records; `false`: they are of another model.
    pub fn add(&mut self, other: Self) -> bool {
        for (names, sums) in other.0 {
            let own = self.of(names, sums.inputs, sums.counts.len());
            if own.inputs != sums.inputs || own.counts.len() != sums.counts.len() {
                return false;
            }
            for (own, more) in own.counts.iter_mut().zip(sums.counts) {
                *own += more;
            }
            for (own, more) in own.squares.iter_mut().zip(&sums.squares) {
                own.add_sum(more);
            }
        }
        true
    }

    /// For a checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = |bytes: &mut Vec<u8>, value: usize| bytes.extend((value as u64).to_le_bytes());
        number(&mut bytes, self.0.len());
        for (names, sums) in &self.0 {
            let names = names.join("\n");
            number(&mut bytes, names.len());
            bytes.extend(names.as_bytes());
            number(&mut bytes, sums.inputs);
            number(&mut bytes, sums.counts.len());
            for count in &sums.counts {
                bytes.extend(count.to_le_bytes());
            }
            for sum in &sums.squares {
                bytes.extend(sum.to_bytes());
            }
        }
        bytes
    }

    /// Of what [`Self::to_bytes`] gave; `None` if these bytes are not from there.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut layer = Self::default();
        for _ in 0..number(&mut rest)? {
            let length = usize::try_from(number(&mut rest)?).ok()?;
            let (names, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let names = std::str::from_utf8(names).ok()?;
            let names = names.split('\n').map(str::to_owned).collect();
            let inputs = usize::try_from(number(&mut rest)?).ok()?;
            let matrices = usize::try_from(number(&mut rest)?).ok()?;
            let needed = inputs.checked_mul(ExactSum::BYTES)?.checked_add(8)?;
            if needed.checked_mul(matrices)? > rest.len() {
                return None;
            }
            let sums = layer.of(names, inputs, matrices);
            for count in &mut sums.counts {
                *count = number(&mut rest)?;
            }
            for sum in &mut sums.squares {
                let (own, behind) = rest.split_first_chunk()?;
                rest = behind;
                *sum = ExactSum::from_bytes(own);
            }
        }
        rest.is_empty().then_some(layer)
    }
}

/// The next number of some bytes.
pub(super) fn number(rest: &mut &[u8]) -> Option<u64> {
    let (head, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(u64::from_le_bytes(*head))
}

impl Sums {
    /// Bytes of the sums of one column, while they are added up and while they are saved.
    pub const BYTES: u64 = 2 * ExactSum::BYTES as u64;

    /// Adds rows that enter one of the matrices.
    pub fn add(&mut self, kernels: &Kernels, matrix: usize, x: MatRef<'_>) {
        let own = matrix * self.inputs..(matrix + 1) * self.inputs;
        let (Some(count), Some(own)) = (self.counts.get_mut(matrix), self.squares.get_mut(own))
        else {
            return;
        };
        *count += x.rows() as u64;
        let blocks: Vec<Mutex<&mut [ExactSum]>> = own.chunks_mut(BLOCK).map(Mutex::new).collect();
        kernels.parallel_rows(blocks.len(), 1, |range| {
            for (index, block) in range.clone().zip(&blocks[range]) {
                let mut sums = block.lock().unwrap_or_else(PoisonError::into_inner);
                for row in 0..x.rows() {
                    let values = &x.row(row)[index * BLOCK..];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        sum.add(value * value);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use sli_kernels::Compute;

    use super::*;

    fn layer(rows: &[f32], threads: usize) -> LayerSums {
        let kernels = Kernels::new(threads, Compute::F32);
        let mut layer = LayerSums::default();
        let columns = 130;
        for (index, row) in rows.chunks(2 * columns).enumerate() {
            let x = MatRef::from_slice(row, row.len() / columns, columns);
            let names = vec!["blk.0.a.weight".to_owned(), "blk.0.b.weight".to_owned()];
            layer.of(names, columns, 3).add(&kernels, index % 2, x);
        }
        layer
    }

    fn values(rows: usize) -> Vec<f32> {
        let value = |index: usize| ((index * 37 % 101) as f32 - 50.0) / 7.0;
        (0..rows * 130).map(value).collect()
    }

    #[test]
    fn squares_are_summed_by_matrix_and_column() {
        let rows = values(6);
        let found = layer(&rows, 1);
        assert_eq!(found, layer(&rows, 3));
        let sums = found.get("blk.0.b.weight").unwrap();
        assert_eq!(sums.counts, [4, 2, 0]);
        let square = |row: usize, column: usize| f64::from(rows[row * 130 + column].powi(2));
        for column in 0..130 {
            let expected: f64 = [0, 1, 4, 5].iter().map(|row| square(*row, column)).sum();
            let difference = sums.squares[column].value() - expected;
            assert!(difference.abs() < 1e-5, "{column}");
            assert_eq!(sums.squares[2 * 130 + column].value(), 0.0);
        }
    }

    #[test]
    fn parts_and_bytes_are_the_whole() {
        let rows = values(8);
        let (first, second) = rows.split_at(4 * 130);
        let mut parts = LayerSums::from_bytes(&layer(second, 1).to_bytes()).unwrap();
        assert!(parts.add(layer(first, 2)));
        assert_eq!(parts, layer(&rows, 1));
        let bytes = parts.to_bytes();
        for length in (0..bytes.len()).step_by(97) {
            assert!(LayerSums::from_bytes(&bytes[..length]).is_none());
        }
        let mut other = LayerSums::default();
        other.of(vec!["blk.0.a.weight".into(), "blk.0.b.weight".into()], 7, 3);
        assert!(!parts.add(other));
    }
}
