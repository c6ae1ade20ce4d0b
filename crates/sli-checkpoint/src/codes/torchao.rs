//! `quant_method: torchao`: integers of 4 and 8 bits and floats of 8 as transformers stores the tensors of torchao in
//! safetensors.
//!
//! `M._weight_qdata` (I8, E4M3) `[out, in]` has the codes, `M._weight_scale` a scale for all, for a row, for a run of
//! columns or for a block, as its shape says, `M._weight_zero_point` (I8) what they count from. A number is
//! `(code - zero point) * scale`. Where the zero points are floats it is an `Int4Tensor`: `_weight_qdata` (I8)
//! `[out, in / 2]` has two codes with signs a byte, the low half first, scales and zero points are `[groups, out]`, and a
//! number is `code * scale + zero point`. Other tensors of 4 bits are in the order of a kernel and are not read. Older
//! files hold pickled objects of the library instead of tensors.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use sli_kernels::Vectors;

use super::bytes::{self, Blocks, Scales};
use super::code::{Areas, Coded, Decode, Fault, Keys, UnknownCode, Wanted, groups};
use super::declared::{OfModules, Trouble};
use super::fp4::scaled;
use super::scale::Scale;
use super::tensors::{Placed, Tensors, matrix, mistyped, of_type, part, seen, structure};
use crate::dtype::Dtype;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

#[derive(Clone, Copy, Debug)]
pub(super) struct TorchAo {
    rounds_inputs: bool,
}

impl TorchAo {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(&[
            "include_input_output_embeddings",
            "modules_to_not_convert",
            "quant_method",
            "quant_type",
            "quant_type_kwargs",
            "untie_embedding_weights",
        ])?;
        keys.names("modules_to_not_convert")?;
        let said = config.get("quant_type").unwrap_or(&Value::Null).to_string();
        Ok(Self {
            rounds_inputs: said.contains("DynamicActivation"),
        })
    }
}

/// The class of a tensor whose order only a kernel knows.
fn ordered(module: &str, codes: &TensorInfo, tensors: Tensors<'_>) -> Option<&'static str> {
    let has = |end: &str| tensors.get(&format!("{module}._weight_{end}")).is_some();
    if has("scale_and_zero") {
        return Some("Int4TilePackedTo4dTensor");
    }
    if has("group_scale") {
        return Some("Int4PreshuffledTensor");
    }
    (codes.dtype == Dtype::I32).then_some("Int4PlainInt32Tensor")
}

fn of(
    codes: Placed<'_>,
    tensor: Placed<'_>,
    zeros: Option<Placed<'_>>,
    blocks: Blocks,
) -> Result<Coded, LeafProblem> {
    let scales = Scales {
        tensor,
        zeros,
        blocks,
        factor: 1.0,
    };
    bytes::coded(codes, Some(scales))
}

/// An `Int4Tensor`.
fn halves(codes: Placed<'_>, scales: Placed<'_>, zeros: Placed<'_>) -> Result<Coded, LeafProblem> {
    let ([rows, along], [groups, _]) = (matrix(codes.1)?, matrix(scales.1)?);
    of_type(codes.1, Dtype::I8)?;
    of_type(zeros.1, scales.1.dtype)?;
    let columns = along.saturating_mul(2);
    if groups == 0 || !columns.is_multiple_of(groups) || !(columns / groups).is_multiple_of(2) {
        let reason = format!("groups that divide {columns} columns are wanted");
        return Err(structure(scales.1, reason));
    }
    let parts = [
        seen(codes, [rows, along]),
        part(scales, &[], &[groups, rows], [groups, rows])?,
        part(zeros, &[], &[groups, rows], [groups, rows])?,
    ];
    let code = Arc::new(Halves {
        group: columns / groups,
        scale: Scale::of_floats(scales.1)?,
    });
    Ok(Coded {
        linear: true,
        ..Coded::new([rows, columns], parts, code)
    })
}

/// The numbers of 4 bits with a sign.
const SIGNED: [f32; 16] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,
];

