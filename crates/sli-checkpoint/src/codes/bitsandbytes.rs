//! `quant_method: bitsandbytes`: 4 bits by a table (nf4, fp4) or 8 bits by rows (LLM.int8).
//!
//! 4 bits: `NAME` is bytes, whatever the type they are stored as, of two codes each, **the high half first**, flat over
//! the row-major weight. `NAME.quant_map` has the number of every code, `NAME.absmax` the scale of every block of the
//! flat weight, and `NAME.quant_state.bitsandbytes__nf4` (or `fp4`) says, as JSON, shape and block. Where the scales
//! are coded themselves (double quantisation) they are bytes: `nested_quant_map[byte] * nested_absmax[block] +
//! nested_offset`. 8 bits: a number is `code * SCB[row] / 127`. A scale of zero is one of a block of zeros, for which
//! any code may stand.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use sli_kernels::Vectors;

use super::bytes::{self, Blocks, Scales};
use super::code::{
    Areas, Coded, Decode, Fault, Found, Keys, Part, Stored, UnknownCode, Wanted, flat, groups,
};
use super::declared::{Declared, Trouble, found};
use super::fp4::scaled;
use super::scale::Scale;
use super::tensors::{Placed, Tensors, list, of_type, structure};
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::tensors::TensorInfo;

/// Keys that are known; the tensors say all that the numbers depend on.
const KEYS: &[&str] = &[
    "_load_in_4bit",
    "_load_in_8bit",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage",
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
    "llm_int8_enable_fp32_cpu_offload",
    "llm_int8_has_fp16_weight",
    "llm_int8_skip_modules",
    "llm_int8_threshold",
    "load_in_4bit",
    "load_in_8bit",
    "quant_method",
];

#[derive(Debug)]
pub(super) struct BitsAndBytes {
    eight_bits: bool,
}

impl BitsAndBytes {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.names("llm_int8_skip_modules")?;
        keys.one_of(
            "bnb_4bit_quant_type",
            &["nf4", "fp4"],
            "`nf4` and `fp4` are read",
        )?;
        let eight_bits = config.get("load_in_8bit") == Some(&Value::Bool(true));
        Ok(Self { eight_bits })
    }
}

impl Declared for BitsAndBytes {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let name = &tensor.name;
        for kind in ["nf4", "fp4"] {
            let state = format!("{name}.quant_state.bitsandbytes__{kind}");
            if let Some(state) = tensors.get(&state) {
                let small = Small::read(tensor, state, tensors);
                return found(
                    name,
                    small.and_then(|small| four_bits(tensor, small, tensors)),
                );
            }
        }
        let scales = name
            .strip_suffix(".weight")
            .map(|module| format!("{module}.SCB"));
        match scales.and_then(|scales| tensors.get(&scales)) {
            Some(scales) if tensor.dtype == Dtype::I8 => {
                found(name, eight_bits(tensor, scales, tensors))
            }
            _ => Ok(None),
        }
    }

    fn rounds_inputs(&self) -> bool {
        self.eight_bits
    }
}

fn eight_bits(
    tensor: &TensorInfo,
    scales: Placed<'_>,
    tensors: Tensors<'_>,
) -> Result<Coded, Trouble> {
    let mut beside = Vec::new();
    if let Some((at, format)) = tensors.get(&format!("{}_format", tensor.name)) {
        if tensors.read(format)?.first() != Some(&0) {
            let reason = "codes in the order of a processor are not read, only row by row (0)";
            return Err(structure(format, reason).into());
        }
        beside.push(at);
    }
    let scales = Scales {
        tensor: scales,
        zeros: None,
        blocks: Blocks::ByShape,
        factor: 1.0 / 127.0,
    };
    let coded = bytes::coded(tensors.need(&tensor.name)?, Some(scales))?;
    Ok(Coded {
        linear: true,
        beside: beside.into(),
        ..coded
    })
}

/// What small tensors say of one of 4 bits.
struct Small {
    shape: [usize; 2],
    block: usize,
    /// The number of every code.
    table: [f32; 16],
    nested: Option<Nested>,
    beside: Vec<u32>,
}

/// How scales of 8 bits are decoded.
#[derive(Debug)]
struct Nested {
    table: Box<[f32]>,
    block: usize,
    offset: f32,
}

impl Small {
    fn read(tensor: &TensorInfo, state: Placed<'_>, tensors: Tensors<'_>) -> Result<Self, Trouble> {
        let floats = |end: &str, count: usize| {
            let (at, info) = tensors.need(&format!("{}.{end}", tensor.name))?;
            if info.dtype != Dtype::F32 || info.elements() != count as u64 {
                let reason = format!("{count} numbers (F32) are wanted");
                return Err(Trouble::from(structure(info, reason)));
            }
            let mut numbers = vec![0.0; count];
            Scale::F32.line(&tensors.read(info)?, &mut numbers);
            Ok((at, numbers))
        };
        let text = tensors.read(state.1)?;
        let said: Option<Value> = serde_json::from_slice(&text).ok();
        let size = |key: &str| {
            let size = said.as_ref()?.get(key)?.as_u64()?;
            usize::try_from(size).ok().filter(|&size| size > 0)
        };
        let shape = said.as_ref().and_then(|said| said.get("shape")?.as_array());
        let sides = shape.and_then(|shape| match &shape[..] {
            [rows, columns] => Some([rows, columns].map(Value::as_u64)),
            _ => None,
        });
        let (Some([Some(rows), Some(columns)]), Some(block)) = (sides, size("blocksize")) else {
            let reason = "`shape` of a matrix and `blocksize` are wanted in its JSON";
            return Err(structure(state.1, reason).into());
        };
        let (map_at, map) = floats("quant_map", 16)?;
        let mut beside = vec![state.0, map_at];
        let offset = said
            .as_ref()
            .and_then(|said| said.get("nested_offset")?.as_f64());
        let mut nested = None;
        if let (Some(block), Some(offset)) = (size("nested_blocksize"), offset) {
            let (at, table) = floats("nested_quant_map", 256)?;
            beside.push(at);
            let (table, offset) = (table.into(), offset as f32);
            nested = Some(Nested {
                table,
                block,
                offset,
            });
        }
        Ok(Self {
            shape: [rows as usize, columns as usize],
            block,
            table: std::array::from_fn(|code| map[code]),
            nested,
            beside,
        })
    }
}

