//! `quant_method: compressed-tensors`: what llm-compressor writes, a format for every group of modules.
//!
//! | format | tensors of a module `M` |
//! | --- | --- |
//! | pack-quantized | `weight_packed` (I32: codes of 1 to 8 bits along the rows, counted from the middle), `weight_scale`, `weight_zero_point` (packed **down** the rows), `weight_shape`, `weight_g_idx` (−1: none) |
//! | int-, float-, naive-quantized | `weight` (I8, E4M3), `weight_scale` one in all, a row, a group or a block, `weight_zero_point` |
//! | nvfp4-pack-quantized | `weight_packed` (U8), `weight_scale` (E4M3), `weight_global_scale`, which **divides** |
//! | mxfp4-pack-quantized | `weight_packed` (U8), `weight_scale` (E8M0) |
//! | mxfp8-quantized | `weight` (E4M3), `weight_scale` (E8M0, U8) of 32 columns |
//!
//! Which of them a module has shows on its tensors; of the groups of the configuration those count whose bits, runs and
//! blocks fit them. Transforms change the forward pass and are refused, as are codes with gaps (2:4).

use std::sync::Arc;

use serde_json::{Map, Value};

use super::bytes::{self, Blocks, Scales};
use super::code::{Coded, Found, Keys, UnknownCode};
use super::declared::{Declared, Trouble, found};
use super::fp4::{self, Fp4Parts, Global};
use super::packed::{Packed, Zero};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, matrices, mistyped, of_type, part, seen, structure};
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::tensors::TensorInfo;

/// Keys that are known.
const KEYS: &[&str] = &[
    "config_groups",
    "format",
    "global_compression_ratio",
    "ignore",
    "kv_cache_scheme",
    "moe_sparsity_config",
    "quant_method",
    "quantization_status",
    "run_compressed",
    "sparsity_config",
    "transform_config",
    "version",
];

/// Formats that are read.
const FORMATS: &[&str] = &[
    "dense",
    "float-quantized",
    "int-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "pack-quantized",
];

/// What a group says of the weights of its modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheme {
    bits: u32,
    /// Rows and columns that share a scale; `None`: all.
    block: [Option<usize>; 2],
}

#[derive(Debug)]
pub(super) struct CompressedTensors {
    schemes: Vec<Scheme>,
    rounds_inputs: bool,
}

