//! `quant_method: fp8` and `fbgemm_fp8`: floats of 8 bits (E4M3 or E5M2) with a scale a block, a row or a matrix, as
//! DeepSeek-V3, Qwen3, Llama and others are published.
//!
//! `NAME` is a matrix `[rows, columns]` of codes, `NAME_scale_inv` its scales: one a block of `weight_block_size`, the
//! last ones of narrower blocks, or one in all or one a row where that is `null`. Other writers call them `NAME_scale`,
//! and then they are one in all, one a row or one a column. A number is the product of the two, in f32 (where the
//! scale's name says inverse, it multiplies too). Where a block begins follows from `weight_block_size`, never from the
//! shapes: 576 rows in blocks of 128 have five rows of scales, the last for 64 rows. A scale is a float, or a power of
//! two (E8M0, or the same bits as a `U8`). DeepSeek-V4 calls the scales of `M.weight` `M.scale`, Mistral
//! `M.qscale_weight`; with `expert_dtype: fp4` experts are two floats of 4 bits in an `I8`, with a power of two for 32 columns. `modules_to_not_convert` and its like are not needed: what has a scale is
//! coded, what has none is plain. Scales of activations are approximations of a kernel and are left out.

use serde_json::{Map, Value};

use super::bytes::{self, Blocks, Scales};
use super::code::{Coded, Found, Keys, UnknownCode};
use super::declared::{Declared, Trouble, found};
use super::fp4::{self, Fp4Parts};
use super::tensors::{Placed, Tensors};
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// Blocks where the configuration does not name them.
const BLOCK: [usize; 2] = [128, 128];

/// Keys of the configuration that are known; what is not checked says nothing of the numbers.
const KEYS: &[&str] = &[
    "activation_scale_ub",
    "activation_scheme",
    "dequantize",
    "expert_dtype",
    "fmt",
    "ignored_layers",
    "kv_cache_scheme",
    "modules_to_convert",
    "modules_to_not_convert",
    "quant_method",
    "scale_fmt",
    "weight_block_size",
];

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp8 {
    blocks: Blocks,
}

impl Fp8 {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.one_of("fmt", &["e4m3", "e5m2"], "`e4m3` and `e5m2` are read")?;
        keys.one_of("expert_dtype", &["fp8", "fp4"], "`fp8` and `fp4` are read")?;
        keys.one_of(
            "activation_scheme",
            &["dynamic", "static"],
            "`dynamic` and `static` are known",
        )?;
        keys.one_of(
            "scale_fmt",
            &["float", "ue8m0"],
            "`float` and `ue8m0` are known",
        )?;
        for list in [
            "modules_to_not_convert",
            "modules_to_convert",
            "ignored_layers",
        ] {
            keys.names(list)?;
        }
        let blocks = match config.get("weight_block_size") {
            None => Blocks::Of(BLOCK),
            Some(Value::Null) => Blocks::ByShape,
            Some(size) => Blocks::Of(block_of(size)?),
        };
        Ok(Self { blocks })
    }

    /// The scales of a tensor.
    fn scales<'c>(
        self,
        tensor: &TensorInfo,
        tensors: Tensors<'c>,
    ) -> Result<Scales<'c>, LeafProblem> {
        let beside = |end: &str| format!("{}{end}", tensor.name);
        if let Some(scales) = other_name(tensor, tensors) {
            return Ok(Scales {
                tensor: scales,
                zeros: None,
                blocks: self.blocks,
                factor: 1.0,
            });
        }
        let by_shape = tensors.get(&beside("_scale"));
        let (scales, blocks) = match (tensors.get(&beside("_scale_inv")), by_shape) {
            (Some(scales), None) => (scales, self.blocks),
            (None, Some(scales)) => (scales, Blocks::ByShape),
            (None, None) => (tensors.need(&beside("_scale_inv"))?, self.blocks),
            (Some(_), Some(_)) => {
                let names = ["_scale_inv", "_scale"].map(beside).into();
                return Err(LeafProblem::Ambiguous { names });
            }
        };
        Ok(Scales {
            tensor: scales,
            zeros: None,
            blocks,
            factor: 1.0,
        })
    }
}

