//! What is added up of the rows of one boundary.

use crate::stats::sums;

/// How one row is off from the reference's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowDrift {
    /// Sums of squares of the reference, of the row, and of their difference; of their products.
    reference: f64,
    own: f64,
    difference: f64,
    product: f64,
    /// The largest difference.
    largest: f32,
}

impl RowDrift {
    /// Takes the values of one residual stream of the row.
    pub fn add(&mut self, reference: &[f32], own: &[f32]) {
        let [a, b, d, p] = sums(reference, own, |a, b| {
            [a * a, b * b, (b - a) * (b - a), a * b]
        });
        self.reference += a;
        self.own += b;
        self.difference += d;
        self.product += p;
        let pairs = reference.iter().zip(own);
        let largest = pairs.fold(0.0_f32, |most, (a, b)| most.max((b - a).abs()));
        self.largest = self.largest.max(largest);
    }

    /// The cosine between the two; `None`: one of them is zero.
    fn cosine(&self) -> Option<f64> {
        if self.difference == 0.0 && self.own > 0.0 {
            return Some(1.0);
        }
        let cosine = self.product / (self.reference.sqrt() * self.own.sqrt());
        cosine.is_finite().then_some(cosine.clamp(-1.0, 1.0))
    }
}

/// The sums over the rows of one boundary, which come in the order of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub rows: u64,
    pub reference: f64,
    pub difference: f64,
    pub cosines: f64,
    pub with_cosine: u64,
    pub least_cosine: Option<Least>,
    pub largest: f32,
}

/// The row that is turned most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Least {
    pub cosine: f64,
    /// The row of the record in the input.
    pub row: u64,
    pub token: u64,
}

/// Numbers of [`Sums`] in a checkpoint.
const NUMBERS: usize = 10;

impl Sums {
    /// Takes the next row: token `token` of the record that is this row of the input.
    pub fn add(&mut self, (row, token): (u64, u64), drift: &RowDrift) {
        self.rows += 1;
        self.reference += drift.reference;
        self.difference += drift.difference;
        self.largest = self.largest.max(drift.largest);
        let Some(cosine) = drift.cosine() else { return };
        self.cosines += cosine;
        self.with_cosine += 1;
        if self.least_cosine.is_none_or(|least| cosine < least.cosine) {
            self.least_cosine = Some(Least { cosine, row, token });
        }
    }

    /// The length of the difference by that of the reference, all rows in one vector; `None`: the reference is zero.
    pub fn relative_error(&self) -> Option<f64> {
        let relative = (self.difference / self.reference).sqrt();
        relative.is_finite().then_some(relative)
    }

    /// The mean over the rows of the cosine with the reference.
    pub fn cosine(&self) -> Option<f64> {
        (self.with_cosine > 0).then(|| self.cosines / self.with_cosine as f64)
    }

    /// Root of the mean square of the difference, and of the reference, of rows of so many values.
    pub fn rms(&self, columns: usize) -> [f64; 2] {
        let values = (self.rows * columns as u64).max(1) as f64;
        [self.difference, self.reference].map(|sum| (sum / values).sqrt())
    }

    /// For a checkpoint; [`Self::from_bytes`] goes on with the same bits.
    pub fn to_bytes(self) -> Vec<u8> {
        let none = Least {
            cosine: 2.0,
            row: 0,
            token: 0,
        };
        let least = self.least_cosine.unwrap_or(none);
        let numbers: [u64; NUMBERS] = [
            self.rows,
            self.reference.to_bits(),
            self.difference.to_bits(),
            self.cosines.to_bits(),
            self.with_cosine,
            u64::from(self.least_cosine.is_some()),
            least.cosine.to_bits(),
            least.row,
            least.token,
            u64::from(self.largest.to_bits()),
        ];
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = NUMBERS * 8;

    /// What [`Self::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        let numbers: Vec<u64> = numbers.iter().map(|raw| u64::from_le_bytes(*raw)).collect();
        let &[
            rows,
            reference,
            difference,
            cosines,
            with_cosine,
            has_least,
            cosine,
            row,
            token,
            largest,
        ] = &numbers[..]
        else {
            return None;
        };
        let least = Least {
            cosine: f64::from_bits(cosine),
            row,
            token,
        };
        rest.is_empty().then_some(Self {
            rows,
            reference: f64::from_bits(reference),
            difference: f64::from_bits(difference),
            cosines: f64::from_bits(cosines),
            with_cosine,
            least_cosine: (has_least == 1).then_some(least),
            largest: f32::from_bits(u32::try_from(largest).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_definitions() {
        let (a, b) = ([[3.0, 4.0], [1.0, 0.0]], [[3.0, 5.0], [0.0, 2.0]]);
        let mut sums = Sums::default();
        for (token, (a, b)) in (0..).zip(a.iter().zip(&b)) {
            let mut row = RowDrift::default();
            row.add(a, b);
            sums.add((7, token), &row);
        }
        // Differences: (0, 1), (-1, 2); squares 6 of 26.
        assert_eq!(sums.relative_error(), Some((6.0_f64 / 26.0).sqrt()));
        assert_eq!(
            sums.rms(2),
            [(6.0_f64 / 4.0).sqrt(), (26.0_f64 / 4.0).sqrt()]
        );
        let first = 29.0 / (5.0 * 34.0_f64.sqrt());
        assert_eq!(sums.cosine(), Some(f64::midpoint(first, 0.0)));
        let least = Least {
            cosine: 0.0,
            row: 7,
            token: 1,
        };
        assert_eq!(sums.least_cosine, Some(least));
        assert_eq!(sums.largest, 2.0);
        assert_eq!(Sums::from_bytes(&sums.to_bytes()), Some(sums));
        assert_eq!(sums.to_bytes().len(), Sums::BYTES);
        assert_eq!(Sums::from_bytes(&sums.to_bytes()[8..]), None);
    }

    #[test]
    fn what_is_zero_has_no_cosine_and_what_is_alike_no_error() {
        let mut sums = Sums::default();
        let mut row = RowDrift::default();
        row.add(&[0.0, 0.0], &[1.0, 0.0]);
        sums.add((0, 0), &row);
        assert_eq!((sums.cosine(), sums.relative_error()), (None, None));
        let mut row = RowDrift::default();
        row.add(&[0.1, 0.7], &[0.1, 0.7]);
        sums.add((0, 1), &row);
        assert_eq!(sums.cosine(), Some(1.0));
    }
}