fn four_bits(tensor: &TensorInfo, small: Small, tensors: Tensors<'_>) -> Result<Coded, Trouble> {
    let [rows, columns] = small.shape;
    let count = rows.saturating_mul(columns);
    if tensor.bytes != count.div_ceil(2) as u64 {
        let reason = format!(
            "{rows} x {columns} numbers take {} bytes",
            count.div_ceil(2)
        );
        return Err(structure(tensor, reason).into());
    }
    let blocks = count.div_ceil(small.block);
    let flat = |name: &str, dtype: Dtype, count: usize| {
        let scales = tensors.need(name)?;
        of_type(scales.1, dtype)?;
        list(scales, count, || format!("{count} scales are wanted"))
    };
    let codes = Part {
        tensor: tensors.need(&tensor.name)?.0,
        sides: [1, count.div_ceil(2)],
        element: 1,
    };
    let absmax = format!("{}.absmax", tensor.name);
    let mut parts = vec![codes];
    if let Some(nested) = &small.nested {
        let name = format!("{}.nested_absmax", tensor.name);
        parts.push(flat(&absmax, Dtype::U8, blocks)?);
        parts.push(flat(&name, Dtype::F32, blocks.div_ceil(nested.block))?);
    } else {
        parts.push(flat(&absmax, Dtype::F32, blocks)?);
    }
    let code = Arc::new(FourBits {
        columns,
        block: small.block,
        table: small.table,
        nested: small.nested,
    });
    Ok(Coded {
        linear: true,
        beside: small.beside.into(),
        ..Coded::new(small.shape, parts, code)
    })
}

#[derive(Debug)]
struct FourBits {
    columns: usize,
    /// Numbers that share a scale, one behind the other in the flat weight.
    block: usize,
    table: [f32; 16],
    nested: Option<Nested>,
}

impl FourBits {
    /// Where the numbers of a part begin and end that a span needs.
    fn within(&self, part: usize, span: &Range<usize>) -> Range<usize> {
        let nested = self.nested.as_ref().map_or(1, |nested| nested.block);
        let each = [2, self.block, self.block * nested][part.min(2)];
        groups(span, each)
    }

    /// The scale of a block, in areas that begin with some blocks.
    #[inline(always)]
    fn scale(&self, block: usize, parts: &[Stored<'_>], first: [usize; 2]) -> f32 {
        let at = block - first[0];
        match &self.nested {
            None => Scale::F32.at(parts[1].bytes, at),
            Some(nested) => {
                let absmax = Scale::F32.at(parts[2].bytes, block / nested.block - first[1]);
                nested.table[usize::from(parts[1].bytes[at])] * absmax + nested.offset
            }
        }
    }
}

impl Areas for FourBits {
    fn block(&self) -> [usize; 2] {
        [1, 1]
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        [0..1, self.within(part, &flat(self.columns, rows, columns))]
    }
}

impl Decode for FourBits {
    #[inline(always)]
    fn decode<V: Vectors>(&self, vectors: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let span = flat(self.columns, &rows, &columns);
        let first = [1, 2].map(|part| self.within(part, &span).start);
        for (row, line) in rows.zip(out.chunks_exact_mut(columns.len())) {
            let (mut at, end) = (
                row * self.columns + columns.start,
                row * self.columns + columns.end,
            );
            let mut rest = line;
            while at < end {
                let block = at / self.block;
                let stop = ((block + 1) * self.block).min(end);
                let (line, after) = rest.split_at_mut(stop - at);
                let codes = &parts[0].bytes[at / 2 - span.start / 2..];
                scaled::<V, true>(
                    vectors,
                    &self.table,
                    codes,
                    at % 2,
                    self.scale(block, parts, first),
                    line,
                );
                (rest, at) = (after, stop);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    #[test]
    fn four_bits_are_the_same_numbers_on_every_instruction_set() {
        let nested = || Nested {
            table: (0..256).map(|at| at as f32 * 0.01).collect(),
            block: 4,
            offset: 0.3,
        };
        for (nested, sizes) in [(None, &[1, 4][..]), (Some(nested()), &[1, 1, 4])] {
            let code = FourBits {
                columns: 131,
                block: 64,
                table: std::array::from_fn(|at| at as f32 * 0.11 - 0.9),
                nested,
            };
            assert_alike(&code, [5, 131], sizes);
        }
    }
}