/// Integers of 4 bits with signs, two a byte. Parts: the bytes, scales and addends, both `[groups, rows]`.
#[derive(Debug)]
struct Halves {
    group: usize,
    scale: Scale,
}

impl Areas for Halves {
    fn block(&self) -> [usize; 2] {
        [1, self.group]
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        if part == 0 {
            return [rows.clone(), groups(columns, 2)];
        }
        [groups(columns, self.group), rows.clone()]
    }
}

impl Decode for Halves {
    #[inline(always)]
    fn decode<V: Vectors>(&self, vectors: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        for (at, line) in (0..rows.len()).zip(out.chunks_exact_mut(columns.len())) {
            let bytes = parts[0].row(at);
            let mut column = columns.start;
            while column < columns.end {
                let group = column / self.group;
                let end = ((group + 1) * self.group).min(columns.end);
                let place = group - columns.start / self.group;
                let scale = self.scale.at(parts[1].row(place), at);
                let addend = self.scale.at(parts[2].row(place), at);
                let codes = &bytes[column / 2 - columns.start / 2..];
                let out = &mut line[column - columns.start..end - columns.start];
                scaled::<V, false>(vectors, &SIGNED, codes, column % 2, scale, &mut *out);
                for number in out {
                    *number += addend;
                }
                column = end;
            }
        }
        Ok(())
    }
}

impl OfModules for TorchAo {
    const CODES: &'static str = "._weight_qdata";

    fn coded(
        &self,
        module: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        if let Some(class) = ordered(module, codes.1, tensors) {
            let reason = format!("it is an `{class}`: only a kernel knows the order of its codes");
            return Err(structure(codes.1, reason).into());
        }
        if let Some((_, before)) = tensors.get(&format!("{module}._weight_act_pre_scale")) {
            let reason = "inputs are multiplied by it, which is not done";
            return Err(structure(before, reason).into());
        }
        if !matches!(codes.1.dtype, Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2) {
            let wanted = "I8, F8_E4M3 or F8_E5M2: other codes are in the order of a kernel";
            return Err(mistyped(codes.1, wanted).into());
        }
        let scales = tensors.need(&format!("{module}._weight_scale"))?;
        let zeros = tensors.get(&format!("{module}._weight_zero_point"));
        if let Some(zeros) = zeros
            && zeros.1.dtype.float().is_some()
        {
            return Ok(halves(codes, scales, zeros)?);
        }
        if let Dtype::F8E8M0 | Dtype::U8 = scales.1.dtype {
            let wanted =
                "F32, F16 or BF16: scales that are powers of two may be in the order of a kernel";
            return Err(mistyped(scales.1, wanted).into());
        }
        let (Some((leading, &[rows, columns])), Some((before, &[high, wide]))) = (
            codes.1.shape.split_last_chunk(),
            scales.1.shape.split_last_chunk(),
        ) else {
            // One scale for all.
            let blocks = Blocks::ByShape;
            return Ok(of(codes, scales, zeros, blocks)?);
        };
        let divides = |count: usize, by: usize| by > 0 && count.is_multiple_of(by);
        if before != leading || !divides(rows, high) || !divides(columns, wide) {
            let reason =
                format!("scales of blocks that divide {rows} x {columns} numbers are wanted");
            return Err(structure(scales.1, reason).into());
        }
        let block = [rows / high, columns / wide].map(|side| side.max(1));
        Ok(of(codes, scales, zeros, Blocks::Of(block))?)
    }

    fn rounds_inputs(&self) -> bool {
        self.rounds_inputs
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn halves_are_the_same_numbers_on_every_instruction_set() {
        let code = Halves {
            group: 48,
            scale: Scale::Bf16,
        };
        assert_alike(&code, [5, 131], &[1, 2, 2]);
    }
}
