//! `quant_method: modelopt`: NVFP4 and fp8 as NVIDIA's Model Optimizer exports them.
//!
//! NVFP4: `M.weight` `[out, in / 2]`, `M.weight_scale` (E4M3) `[out, in / 16]`, and `M.weight_scale_2`, which
//! multiplies. Fp8: `M.weight` (E4M3), `M.weight_scale` one in all or one a row. MXFP8: the same with `M.weight_scale` (U8)
//! `[out, in / 32]`, powers of two. Which of them a module has shows on its
//! tensors; lists of modules are often wrong. Older exports say all of this in `hf_quant_config.json` alone.

use serde_json::{Map, Value};

use super::bytes::{self, Blocks, Scales};
use super::code::{Coded, Found, Keys, UnknownCode};
use super::declared::{Declared, Trouble, found};
use super::fp4::{self, Fp4Parts, Global};
use super::tensors::Tensors;
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::tensors::TensorInfo;

/// Keys that are known; what is not read says nothing of the numbers of the weights.
const KEYS: &[&str] = &[
    "config_groups",
    "exclude_modules",
    "group_size",
    "has_zero_point",
    "ignore",
    "kv_cache_quant_algo",
    "kv_cache_scheme",
    "pre_quant_scale",
    "producer",
    "quant_algo",
    "quant_method",
    "quantized_layers",
];

/// What is known to store its weights as one of the two.
const ALGORITHMS: &[&str] = &[
    "FP8",
    "FP8_PER_CHANNEL_PER_TOKEN",
    "MIXED_PRECISION",
    "MXFP8",
    "NVFP4",
    "W4A16_NVFP4",
];

#[derive(Debug)]
pub(super) struct ModelOpt;

impl ModelOpt {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.one_of("quant_algo", ALGORITHMS, "fp8, MXFP8 and NVFP4 are read")?;
        keys.number("group_size", &[16, 32], "groups of 16 and 32 are read")?;
        keys.off("has_zero_point", "zero points are not read with this code")?;
        keys.off("pre_quant_scale", "scaled inputs are not read")?;
        Ok(Self)
    }
}

impl Declared for ModelOpt {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let beside = |end: &str| format!("{}{end}", tensor.name);
        let is_fp4 = matches!(tensor.dtype, Dtype::U8 | Dtype::F4);
        let is_fp8 = tensor.dtype == Dtype::F8E4M3 && !tensor.name.ends_with("_scale");
        let coded = || -> Result<Coded, Trouble> {
            let codes = tensors.need(&tensor.name)?;
            let scales = tensors.need(&beside("_scale"))?;
            if is_fp8 {
                // Powers of two are those of 32 columns.
                let is_power = matches!(scales.1.dtype, Dtype::U8 | Dtype::F8E8M0);
                let scales = Scales {
                    tensor: scales,
                    zeros: None,
                    blocks: if is_power {
                        Blocks::Of([1, 32])
                    } else {
                        Blocks::ByShape
                    },
                    factor: 1.0,
                };
                return Ok(bytes::coded(codes, Some(scales))?);
            }
            let global = tensors.need(&beside("_scale_2"))?;
            Ok(fp4::coded(&Fp4Parts {
                codes,
                scales,
                global: Some((global, Global::Multiplies)),
                run: 16,
            })?)
        };
        if is_fp8 || (is_fp4 && tensor.name.ends_with("weight")) {
            found(&tensor.name, coded())
        } else {
            Ok(None)
        }
    }

    fn rounds_inputs(&self) -> bool {
        true
    }
}
