//! `quant_method: quark`: what AMD's Quark exports.
//!
//! Fp8 and int8: `M.weight` and `M.weight_scale` (`M.weight_quantizer.scale` in older files), one in all or one a row,
//! and `M.weight_zero_point` (I8) where integers count from one; a number is `(code - zero point) * scale`. MXFP4:
//! `M.weight` (U8) `[out, in / 2]`, the low half first, and `M.weight_scale` (U8) `[out, in / 32]`, powers of two. Which
//! of them a module has shows on its tensors. Integers of fewer bits are in one of several orders that the tensors do not
//! tell apart, and are not read. Scales of inputs, outputs and of keys and values round activations and are left out.

use serde_json::{Map, Value};

use super::bytes::{self, Blocks, Scales};
use super::code::{Coded, Keys, UnknownCode};
use super::declared::{OfModules, Trouble};
use super::fp4::{self, Fp4Parts};
use super::tensors::{Placed, Tensors, mistyped};
use crate::dtype::Dtype;
use crate::tensors::TensorInfo;

/// Keys that are known; what is not checked says nothing of the numbers of the weights.
const KEYS: &[&str] = &[
    "algo_config",
    "exclude",
    "export",
    "global_quant_config",
    "kv_cache_post_rope",
    "kv_cache_quant_config",
    "layer_quant_config",
    "layer_type_quant_config",
    "quant_method",
    "quant_mode",
    "softmax_quant_spec",
    "version",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Quark;

impl Quark {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.names("exclude")?;
        if let Some(Value::Object(export)) = config.get("export") {
            let keys = Keys(export);
            let reason = "weights that were quantised and not stored so are not read";
            keys.one_of("weight_format", &["real_quantized"], reason)?;
        }
        // Rotations change what the layers compute; other algorithms only choose the codes.
        if let Some(algorithms) = config.get("algo_config")
            && algorithms.to_string().contains("rotation")
        {
            let reason = "rotated weights are not read";
            return Err(Keys::unknown("algo_config", algorithms, reason));
        }
        Ok(Self)
    }
}

/// A tensor beside the weight of a module, under its newer or its older name.
fn beside<'t>(module: &str, end: &str, tensors: Tensors<'t>) -> Option<Placed<'t>> {
    let newer = tensors.get(&format!("{module}.weight_{end}"));
    newer.or_else(|| tensors.get(&format!("{module}.weight_quantizer.{end}")))
}

impl OfModules for Quark {
    const CODES: &'static str = ".weight";

    fn is_coded(&self, tensor: &TensorInfo) -> bool {
        tensor.dtype.float().is_none()
    }

    fn coded(
        &self,
        module: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let scales = match beside(module, "scale", tensors) {
            Some(scales) => scales,
            None => tensors.need(&format!("{module}.weight_scale"))?,
        };
        match codes.1.dtype {
            Dtype::U8 => {
                let parts = Fp4Parts {
                    codes,
                    scales,
                    global: None,
                    run: 32,
                };
                Ok(fp4::coded(&parts)?)
            }
            Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2 => {
                let scales = Scales {
                    tensor: scales,
                    zeros: beside(module, "zero_point", tensors),
                    blocks: Blocks::ByShape,
                    factor: 1.0,
                };
                Ok(bytes::coded(codes, Some(scales))?)
            }
            _ => Err(mistyped(codes.1, "F8_E4M3, I8, or U8 of two numbers of 4 bits").into()),
        }
    }

    fn rounds_inputs(&self) -> bool {
        true
    }
}
