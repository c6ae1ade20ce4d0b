//! Floats of 4 bits (E2M1), two in a byte, the low half first, with a scale for a run of columns: MXFP4 (E8M0 scales
//! of 32 columns) and NVFP4 (E4M3 scales of 16, and one scale for all).
//!
//! `quant_method: mxfp4` is how gpt-oss is published: `NAME_blocks` `[experts, out, in / 32, 16]` and `NAME_scales`
//! `[experts, out, in / 32]`, where the model knows `NAME` as `[experts, in, out]`. Which of the scales of NVFP4
//! multiplies and which divides is a matter of the writer: the same bytes mean reciprocal numbers.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use sli_kernels::Vectors;

use super::code::{Areas, Coded, Decode, Fault, Found, Keys, Part, UnknownCode, Wanted, groups};
use super::declared::{Declared, found};
use super::numbers::E2M1;
use super::scale::Scale;
use super::tensors::{
    ONE_SCALE, Placed, Tensors, list, matrices, mistyped, of_type, part, structure,
};
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// What one scale for a whole matrix does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    Multiplies,
    Divides,
}

/// The tensors of a matrix of such numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp4Parts<'c> {
    pub codes: Placed<'c>,
    pub scales: Placed<'c>,
    pub global: Option<(Placed<'c>, Global)>,
    /// Columns that share a scale.
    pub run: usize,
}

/// The coded tensor `[.., rows, columns]` of codes `[.., rows, columns / 2]`.
pub(super) fn coded(parts: &Fp4Parts<'_>) -> Result<Coded, LeafProblem> {
    let (_, codes) = parts.codes;
    let (leading, [rows, bytes]) = matrices(codes)?;
    let columns = bytes.saturating_mul(2);
    let shape = [leading, &[rows, columns]].concat();
    of_rows(
        parts,
        leading,
        [rows, columns],
        &[rows, bytes],
        &shape,
        false,
    )
}

/// The same from words of eight codes, as MLX stores them, with scales that are bytes whatever they mean.
pub(super) fn of_words(
    words: Placed<'_>,
    scales: Placed<'_>,
    run: usize,
    shape: &[usize],
) -> Result<Coded, LeafProblem> {
    let Some((leading, &[rows, columns])) = shape.split_last_chunk() else {
        return Err(structure(words.1, "a coded weight is a matrix"));
    };
    of_type(scales.1, Dtype::U8)?;
    let runs = columns.div_ceil(run);
    let codes = Part {
        element: 1,
        sides: [rows, columns / 2],
        ..part(words, leading, &[rows, columns / 8], [rows, columns / 8])?
    };
    let scales = part(scales, leading, &[rows, runs], [rows, runs])?;
    let code = Arc::new(Fp4 {
        run,
        scale: if run == 16 {
            Scale::E4m3
        } else {
            Scale::PowerOfTwo
        },
        global: None,
    });
    Ok(Coded {
        linear: true,
        ..Coded::new(shape, [codes, scales], code)
    })
}

fn of_rows(
    parts: &Fp4Parts<'_>,
    leading: &[usize],
    [rows, columns]: [usize; 2],
    stored: &[usize],
    shape: &[usize],
    turned: bool,
) -> Result<Coded, LeafProblem> {
    let (_, codes) = parts.codes;
    if !matches!(codes.dtype, Dtype::U8 | Dtype::I8 | Dtype::F4) {
        return Err(mistyped(codes, "U8: two numbers of 4 bits"));
    }
    let runs = columns.div_ceil(parts.run);
    let (_, scales) = parts.scales;
    let scale = match (Scale::of(scales.dtype), parts.run) {
        (Some(scale @ Scale::PowerOfTwo), 32) | (Some(scale @ Scale::E4m3), 16) => scale,
        (_, 32) => return Err(mistyped(scales, "U8 or F8_E8M0")),
        _ => return Err(mistyped(scales, "F8_E4M3")),
    };
    let mut all = vec![
        part(parts.codes, leading, stored, [rows, columns / 2])?,
        part(parts.scales, leading, &[rows, runs], [rows, runs])?,
    ];
    if let Some((global, _)) = parts.global {
        all.push(single(global, leading)?);
    }
    let code = Arc::new(Fp4 {
        run: parts.run,
        scale,
        global: parts.global.map(|(_, global)| global),
    });
    Ok(Coded {
        turned,
        ..Coded::new(shape, all, code)
    })
}

/// One number for every matrix.
fn single(tensor: Placed<'_>, leading: &[usize]) -> Result<Part, LeafProblem> {
    of_type(tensor.1, Dtype::F32)?;
    let part = list(tensor, leading.iter().product(), || ONE_SCALE.to_owned())?;
    Ok(Part {
        sides: [1, 1],
        ..part
    })
}

#[derive(Debug)]
struct Fp4 {
    run: usize,
    scale: Scale,
    global: Option<Global>,
}

impl Areas for Fp4 {
    fn block(&self) -> [usize; 2] {
        [1, self.run]
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        match part {
            0 => [rows.clone(), groups(columns, 2)],
            1 => [rows.clone(), groups(columns, self.run)],
            _ => [0..1, 0..1],
        }
    }
}