impl CompressedTensors {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.one_of("format", FORMATS, "this format is not read")?;
        keys.names("ignore")?;
        let statuses = &["compressed", "frozen"];
        keys.one_of(
            "quantization_status",
            statuses,
            "compressed weights are read",
        )?;
        let is_empty =
            |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if let Some(transforms) = config.get("transform_config") {
            let groups = transforms.get("config_groups").unwrap_or(transforms);
            if !is_empty(groups) {
                let reason = "transforms change what the layers compute and are not read";
                return Err(Keys::unknown("transform_config", transforms, reason));
            }
        }
        if let Some(sparse) = config.get("sparsity_config") {
            let format = sparse.get("format").and_then(Value::as_str);
            if !is_empty(sparse) && format != Some("dense") {
                let reason = "weights that leave zeros out are not read";
                return Err(Keys::unknown("sparsity_config", sparse, reason));
            }
        }
        let groups = config.get("config_groups").and_then(Value::as_object);
        let mut schemes = Vec::new();
        let rounds = |group: &Value| {
            let inputs = group.get("input_activations");
            inputs.is_some_and(|inputs| !inputs.is_null())
        };
        let rounds_inputs = groups.is_some_and(|groups| groups.values().any(rounds));
        for (name, group) in groups.into_iter().flatten() {
            if let Some(format) = group.get("format").filter(|format| !format.is_null())
                && !format
                    .as_str()
                    .is_some_and(|format| FORMATS.contains(&format))
            {
                let key = format!("config_groups.{name}.format");
                return Err(Keys::unknown(&key, format, "this format is not read"));
            }
            if let Some(weights) = group.get("weights").filter(|weights| !weights.is_null()) {
                let scheme = scheme_of(weights);
                let scheme = scheme.ok_or_else(|| {
                    let key = format!("config_groups.{name}.weights");
                    let reason = "`num_bits` of 1 to 8 and a known `strategy` are wanted";
                    Keys::unknown(&key, weights, reason)
                })?;
                if !schemes.contains(&scheme) {
                    schemes.push(scheme);
                }
            }
        }
        Ok(Self {
            schemes,
            rounds_inputs,
        })
    }

    /// The one scheme that fits.
    fn scheme(
        &self,
        tensor: &TensorInfo,
        fits: impl Fn(&Scheme) -> bool,
    ) -> Result<Scheme, Trouble> {
        let fitting: Vec<Scheme> = self.schemes.iter().copied().filter(fits).collect();
        match fitting[..] {
            [scheme] => Ok(scheme),
            [] => {
                let reason = "no group of `config_groups` has such bits, groups or blocks";
                Err(structure(tensor, reason).into())
            }
            _ => {
                let reason = "several groups of `config_groups` could be meant";
                Err(structure(tensor, reason).into())
            }
        }
    }

    fn integers(
        &self,
        module: &str,
        words: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let beside = |end: &str| format!("{module}.weight_{end}");
        let scales = tensors.need(&beside("scale"))?;
        let (shape_at, shape) = tensors.need(&beside("shape"))?;
        let shape = sizes(shape.dtype, &tensors.read(shape)?);
        let Some((leading, &[rows, columns])) = shape.as_slice().split_last_chunk() else {
            return Err(structure(words.1, "`weight_shape` of a matrix is wanted").into());
        };
        let width = |bits: u32| columns.saturating_mul(bits as usize).div_ceil(32);
        let runs_of = |scheme: &Scheme| columns.div_ceil(scheme.block[1].unwrap_or(columns).max(1));
        let (&[.., along], &[.., runs]) = (&*words.1.shape, &*scales.1.shape) else {
            return Err(structure(scales.1, "scales of groups are wanted").into());
        };
        let fits = |scheme: &Scheme| width(scheme.bits) == along && runs_of(scheme) == runs;
        let scheme = self.scheme(words.1, fits)?;
        let scale = Scale::of_tensor(scales.1)?;
        let mut parts = vec![part(words, leading, &[rows, along], [rows, along])?];
        let mut ignored = vec![shape_at];
        // One scale for a whole matrix stands in a single row.
        if scales.1.elements() != (rows * runs * leading.iter().product::<usize>()) as u64 {
            return Err(structure(scales.1, format!("{rows} x {runs} scales are wanted")).into());
        }
        parts.push(seen(scales, [rows, runs]));
        let mut zero = Zero::Middle;
        if let Some(zeros) = tensors.get(&beside("zero_point")) {
            let down = rows.saturating_mul(scheme.bits as usize).div_ceil(32);
            zero = match zeros.1.dtype {
                Dtype::I32 => Zero::Down,
                Dtype::I8 => Zero::Bytes,
                _ => return Err(mistyped(zeros.1, "I32 or I8").into()),
            };
            let sides = [if zero == Zero::Down { down } else { rows }, runs];
            parts.push(part(zeros, leading, &sides, sides)?);
        }
        let mut has_order = false;
        if let Some(order) = tensors.get(&beside("g_idx")) {
            let as_part = part(order, &[], &[columns], [1, columns])?;
            of_type(order.1, Dtype::I32)?;
            // All -1: there is none.
            has_order = tensors.read(order.1)?.iter().any(|&byte| byte != 0xff);
            if has_order {
                parts.push(as_part);
            } else {
                ignored.push(order.0);
            }
        }
        let code = Packed {
            bits: scheme.bits,
            run: scheme.block[1].unwrap_or(columns).max(1),
            runs,
            scale,
            zero,
            has_order,
        };
        Ok(Coded {
            beside: ignored.into(),
            ..Coded::new(&*shape, parts, Arc::new(code))
        })
    }

    fn eight_bits(&self, codes: Placed<'_>, tensors: Tensors<'_>) -> Result<Coded, Trouble> {
        let beside = |end: &str| format!("{}_{end}", codes.1.name);
        let scales = tensors.need(&beside("scale"))?;
        let of = |blocks: Blocks| {
            let zeros = tensors.get(&beside("zero_point"));
            let zeros = zeros.filter(|(_, zeros)| zeros.dtype == codes.1.dtype);
            bytes::coded(
                codes,
                Some(Scales {
                    tensor: scales,
                    zeros,
                    blocks,
                    factor: 1.0,
                }),
            )
        };
        let (_, [rows, columns]) = matrices(codes.1)?;
        if let Ok(coded) = of(Blocks::ByShape) {
            return Ok(coded);
        }
        let block = |scheme: &Scheme| {
            let [high, wide] = scheme.block;
            Blocks::Of([high.unwrap_or(rows).max(1), wide.unwrap_or(columns).max(1)])
        };
        let scheme = self.scheme(scales.1, |scheme| of(block(scheme)).is_ok())?;
        Ok(of(block(&scheme))?)
    }
}

