//! Rows that are not added to the sums yet: many are worked on together.

use std::collections::BTreeMap;

use sli_kernels::{Kernels, MatRef};

use super::sums::LayerSums;
use super::unit::{ROWS, ROWS_BYTES, UNIT};
use crate::entered::{Entered, Token};
use crate::results::ResultsError;

/// Rows of the matrices of a layer, by leaf and number.
#[derive(Default)]
pub(super) struct Waiting {
    matrices: BTreeMap<(usize, usize), Rows>,
    /// Values that wait.
    values: usize,
    /// Columns of all matrices.
    inputs: usize,
}

/// Rows of one matrix.
struct Rows {
    /// Where it is among the sums.
    place: usize,
    inputs: usize,
    /// The last of them may get more rows.
    units: Vec<(UnitId, Vec<f32>)>,
    /// The last record that was counted.
    record: Option<usize>,
}

/// Record and number; `None`: a row that is no token's is a unit of its own.
type UnitId = Option<(usize, usize)>;

/// The unit of a token.
fn unit_of((record, position): Token) -> (usize, usize) {
    (record, position / UNIT)
}

impl Rows {
    /// Counts the records that rows are of, which come in their order.
    fn count(&mut self, records: &[usize]) -> u64 {
        let known = self.record;
        let new = records
            .iter()
            .filter(|&&record| known.is_none_or(|known| known < record));
        let count = new.count() as u64;
        self.record = known.max(records.last().copied());
        count
    }

    fn values(&self) -> usize {
        self.units.iter().map(|(_, values)| values.len()).sum()
    }

    /// Adds the first units, and forgets them.
    fn add(
        &mut self,
        kernels: &Kernels,
        count: usize,
        sums: &mut LayerSums,
    ) -> Result<(), ResultsError> {
        let units: Vec<_> = self.units.drain(..count).collect();
        let most = (ROWS_BYTES / (4 * self.inputs.max(1))).clamp(UNIT, ROWS);
        let mut rest = &units[..];
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = rest.iter().position(|(_, values)| {
                rows += values.len() / self.inputs.max(1);
                rows > most
            });
            let (now, later) = rest.split_at(fits.unwrap_or(rest.len()).max(1));
            let views = now.iter().map(|(_, values)| {
                MatRef::from_slice(values, values.len() / self.inputs.max(1), self.inputs)
            });
            sums.add(kernels, self.place, &views.collect::<Vec<_>>())?;
            rest = later;
        }
        Ok(())
    }
}

impl Waiting {
    /// Whether a matrix was entered.
    pub fn knows(&self, matrix: (usize, usize)) -> bool {
        self.matrices.contains_key(&matrix)
    }

    /// Enters a matrix with its place among the sums.
    pub fn enter(&mut self, matrix: (usize, usize), place: usize, inputs: usize) {
        let rows = Rows {
            place,
            inputs,
            units: Vec::new(),
            record: None,
        };
        self.matrices.insert(matrix, rows);
        self.inputs += inputs;
    }

    /// Takes rows that enter a matrix.
    pub fn push(
        &mut self,
        kernels: &Kernels,
        matrix: (usize, usize),
        x: MatRef<'_>,
        rows: &Entered<'_>,
        sums: &mut LayerSums,
    ) -> Result<(), ResultsError> {
        let unit = |row: usize| -> UnitId { rows.of(row).map(unit_of) };
        let mut row = 0;
        while row < x.rows() {
            let id = unit(row);
            let same = (row + 1..x.rows()).take_while(|&next| id.is_some() && unit(next) == id);
            let end = row + 1 + same.count();
            let Some(own) = self.matrices.get_mut(&matrix) else {
                return Ok(());
            };
            let sequences = match id {
                Some((record, _)) => own.count(&[record]),
                None => own.count(&rows.records()),
            };
            sums.count(own.place, (end - row) as u64, sequences);
            let goes_on = own
                .units
                .last()
                .is_some_and(|(last, _)| id.is_some() && *last == id);
            if !goes_on {
                own.units.push((id, Vec::new()));
            }
            if let Some((_, values)) = own.units.last_mut() {
                values.reserve_exact((end - row) * x.cols());
                (row..end).for_each(|row| values.extend_from_slice(x.row(row)));
            }
            self.values += (end - row) * x.cols();
            if self.values >= (ROWS_BYTES / 4).min(ROWS * self.inputs) {
                // Matrices that are no experts' (number 0), and all of this expert, may be in the middle of their rows; other experts
                // have seen all rows of the chunk, or none.
                let ends = rows.ends().map(|token| token.map(unit_of));
                self.add(kernels, sums, |number, rows| {
                    let is_open = |(id, _): &(UnitId, _)| {
                        id.is_some() && ([0, matrix.1].contains(&number) || ends.contains(id))
                    };
                    rows.units.len() - usize::from(rows.units.last().is_some_and(is_open))
                })?;
            }
            row = end;
        }
        Ok(())
    }

    /// Adds units of records in front of this one, if many values wait.
    pub fn settle(
        &mut self,
        kernels: &Kernels,
        record: usize,
        sums: &mut LayerSums,
    ) -> Result<(), ResultsError> {
        if self.values < (ROWS_BYTES / 4).min(ROWS * self.inputs) / 2 {
            return Ok(());
        }
        self.add(kernels, sums, |_, rows| {
            let is_open = |(id, _): &(UnitId, _)| id.is_some_and(|(own, _)| own == record);
            rows.units.len() - usize::from(rows.units.last().is_some_and(is_open))
        })
    }

    /// Adds everything.
    pub fn add_all(&mut self, kernels: &Kernels, sums: &mut LayerSums) -> Result<(), ResultsError> {
        self.add(kernels, sums, |_, rows| rows.units.len())
    }

    /// Adds so many units of each matrix, by its number.
    fn add(
        &mut self,
        kernels: &Kernels,
        sums: &mut LayerSums,
        count: impl Fn(usize, &Rows) -> usize,
    ) -> Result<(), ResultsError> {
        for (&(_, number), rows) in &mut self.matrices {
            let before = rows.values();
            rows.add(kernels, count(number, rows), sums)?;
            self.values -= before - rows.values();
        }
        Ok(())
    }
}
