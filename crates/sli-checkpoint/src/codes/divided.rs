//! A code whose rows or columns are divided: AWQ's weights behind a scaled activation.

use std::ops::Range;

use sli_kernels::Vectors;

use super::code::{Areas, Decode, Fault, Wanted};
use super::scale::Scale;

/// The numbers of another code, divided. Its parts: those of that code, and the divisors.
#[derive(Debug)]
pub(super) struct Divided<D> {
    pub code: D,
    /// The type of the divisors.
    pub scale: Scale,
    pub axis: Axis,
}

/// What has a divisor each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Rows,
    Columns,
}

/// Parts of the codes that are divided.
const OTHERS: usize = 3;

impl<D: Areas> Areas for Divided<D> {
    fn block(&self) -> [usize; 2] {
        self.code.block()
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        match (part, self.axis) {
            (0..OTHERS, _) => self.code.area(part, rows, columns),
            (_, Axis::Rows) => [0..1, rows.clone()],
            (_, Axis::Columns) => [0..1, columns.clone()],
        }
    }
}

impl<D: Decode> Decode for Divided<D> {
    #[inline(always)]
    fn decode<V: Vectors>(&self, vectors: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let (others, divisors) = parts.split_at(OTHERS);
        let inner = Wanted {
            rows: rows.clone(),
            columns: columns.clone(),
            parts: others,
            out: &mut *out,
        };
        self.code.decode(vectors, inner)?;
        let count = match self.axis {
            Axis::Rows => rows.len(),
            Axis::Columns => columns.len(),
        };
        let mut all = vec![0.0; count];
        self.scale.line(divisors[0].bytes, &mut all);
        if all.contains(&0.0) {
            return Err(Fault {
                part: OTHERS,
                reason: "a scale of an activation is zero, and divides",
            });
        }
        for (at, line) in out.chunks_exact_mut(columns.len()).enumerate() {
            match self.axis {
                Axis::Rows => line.iter_mut().for_each(|number| *number /= all[at]),
                Axis::Columns => {
                    let pairs = line.iter_mut().zip(&all);
                    pairs.for_each(|(number, divisor)| *number /= divisor);
                }
            }
        }
        Ok(())
    }
}
