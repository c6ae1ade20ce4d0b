//! The sums of the matrices of one layer, in a scratch file: what is worked on at a time is a stripe of rows of one matrix.
//!
//! Of a matrix `[inputs, inputs]` that is its own mirror image the lower half is kept, row by row: of row i the upper sums of columns
//! `0..=i`, then the lower ones (see [`super::bins`]), f64 each.

use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sli_kernels::{Kernels, Mat, MatRef, Store};

use super::bins::{self, LARGEST, LEAST, MOST};
use super::scales::Scales;
use super::unit::{BLOCK, Unit};
use crate::durable::{DiskError, DiskFile};
use crate::journal::OutputFolder;
use crate::results::ResultsError;

/// Bytes of a stripe, where a few rows are not more.
pub(super) const STRIPE_BYTES: usize = 8 << 20;
/// Rows of a stripe.
const STRIPE_ROWS: Range<usize> = 16..256;
/// What is known of a matrix beside its sums.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Matrix {
    /// The matrices that get these inputs.
    pub names: Vec<String>,
    /// Columns of each.
    pub inputs: usize,
    /// Rows that entered.
    pub tokens: u64,
    /// Records that they are of.
    pub sequences: u64,
    /// What was added to the sums.
    addends: u64,
    /// For each column; none where nothing was added.
    pub(super) exponents: Vec<i16>,
    /// Where the sums are.
    #[serde(skip)]
    pub(super) offset: u64,
}

/// The matrices of one layer.
pub(crate) struct LayerSums {
    pub(super) file: DiskFile,
    /// Bytes of the file.
    pub(super) end: u64,
    pub(super) matrices: Vec<Matrix>,
}

impl Matrix {
    fn new(names: Vec<String>, inputs: usize) -> Self {
        Self {
            names,
            inputs,
            tokens: 0,
            sequences: 0,
            addends: 0,
            exponents: Vec::new(),
            offset: 0,
        }
    }

    /// Bytes of the sums.
    pub(super) fn bytes(&self) -> u64 {
        if self.exponents.is_empty() {
            0
        } else {
            row_start(self.inputs) * 8
        }
    }

    fn bin(&self, row: usize, column: usize) -> i32 {
        bins::bin(self.exponents[row], self.exponents[column])
    }

    /// Stripes of its rows.
    fn stripes(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, inputs) = (stripe_rows(self.inputs), self.inputs);
        (0..inputs)
            .step_by(rows)
            .map(move |first| first..inputs.min(first + rows))
    }
}

/// Rows of a stripe of a matrix.
pub(super) fn stripe_rows(inputs: usize) -> usize {
    (STRIPE_BYTES / (16 * inputs.max(1))).clamp(STRIPE_ROWS.start, STRIPE_ROWS.end)
}

/// Values in front of a row.
fn row_start(row: usize) -> u64 {
    row as u64 * (row as u64 + 1)
}

/// The rows of a stripe: upper and lower sums of each.
fn rows_of(rows: Range<usize>, mut values: &mut [f64]) -> Vec<(usize, [&mut [f64]; 2])> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let (own, behind) = values.split_at_mut(2 * (row + 1));
        let (upper, lower) = own.split_at_mut(row + 1);
        all.push((row, [upper, lower]));
        values = behind;
    }
    all
}

impl LayerSums {
    /// None yet, in an empty file.
    pub fn new(file: DiskFile) -> Self {
        Self {
            file,
            end: 0,
            matrices: Vec::new(),
        }
    }

    /// None yet, in a scratch file of a run.
    pub fn scratch(folder: &OutputFolder, name: &str) -> Result<Self, ResultsError> {
        let path = folder.work_dir().join(format!("hessian{name}"));
        Ok(Self::new(folder.disk().create(&path)?))
    }

    /// What is known of every matrix.
    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// The place of a matrix, which is entered where it is not there; `None`: what is known by its name is another one.
    pub fn place(&mut self, names: &[String], inputs: usize) -> Option<usize> {
        let known = self
            .matrices
            .iter()
            .position(|own| own.names.first() == names.first());
        let Some(known) = known else {
            self.matrices.push(Matrix::new(names.to_vec(), inputs));
            return Some(self.matrices.len() - 1);
        };
        let own = &self.matrices[known];
        (own.inputs == inputs && own.names == names).then_some(known)
    }

