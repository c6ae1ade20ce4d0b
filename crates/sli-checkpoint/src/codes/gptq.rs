//! `quant_method: gptq` and `auto-round` in GPTQ's layout: integers of 2, 3, 4 or 8 bits with a scale for a group of
//! input features.
//!
//! `M.qweight` `[in * bits / 32, out]` holds codes down the rows (32 codes of 3 bits in three words), `M.qzeros`
//! `[groups, out * bits / 32]` along the columns, `M.scales` `[groups, out]`; `M.g_idx` says the group of every input
//! feature and is obeyed where it is there. A number is `(code - zero point) * scale`. Files of the first version store
//! a zero point less one, within the bits; some that say so store it as it is, which shows on symmetric codes, whose
//! zero point is the middle. Bits follow from the shapes, groups too where `dynamic` may override the configuration.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::code::{Coded, Keys, UnknownCode};
use super::declared::{OfModules, Trouble};
use super::grouped::{Grouped, Layout, ZeroPoint};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, matrix, of_type, part, structure};
use crate::dtype::Dtype;

/// Keys that are known; what is not read says how the codes were found or how they are run.
const KEYS: &[&str] = &[
    "act_group_aware",
    "autoround_version",
    "backend",
    "batch_size",
    "bits",
    "block_name_to_quantize",
    "cache_block_outputs",
    "checkpoint_format",
    "damp_auto_increment",
    "damp_percent",
    "data_type",
    "dataset",
    "desc_act",
    "disable_exllama",
    "dynamic",
    "exllama_config",
    "extra_config",
    "format",
    "group_size",
    "is_marlin_format",
    "iters",
    "lm_head",
    "low_gpu_mem_usage",
    "max_input_length",
    "meta",
    "model_file_base_name",
    "model_name_or_path",
    "model_seqlen",
    "module_name_preceding_first_block",
    "modules_in_block_to_quantize",
    "mse",
    "nsamples",
    "pack_dtype",
    "pack_impl",
    "packing_format",
    "pad_token_id",
    "quant_method",
    "rotation",
    "seqlen",
    "static_groups",
    "sym",
    "tokenizer",
    "true_sequential",
    "use_cuda_fp16",
    "use_exllama",
    "version",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Gptq {
    bits: Option<u64>,
    /// Input features that share a scale; `None`: all.
    group: Option<usize>,
    /// Modules may have other bits and groups.
    varies: bool,
    zero_point: ZeroPoint,
}

impl Gptq {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        let formats = &["gptq", "gptq_v2"];
        keys.one_of(
            "checkpoint_format",
            formats,
            "`gptq` and `gptq_v2` are read",
        )?;
        keys.one_of("pack_dtype", &["int32"], "`int32` is read")?;
        keys.one_of("rotation", &[], "rotated weights are not read")?;
        keys.one_of("data_type", &["int"], "`int` is read")?;
        let packings = &[
            "auto_round:auto_gptq",
            "auto_gptq",
            "auto_round:gptq",
            "gptq",
        ];
        keys.one_of("packing_format", packings, "GPTQ's and AWQ's are read")?;
        keys.off(
            "is_marlin_format",
            "weights in the order of a processor are not read",
        )?;
        let version = config.get("checkpoint_format").and_then(Value::as_str);
        let is_symmetric = config.get("sym").and_then(Value::as_bool) == Some(true);
        let is_set = |key: &str| {
            let value = config.get(key);
            value.is_some_and(|value| {
                !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty())
            })
        };
        Ok(Self {
            bits: config.get("bits").and_then(Value::as_u64),
            group: keys.group("group_size")?,
            varies: is_set("dynamic") || is_set("extra_config"),
            zero_point: match (version, is_symmetric) {
                (Some("gptq_v2"), _) => ZeroPoint::Same,
                (_, true) => ZeroPoint::OneLessOrMiddle,
                (_, false) => ZeroPoint::OneLess,
            },
        })
    }
}

/// Whether groups follow one another.
fn is_plain(order: &[u8], group: usize) -> bool {
    let (numbers, _) = order.as_chunks::<4>();
    let mut numbers = numbers.iter().enumerate();
    numbers.all(|(at, number)| usize::try_from(i32::from_le_bytes(*number)) == Ok(at / group))
}

impl OfModules for Gptq {
    const CODES: &'static str = ".qweight";

    fn coded(
        &self,
        module: &str,
        words: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let beside = |end: &str| tensors.need(&format!("{module}.{end}"));
        let (scales, zeros) = (beside("scales")?, beside("qzeros")?);
        let ([down, out], [groups, along]) = (matrix(words.1)?, matrix(zeros.1)?);
        let bits = along
            .checked_mul(32)
            .filter(|_| out > 0)
            .map_or(0, |bits| bits / out);
        let is_whole = bits * out == along * 32 && [2, 3, 4, 8].contains(&bits);
        if !is_whole || (!self.varies && self.bits.is_some_and(|said| said != bits as u64)) {
            let reason = format!(
                "with {out} columns it is of {bits} bits; `bits` is {}, of 2, 3, 4 and 8",
                self.bits.unwrap_or_default()
            );
            return Err(structure(zeros.1, reason).into());
        }
        let rows = down.saturating_mul(32) / bits;
        let order = tensors.get(&format!("{module}.g_idx"));
        let group = self.group.unwrap_or(rows).max(1);
        let group = match rows.div_ceil(group) == groups {
            true => group,
            false if self.varies && groups > 0 && rows.is_multiple_of(groups) => rows / groups,
            false => {
                let reason = format!("{rows} input features in groups of {group} are wanted");
                return Err(structure(zeros.1, reason).into());
            }
        };
        of_type(words.1, Dtype::I32)?;
        of_type(zeros.1, Dtype::I32)?;
        let scale = Scale::of_tensor(scales.1)?;
        let mut parts = vec![
            part(words, &[], &[down, out], [down, out])?,
            part(scales, &[], &[groups, out], [groups, out])?,
            part(zeros, &[], &[groups, along], [groups, along])?,
        ];
        let mut ignored = Vec::new();
        let mut has_order = false;
        if let Some(order) = order {
            of_type(order.1, Dtype::I32)?;
            let as_part = part(order, &[], &[rows], [1, rows])?;
            has_order = !is_plain(&tensors.read(order.1)?, group);
            if has_order {
                parts.push(as_part);
            } else {
                ignored.push(order.0);
            }
        }
        let code = Arc::new(Grouped {
            bits: bits as u32,
            group,
            groups,
            scale,
            layout: Layout::Gptq(self.zero_point),
            has_order,
        });
        Ok(Coded {
            turned: true,
            linear: true,
            beside: ignored.into(),
            ..Coded::new([out, rows], parts, code)
        })
    }
}