/// Bits and blocks of weights, `None` where they are not known.
fn scheme_of(weights: &Value) -> Option<Scheme> {
    let bits = weights.get("num_bits").map_or(Some(8), Value::as_u64)?;
    let bits = u32::try_from(bits)
        .ok()
        .filter(|bits| (1..=8).contains(bits))?;
    let size = |value: &Value| {
        usize::try_from(value.as_u64()?)
            .ok()
            .filter(|&size| size > 0)
    };
    let group = weights.get("group_size").and_then(size);
    let strategy = weights.get("strategy").and_then(Value::as_str);
    let block = match strategy {
        Some("tensor") => [None, None],
        Some("group" | "tensor_group") => [Some(1), Some(group?)],
        Some("block") => match weights.get("block_structure")?.as_array()?.as_slice() {
            [high, wide] => [Some(size(high)?), Some(size(wide)?)],
            _ => return None,
        },
        Some("channel") => [Some(1), None],
        None => [Some(1), group],
        Some(_) => return None,
    };
    Some(Scheme { bits, block })
}

/// Small whole numbers.
fn sizes(dtype: Dtype, bytes: &[u8]) -> Vec<usize> {
    let sizes: Vec<usize> = match dtype {
        Dtype::I64 => {
            let numbers = bytes.as_chunks().0.iter();
            let sizes = numbers.map(|bytes| usize::try_from(i64::from_le_bytes(*bytes)));
            sizes.map(Result::unwrap_or_default).collect()
        }
        Dtype::I32 => {
            let numbers = bytes.as_chunks().0.iter();
            let sizes = numbers.map(|bytes| usize::try_from(i32::from_le_bytes(*bytes)));
            sizes.map(Result::unwrap_or_default).collect()
        }
        _ => Vec::new(),
    };
    // More than there can be is nothing.
    let all = sizes
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size));
    if all.is_some() { sizes } else { Vec::new() }
}

impl Declared for CompressedTensors {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let need = || Ok(tensors.need(&tensor.name)?);
        if let Some(module) = tensor.name.strip_suffix(".weight_packed") {
            let coded = match tensor.dtype {
                Dtype::I32 => need().and_then(|words| self.integers(module, words, tensors)),
                _ => need().and_then(|codes| floats(module, codes, tensors)),
            };
            return found(&format!("{module}.weight"), coded);
        }
        let is_coded = matches!(tensor.dtype, Dtype::I8 | Dtype::F8E4M3);
        if !is_coded || !tensor.name.ends_with("weight") {
            return Ok(None);
        }
        let coded = need().and_then(|codes| self.eight_bits(codes, tensors));
        found(&tensor.name, coded)
    }

    fn rounds_inputs(&self) -> bool {
        self.rounds_inputs
    }
}

/// Floats of 4 bits.
fn floats(module: &str, codes: Placed<'_>, tensors: Tensors<'_>) -> Result<Coded, Trouble> {
    let scales = tensors.need(&format!("{module}.weight_scale"))?;
    let is_nvfp4 = scales.1.dtype == Dtype::F8E4M3;
    let global = if is_nvfp4 {
        let global = tensors.need(&format!("{module}.weight_global_scale"))?;
        Some((global, Global::Divides))
    } else {
        None
    };
    Ok(fp4::coded(&Fp4Parts {
        codes,
        scales,
        global,
        run: if is_nvfp4 { 16 } else { 32 },
    })?)
}