impl Declared for Fp8 {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        if tensor.dtype == Dtype::I8 && tensor.name.ends_with(".weight") {
            return found(&tensor.name, four_bits(tensor, tensors));
        }
        if !matches!(tensor.dtype, Dtype::F8E4M3 | Dtype::F8E5M2) {
            return Ok(None);
        }
        let coded = || {
            let scales = self.scales(tensor, tensors)?;
            Ok(bytes::coded(tensors.need(&tensor.name)?, Some(scales))?)
        };
        found(&tensor.name, coded())
    }

    fn rounds_inputs(&self) -> bool {
        true
    }
}

/// The scales of a module that calls them so: DeepSeek-V4 and Mistral. Beside scales under the usual name they are
/// something else.
fn other_name<'t>(tensor: &TensorInfo, tensors: Tensors<'t>) -> Option<Placed<'t>> {
    let module = tensor.name.strip_suffix(".weight")?;
    let usual = ["_scale_inv", "_scale"].map(|end| format!("{}{end}", tensor.name));
    if usual.iter().any(|name| tensors.get(name).is_some()) {
        return None;
    }
    let names = ["scale", "qscale_weight"].map(|end| format!("{module}.{end}"));
    names.iter().find_map(|name| tensors.get(name))
}

/// Floats of 4 bits among those of 8 (`expert_dtype: fp4`): two in an `I8`, a power of two for 32 columns.
fn four_bits(tensor: &TensorInfo, tensors: Tensors<'_>) -> Result<Coded, Trouble> {
    let scales = match other_name(tensor, tensors) {
        Some(scales) => scales,
        None => tensors.need(&format!("{}_scale_inv", tensor.name))?,
    };
    let parts = Fp4Parts {
        codes: tensors.need(&tensor.name)?,
        scales,
        global: None,
        run: 32,
    };
    Ok(fp4::coded(&parts)?)
}

/// Floats of 8 bits that were cast, with no scales beside them and no word of them in the configuration.
#[derive(Debug)]
pub(super) struct Cast;

impl Declared for Cast {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let is_float = matches!(tensor.dtype, Dtype::F8E4M3 | Dtype::F8E5M2);
        let ends = ["_scale_inv", "_scale"];
        let is_scaled = |end| tensors.get(&format!("{}{end}", tensor.name)).is_some();
        if !is_float || tensor.shape.len() < 2 || ends.into_iter().any(is_scaled) {
            return Ok(None);
        }
        let coded = || Ok(bytes::coded(tensors.need(&tensor.name)?, None)?);
        found(&tensor.name, coded())
    }
}

fn block_of(size: &Value) -> Result<[usize; 2], UnknownCode> {
    let side = |value: &Value| {
        usize::try_from(value.as_u64()?)
            .ok()
            .filter(|&side| side > 0)
    };
    let sides: Option<Vec<usize>> = size
        .as_array()
        .and_then(|sides| sides.iter().map(side).collect());
    match sides.as_deref() {
        Some(&[high, wide]) => Ok([high, wide]),
        _ => Err(Keys::unknown(
            "weight_block_size",
            size,
            "two numbers of at least 1 are wanted",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let read = |text: &str| {
            let config: Value = serde_json::from_str(text).unwrap();
            Fp8::read(config.as_object().unwrap()).map(|declared| match declared.blocks {
                Blocks::Of(block) => Some(block),
                Blocks::ByShape => None,
            })
        };
        assert_eq!(read("{}").unwrap(), Some([128, 128]));
        assert_eq!(read(r#"{"weight_block_size": null}"#).unwrap(), None);
        assert_eq!(
            read(r#"{"weight_block_size": [1, 64], "fmt": "e4m3"}"#).unwrap(),
            Some([1, 64])
        );
        for (text, key) in [
            (r#"{"weight_block_size": [0, 64]}"#, "weight_block_size"),
            (r#"{"weight_block_size": [64]}"#, "weight_block_size"),
            (r#"{"fmt": "e4m3fnuz"}"#, "fmt"),
            (r#"{"expert_dtype": "fp6"}"#, "expert_dtype"),
            (
                r#"{"modules_to_not_convert": "lm_head"}"#,
                "modules_to_not_convert",
            ),
            (r#"{"bits": 8}"#, "bits"),
        ] {
            assert_eq!(read(text).unwrap_err().key, key);
        }
    }
}