    /// Counts rows of so many records that were not counted before.
    pub fn count(&mut self, place: usize, tokens: u64, sequences: u64) {
        let matrix = &mut self.matrices[place];
        matrix.tokens += tokens;
        matrix.sequences += sequences;
    }

    /// Adds the products of some units of rows, each with itself.
    pub fn add(
        &mut self,
        kernels: &Kernels,
        place: usize,
        units: &[MatRef<'_>],
    ) -> Result<(), ResultsError> {
        let units = units.iter().filter(|unit| unit.rows() > 0);
        let units: Vec<MatRef<'_>> = units.copied().collect();
        if units.is_empty() {
            return Ok(());
        }
        let before = self.matrices[place].exponents.clone();
        let mut exponents = before.clone();
        exponents.resize(self.matrices[place].inputs, LEAST);
        for unit in &units {
            raise(&mut exponents, *unit);
        }
        let matrix = &self.matrices[place];
        if exponents.iter().any(|&own| own > LARGEST) {
            return Err(ResultsError::Squares(matrix.names.concat()));
        }
        self.bound(place, &before, &exponents, units.len() as u64)?;
        let work: Vec<Unit> = units.iter().map(|unit| Unit::new(*unit)).collect();
        let matrix = &self.matrices[place];
        let scales = Scales::new(&matrix.exponents);
        let mut product = Mat::default();
        for stripe in matrix.stripes() {
            let mut values = self.read(matrix, stripe.clone())?;
            let rows = rows_of(stripe.clone(), &mut values);
            raise_rows(matrix, &before, rows);
            for unit in &work {
                for (index, packed) in unit.packed.iter().enumerate() {
                    let first = index * BLOCK;
                    if first >= stripe.end {
                        break;
                    }
                    product.reset(stripe.len(), packed.n());
                    let own = unit.columns.rows_view(stripe.clone());
                    kernels.gemm(own, packed, None, Store::Set, product.view_mut());
                    let rows = rows_of(stripe.clone(), &mut values);
                    scales.add(kernels, &product, first, rows);
                }
            }
            self.write(matrix, stripe, &values)?;
        }
        Ok(())
    }

    /// Gives a matrix room, and the exponents that its sums are to be of.
    fn bound(
        &mut self,
        place: usize,
        before: &[i16],
        exponents: &[i16],
        addends: u64,
    ) -> Result<(), ResultsError> {
        let matrix = &mut self.matrices[place];
        matrix.addends += addends;
        if matrix.addends > MOST {
            return Err(ResultsError::Addends(matrix.names.concat()));
        }
        matrix.exponents = exponents.to_vec();
        if before.is_empty() {
            matrix.offset = self.end;
            self.end += matrix.bytes();
            self.file.set_length(self.end)?;
        }
        Ok(())
    }

    /// Adds those of other records; `false`: they are of another model.
    pub fn follow(&mut self, other: &Self) -> Result<bool, ResultsError> {
        for theirs in &other.matrices {
            let Some(place) = self.place(&theirs.names, theirs.inputs) else {
                return Ok(false);
            };
            self.count(place, theirs.tokens, theirs.sequences);
            if theirs.exponents.is_empty() {
                continue;
            }
            let before = self.matrices[place].exponents.clone();
            let mut exponents = theirs.exponents.clone();
            for (own, known) in exponents.iter_mut().zip(&before) {
                *own = (*own).max(*known);
            }
            self.bound(place, &before, &exponents, theirs.addends)?;
            let matrix = &self.matrices[place];
            for stripe in matrix.stripes() {
                let mut values = self.read(matrix, stripe.clone())?;
                raise_rows(matrix, &before, rows_of(stripe.clone(), &mut values));
                let mut more = other.read(theirs, stripe.clone())?;
                raise_rows(
                    matrix,
                    &theirs.exponents,
                    rows_of(stripe.clone(), &mut more),
                );
                for (own, more) in values.iter_mut().zip(&more) {
                    *own += more;
                }
                self.write(matrix, stripe, &values)?;
            }
        }
        Ok(true)
    }

    /// Rows of a matrix, from column 0 to the diagonal; zeros where nothing was added.
    fn read(&self, matrix: &Matrix, rows: Range<usize>) -> Result<Vec<f64>, DiskError> {
        let (start, end) = (row_start(rows.start), row_start(rows.end));
        let mut values = vec![0.0; (end - start) as usize];
        self.read_at(matrix, start, &mut values)?;
        Ok(values)
    }

    fn read_at(&self, matrix: &Matrix, start: u64, values: &mut [f64]) -> Result<(), DiskError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        self.file.read_exact_at(bytes, matrix.offset + 8 * start)?;
        for value in values {
            *value = f64::from_bits(u64::from_le(value.to_bits()));
        }
        Ok(())
    }

