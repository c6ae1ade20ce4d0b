//! Whole numbers, stored plainly, that a model computes with: tables of places (DeepSeek-V4's experts of token ids). What is
//! read of them are f32, so numbers that those do not hold are refused. Other tensors of integers are no weights.

use std::ops::Range;
use std::sync::Arc;

use sli_kernels::Vectors;

use super::code::{Areas, Coded, Decode, Fault, Found, Wanted};
use super::tensors::{Placed, seen};
use crate::dtype::Dtype;

/// The largest up to which f32 hold every whole number.
const LARGEST: i64 = 1 << 24;

/// What such tensors are called, behind the last point.
const NAMES: [&str; 1] = ["tid2eid"];

/// Of so many bytes each.
#[derive(Debug)]
struct Integers(usize);

/// The numbers of a tensor, where it holds such.
pub(super) fn find(place: Placed<'_>) -> Option<Found> {
    let tensor = place.1;
    let name = tensor.name.rsplit('.').next()?;
    if !NAMES.contains(&name) || !matches!(tensor.dtype, Dtype::I64 | Dtype::I32) {
        return None;
    }
    // A list of numbers, whatever its axes.
    let elements = tensor.shape.iter().product();
    let part = seen(place, [1, elements]);
    let code = Arc::new(Integers(part.element));
    Some(Found {
        name: tensor.name.to_string(),
        coded: Ok(Coded::new([elements], [part], code)),
    })
}

impl Areas for Integers {
    fn block(&self) -> [usize; 2] {
        [1, 1]
    }

    fn area(&self, _part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        [rows.clone(), columns.clone()]
    }
}

impl Decode for Integers {
    #[inline(always)]
    fn decode<V: Vectors>(&self, _vectors: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let lines = out.chunks_exact_mut(columns.len().max(1));
        for (line, row) in lines.zip(0..rows.len()) {
            let stored = parts[0].row(row).chunks_exact(self.0);
            for (out, stored) in line.iter_mut().zip(stored) {
                let number = match *stored {
                    [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
                    _ => i64::from_le_bytes(stored.try_into().unwrap_or_default()),
                };
                if number.unsigned_abs() > LARGEST.unsigned_abs() {
                    return Err(Fault {
                        part: 0,
                        reason: "a whole number is too large",
                    });
                }
                *out = number as f32;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sli_kernels::Isa;

    use super::super::code::{Code, Stored};
    use super::{Integers, Wanted};

    /// The first row of some stored numbers.
    fn decoded(bytes: &[u8], size: usize) -> Result<Vec<f32>, &'static str> {
        let count = bytes.len() / size;
        let mut out = vec![0.0; count];
        let stored = Stored { bytes, stride: 0 };
        let code: &dyn Code = &Integers(size);
        let wanted = Wanted {
            rows: 0..1,
            columns: 0..count,
            parts: &[stored],
            out: &mut out,
        };
        let found = code.decode(Isa::detect(), wanted);
        found.map(|()| out).map_err(|fault| fault.reason)
    }

    #[test]
    fn whole_numbers_are_read_as_far_as_f32_hold_them() {
        let long = [0_i64, 7, -3, 1 << 24].map(i64::to_le_bytes).concat();
        assert_eq!(decoded(&long, 8), Ok(vec![0.0, 7.0, -3.0, 16_777_216.0]));
        let short = [5_i32, -1].map(i32::to_le_bytes).concat();
        assert_eq!(decoded(&short, 4), Ok(vec![5.0, -1.0]));
        let large = ((1_i64 << 24) + 1).to_le_bytes();
        assert!(decoded(&large, 8).is_err());
    }
}