impl Decode for Fp4 {
    #[inline(always)]
    fn decode<V: Vectors>(&self, vectors: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let whole = self.global.map(|_| Scale::F32.at(parts[2].bytes, 0));
        if whole == Some(0.0) {
            let reason = "the scale of a whole matrix is zero";
            return Err(Fault { part: 2, reason });
        }
        let whole = whole.unwrap_or(1.0);
        for (row, line) in out
            .chunks_exact_mut(columns.len())
            .take(rows.len())
            .enumerate()
        {
            let (codes, scales) = (parts[0].row(row), parts[1].row(row));
            let mut column = columns.start;
            while column < columns.end {
                let run = column / self.run;
                let end = ((run + 1) * self.run).min(columns.end);
                let scale = self.scale.at(scales, run - columns.start / self.run);
                let scale = match self.global {
                    Some(Global::Divides) => scale / whole,
                    Some(Global::Multiplies) | None => scale * whole,
                };
                let codes = &codes[column / 2 - columns.start / 2..];
                let line = &mut line[column - columns.start..end - columns.start];
                scaled::<V, false>(vectors, &E2M1, codes, column % 2, scale, line);
                column = end;
            }
        }
        Ok(())
    }
}

/// Numbers of 4 bits times a scale; `skipped` halves of the first byte are not wanted. Which half of a byte comes first
/// is a matter of the writer.
#[inline(always)]
pub(super) fn scaled<V: Vectors, const HIGH_FIRST: bool>(
    vectors: V,
    table: &[f32; 16],
    codes: &[u8],
    skipped: usize,
    scale: f32,
    out: &mut [f32],
) {
    // In that order; only the low half of either counts.
    let both = |byte: u8| {
        if HIGH_FIRST {
            [byte >> 4, byte]
        } else {
            [byte, byte >> 4]
        }
    };
    let number = |code: u8| table[usize::from(code & 15)] * scale;
    let (head, out) = out.split_at_mut(skipped.min(out.len()));
    let codes = if let Some(first) = head.first_mut() {
        *first = number(both(codes[0])[1]);
        &codes[1..]
    } else {
        codes
    };
    let (whole, tail) = out.as_chunks_mut::<16>();
    let (eights, _) = codes.as_chunks::<8>();
    for (out, eight) in whole.iter_mut().zip(eights) {
        let mut sixteen = [0; 16];
        let pairs = sixteen.as_chunks_mut().0.iter_mut().zip(eight);
        pairs.for_each(|(pair, &byte)| *pair = both(byte));
        vectors.look_up(table, sixteen, scale, out);
    }
    for (out, &byte) in tail.chunks_mut(2).zip(&codes[8 * whole.len()..]) {
        let pairs = out.iter_mut().zip(both(byte));
        pairs.for_each(|(out, code)| *out = number(code));
    }
}

/// `quant_method: mxfp4`: experts of gpt-oss.
#[derive(Debug)]
pub(super) struct Mxfp4;

impl Mxfp4 {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(&["dequantize", "modules_to_not_convert", "quant_method"])?;
        keys.names("modules_to_not_convert")?;
        Ok(Self)
    }
}

impl Declared for Mxfp4 {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let Some(name) = tensor.name.strip_suffix("_blocks") else {
            return Ok(None);
        };
        let coded = || {
            let Some((leading, &[rows, runs, 16])) = tensor.shape.split_last_chunk() else {
                let reason = "blocks of 16 bytes are wanted";
                return Err(structure(tensor, reason).into());
            };
            let parts = Fp4Parts {
                codes: tensors.need(&tensor.name)?,
                scales: tensors.need(&format!("{name}_scales"))?,
                global: None,
                run: 32,
            };
            let columns = runs.saturating_mul(32);
            let shape = [leading, &[columns, rows]].concat();
            let stored = [rows, runs, 16];
            Ok(of_rows(
                &parts,
                leading,
                [rows, columns],
                &stored,
                &shape,
                true,
            )?)
        };
        found(name, coded())
    }
}

#[cfg(test)]
mod tests {
    use sli_kernels::{Isa, Vectorized};

    use super::*;

    struct Scaled<'a, const HIGH_FIRST: bool> {
        codes: &'a [u8],
        skipped: usize,
        out: &'a mut [f32],
    }

    impl<const HIGH_FIRST: bool> Vectorized for Scaled<'_, HIGH_FIRST> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vectors>(self, vectors: V) {
            scaled::<V, HIGH_FIRST>(vectors, &E2M1, self.codes, self.skipped, 2.0, self.out);
        }
    }

    #[test]
    fn either_half_may_come_first_and_be_skipped() {
        let codes: Vec<u8> = (0..40).map(|at: u8| at.wrapping_mul(37)).collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for skipped in [0, 1] {
                for count in 0..70 {
                    let (mut low, mut high) = (vec![0.0; count], vec![0.0; count]);
                    isa.vectorize(Scaled::<false> {
                        codes: &codes,
                        skipped,
                        out: &mut low,
                    });
                    isa.vectorize(Scaled::<true> {
                        codes: &codes,
                        skipped,
                        out: &mut high,
                    });
                    for (at, pair) in low.iter().zip(&high).enumerate() {
                        let place = skipped + at;
                        let (byte, half) = (place / 2, place % 2);
                        let number =
                            |half: usize| 2.0 * E2M1[usize::from(codes[byte] >> (4 * half) & 15)];
                        assert_eq!(pair, (&number(half), &number(1 - half)), "{isa}");
                    }
                }
            }
        }
    }
}
