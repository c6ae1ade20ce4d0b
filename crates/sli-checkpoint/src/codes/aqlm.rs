//! `quant_method: aqlm`: sums of vectors from codebooks (additive quantisation), times a scale for a group of rows.
//!
//! `M.codes` `[out / out_group, in / in_group, codebooks]` (I8, I16) has the places of vectors, whose bits count without
//! sign; `M.codebooks` `[codebooks, 2^bits, out_group, in_group]` has the vectors, `M.scales` `[out / out_group, 1, 1,
//! 1]` the scales. The vectors of a place are added in f32, in the order of the codebooks, and then scaled.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use sli_kernels::Vectors;

use super::code::{Areas, Coded, Decode, Fault, Keys, UnknownCode, Wanted, ZERO_SCALE, groups};
use super::declared::{OfModules, Trouble};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, of_type, seen, structure};
use crate::dtype::Dtype;

const BOOKS: usize = 1;
const SCALES: usize = 2;

/// What the configuration says, and the tensors have to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aqlm {
    /// Rows and columns of a vector.
    group: [usize; 2],
    books: usize,
    bits: usize,
}

impl Aqlm {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        const LISTED: &str = "linear_weights_not_to_quantize";
        let keys = Keys(config);
        let sizes = [
            ("in_group_size", 8),
            ("out_group_size", 1),
            ("num_codebooks", 1),
            ("nbits_per_codebook", 16),
        ];
        let known = sizes.map(|(key, _)| key);
        keys.only(&[&known[..], &[LISTED, "quant_method"]].concat())?;
        keys.names(LISTED)?;
        let mut found = [0; 4];
        for ((key, default), found) in sizes.into_iter().zip(&mut found) {
            // Vectors and places of codebooks are bounded by what their tensors are.
            let size = keys.group(key)?;
            *found = if config.contains_key(key) {
                size.unwrap_or(0)
            } else {
                default
            };
            if *found == 0 || *found > 1 << 10 {
                let value = config.get(key).unwrap_or(&Value::Null);
                return Err(Keys::unknown(key, value, "a size of 1 to 1024 is wanted"));
            }
        }
        let [wide, high, books, bits] = found;
        if bits > 16 {
            let value = config.get("nbits_per_codebook").unwrap_or(&Value::Null);
            return Err(Keys::unknown(
                "nbits_per_codebook",
                value,
                "at most 16 bits are read",
            ));
        }
        Ok(Self {
            group: [high, wide],
            books,
            bits,
        })
    }
}

/// A matrix of such sums. Its parts: the codes, the codebooks, the scales.
#[derive(Debug)]
struct Additive {
    group: [usize; 2],
    books: usize,
    /// Of a codebook.
    vectors: usize,
    /// Codes are of 16 bits.
    is_wide: bool,
    /// The type of the vectors.
    number: Scale,
    scale: Scale,
}

impl Additive {
    /// The groups that some rows and columns need.
    fn groups(&self, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        let [high, wide] = self.group;
        [groups(rows, high), groups(columns, wide)]
    }
}

impl Areas for Additive {
    fn block(&self) -> [usize; 2] {
        self.group
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        let [down, along] = self.groups(rows, columns);
        match part {
            0 => [down, along.start * self.books..along.end * self.books],
            BOOKS => [
                0..1,
                0..self.books * self.vectors * self.group.iter().product::<usize>(),
            ],
            _ => [0..1, down],
        }
    }

    fn whole_part(&self) -> Option<usize> {
        Some(BOOKS)
    }
}

impl Decode for Additive {
    #[inline(always)]
    fn decode<V: Vectors>(&self, _: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let [high, wide] = self.group;
        let [down, along] = self.groups(&rows, &columns);
        let (books, size) = (parts[BOOKS].bytes, self.number.size());
        let (mut sum, mut vector) = (vec![0.0; wide], vec![0.0; wide]);
        for (row, line) in rows.zip(out.chunks_exact_mut(columns.len())) {
            let codes = parts[0].row(row / high - down.start);
            let scale = self.scale.at(parts[SCALES].bytes, row / high - down.start);
            for group in along.clone() {
                sum.fill(0.0);
                for book in 0..self.books {
                    let at = (group - along.start) * self.books + book;
                    let code = if self.is_wide {
                        usize::from(u16::from_le_bytes(codes.as_chunks().0[at]))
                    } else {
                        usize::from(codes[at])
                    };
                    // Codes of fewer bits than their type has are stored with the sign of these.
                    let place = book * self.vectors + (code & (self.vectors - 1));
                    let first = (place * high + row % high) * wide;
                    self.number.line(&books[first * size..], &mut vector);
                    let pairs = sum.iter_mut().zip(&vector);
                    pairs.for_each(|(sum, number)| *sum += number);
                }
                if scale == 0.0 && sum.iter().any(|&number| number != 0.0) {
                    return Err(Fault {
                        part: SCALES,
                        ..ZERO_SCALE
                    });
                }
                let first = (group * wide).max(columns.start);
                let end = ((group + 1) * wide).min(columns.end);
                let of_group = &sum[first - group * wide..end - group * wide];
                let out = &mut line[first - columns.start..end - columns.start];
                let pairs = out.iter_mut().zip(of_group);
                pairs.for_each(|(out, number)| *out = number * scale);
            }
        }
        Ok(())
    }
}

impl OfModules for Aqlm {
    const CODES: &'static str = ".codes";

    fn coded(
        &self,
        module: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let [high, wide] = self.group;
        let books = tensors.need(&format!("{module}.codebooks"))?;
        let scales = tensors.need(&format!("{module}.scales"))?;
        let word = if self.bits > 8 { Dtype::I16 } else { Dtype::I8 };
        of_type(codes.1, word)?;
        let &[down, along, count] = &*codes.1.shape else {
            return Err(structure(codes.1, "three axes are wanted").into());
        };
        if count != self.books {
            let reason = format!("the configuration has {} codebooks", self.books);
            return Err(structure(codes.1, reason).into());
        }
        let vectors = 1 << self.bits;
        if *books.1.shape != [count, vectors, high, wide] {
            let reason =
                format!("{count} codebooks of {vectors} vectors of {high} x {wide} are wanted");
            return Err(structure(books.1, reason).into());
        }
        if *scales.1.shape != [down, 1, 1, 1] {
            let reason = format!("a scale for each of {down} groups of rows is wanted");
            return Err(structure(scales.1, reason).into());
        }
        let sides = [down.checked_mul(high), along.checked_mul(wide)];
        let [Some(rows), Some(columns)] = sides else {
            return Err(structure(codes.1, "it is of more numbers than there can be").into());
        };
        let parts = [
            seen(codes, [down, along * count]),
            seen(books, [1, count * vectors * high * wide]),
            seen(scales, [1, down]),
        ];
        let code = Arc::new(Additive {
            group: self.group,
            books: count,
            vectors,
            is_wide: word == Dtype::I16,
            number: Scale::of_floats(books.1)?,
            scale: Scale::of_floats(scales.1)?,
        });
        Ok(Coded {
            linear: true,
            ..Coded::new([rows, columns], parts, code)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn sums_of_vectors_are_the_same_numbers_on_every_instruction_set() {
        for (group, books, bits) in [([1, 8], 2, 8), ([1, 8], 1, 10), ([2, 4], 3, 6)] {
            let code = Additive {
                group,
                books,
                vectors: 1 << bits,
                is_wide: bits > 8,
                number: Scale::F16,
                scale: Scale::Bf16,
            };
            assert_alike(&code, [6, 72], &[1 + usize::from(bits > 8), 2, 2]);
        }
    }
}