    fn write(&self, matrix: &Matrix, rows: Range<usize>, values: &[f64]) -> Result<(), DiskError> {
        let offset = matrix.offset + 8 * row_start(rows.start);
        if cfg!(target_endian = "little") {
            return self.file.write_all_at(bytemuck::cast_slice(values), offset);
        }
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.file.write_all_at(&bytes, offset)
    }

    /// Rows of the whole matrix `[rows, inputs]`, rounded to f32.
    pub fn values(&self, place: usize, rows: Range<usize>) -> Result<Vec<f32>, ResultsError> {
        let matrix = &self.matrices[place];
        let inputs = matrix.inputs;
        let mut all = vec![0.0; rows.len() * inputs];
        if matrix.exponents.is_empty() {
            return Ok(all);
        }
        let first = rows.start;
        let mut put = |row: usize, column: usize, upper: f64, lower: f64| {
            all[(row - first) * inputs + column] =
                bins::value(matrix.bin(row, column), upper, lower) as f32;
        };
        let mut values = self.read(matrix, rows.clone())?;
        for (row, [upper, lower]) in rows_of(rows.clone(), &mut values) {
            for (column, (upper, lower)) in upper.iter().zip(&*lower).enumerate() {
                put(row, column, *upper, *lower);
            }
        }
        // The mirror image, in the columns of the rows below.
        let mut part = vec![0.0; 2 * rows.len()];
        for below in rows.start + 1..inputs {
            let own = rows.start..rows.end.min(below);
            let (upper, lower) = part[..2 * own.len()].split_at_mut(own.len());
            let start = row_start(below) + own.start as u64;
            self.read_at(matrix, start, upper)?;
            self.read_at(matrix, start + below as u64 + 1, lower)?;
            for (row, (upper, lower)) in own.zip(upper.iter().zip(&*lower)) {
                put(row, below, *upper, *lower);
            }
        }
        if all.iter().all(|value| value.is_finite()) {
            Ok(all)
        } else {
            Err(ResultsError::Squares(matrix.names.concat()))
        }
    }

    /// Everything, a piece at a time.
    pub fn save(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        out(&self.header())?;
        let mut piece = vec![0; PIECE];
        for matrix in &self.matrices {
            let end = matrix.offset + matrix.bytes();
            let mut offset = matrix.offset;
            while offset < end {
                let piece = &mut piece[..PIECE.min((end - offset) as usize)];
                let read = self.file.read_exact_at(piece, offset);
                read.map_err(io::Error::other)?;
                out(piece)?;
                offset += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Bytes that [`Self::save`] gives.
    pub fn saved_bytes(&self) -> u64 {
        let bytes: u64 = self.matrices.iter().map(Matrix::bytes).sum();
        self.header().len() as u64 + bytes
    }

    fn header(&self) -> Vec<u8> {
        // Maps of strings and numbers only.
        let json = serde_json::to_vec(&self.matrices).unwrap_or_default();
        let length = (json.len() as u64).to_le_bytes();
        [MAGIC, &length, &json].concat()
    }
}

/// How saved sums begin.
pub(super) const MAGIC: &[u8] = b"sli hessian 1\n";
/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;
/// Makes exponents those of further rows, too.
fn raise(exponents: &mut [i16], x: MatRef<'_>) {
    let mut squares = vec![0.0_f64; x.cols()];
    for row in 0..x.rows() {
        for (sum, value) in squares.iter_mut().zip(x.row(row)) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    for (own, sum) in exponents.iter_mut().zip(squares) {
        *own = (*own).max(bins::exponent(sum));
    }
}

/// Makes sums of the exponents `before` those of the matrix.
fn raise_rows(matrix: &Matrix, before: &[i16], rows: Vec<(usize, [&mut [f64]; 2])>) {
    if before.is_empty() || before == matrix.exponents {
        return;
    }
    for (row, [upper, lower]) in rows {
        for (column, (upper, lower)) in upper.iter_mut().zip(lower).enumerate() {
            let old = bins::bin(before[row], before[column]);
            bins::raise(old, matrix.bin(row, column), upper, lower);
        }
    }
}

#[cfg(test)]
mod tests;
