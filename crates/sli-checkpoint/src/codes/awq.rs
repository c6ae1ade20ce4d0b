//! `quant_method: awq`, versions `gemm` and `gemv`: integers of 4 bits with a scale and a zero point for a group of input
//! features.
//!
//! `M.qweight` `[in, out / 8]` holds eight columns a word, from the lowest half byte on columns 0, 2, 4, 6, 1, 3, 5 and
//! 7; `M.qzeros` `[groups, out / 8]` likewise, `M.scales` `[groups, out]`. A number is `(code - zero point) * scale`.
//!
//! Version `gemv` stores what the product reads: `M.qweight` `[out, in / 8]` in the order of the columns, `M.scales`
//! `[out, groups]` and `M.qzeros` `[out, groups / 8]`, both with rows that are longer than there are groups. Other
//! versions are other layouts.
//!
//! Where the product behind an activation could not be scaled through a norm, the activation is divided by
//! `ACT.scales`. The weight that it meets is divided here, column by column, which is the same product.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::code::{Code, Coded, Decode, Keys, Part, UnknownCode};
use super::declared::{OfModules, Trouble};
use super::divided::{Axis, Divided};
use super::gptq::Gptq;
use super::grouped::{Grouped, Layout};
use super::packed::{Packed, Zero};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, list, matrix, of_type, part, structure};
use crate::dtype::Dtype;
use crate::problem::LeafProblem;

/// Keys that are known; what is not read says how the codes were found or how they are run.
const KEYS: &[&str] = &[
    "autoround_version",
    "backend",
    "batch_size",
    "bits",
    "block_name_to_quantize",
    "data_type",
    "dataset",
    "desc_act",
    "do_fuse",
    "exllama_config",
    "extra_config",
    "format",
    "fuse_max_seq_len",
    "group_size",
    "iters",
    "low_gpu_mem_usage",
    "modules_to_fuse",
    "modules_to_not_convert",
    "nsamples",
    "packing_format",
    "q_group_size",
    "quant_method",
    "seqlen",
    "sym",
    "version",
    "w_bit",
    "zero_point",
];

/// Modules whose input an activation beside them gives, and what that is called there.
const BEHIND: &[&str] = &["c_proj", "dense_4h_to_h", "down_proj", "fc_out"];
const ACTIVATIONS: &[&str] = &["act", "gelu_impl"];

/// The scales of the activation whose outcome a module gets, if it is scaled.
fn of_activation<'t>(module: &str, tensors: Tensors<'t>) -> Option<Placed<'t>> {
    let (place, own) = module.rsplit_once('.')?;
    let mut names = ACTIVATIONS.iter().filter(|_| BEHIND.contains(&own));
    names.find_map(|activation| tensors.get(&format!("{place}.{activation}.scales")))
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Awq {
    /// Input features that share a scale; `None`: all.
    group: Option<usize>,
    /// Version `gemv`.
    upright: bool,
}

impl Awq {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.names("modules_to_not_convert")?;
        // `auto-round` writes its own version.
        if config.get("quant_method").and_then(Value::as_str) == Some("awq") {
            let reason = "`gemm` and `gemv` are read, the other versions are other layouts";
            keys.one_of("version", &["gemm", "GEMM", "gemv", "GEMV"], reason)?;
        }
        let version = config.get("version").and_then(Value::as_str);
        for key in ["bits", "w_bit"] {
            keys.number(key, &[4], "4 bits are read")?;
        }
        let key = if config.contains_key("q_group_size") {
            "q_group_size"
        } else {
            "group_size"
        };
        Ok(Self {
            group: keys.group(key)?,
            upright: version.is_some_and(|version| version.eq_ignore_ascii_case("gemv")),
        })
    }
}

/// A code, divided where there are divisors of the input features, which go behind its parts.
fn divided(
    code: impl Decode + 'static,
    parts: &mut Vec<Part>,
    features: usize,
    axis: Axis,
    divisors: Option<Placed<'_>>,
) -> Result<Arc<dyn Code>, LeafProblem> {
    let Some(divisors) = divisors else {
        return Ok(Arc::new(code));
    };
    let wanted = || format!("a scale for each of {features} numbers");
    parts.push(list(divisors, features, wanted)?);
    let scale = Scale::of_floats(divisors.1)?;
    Ok(Arc::new(Divided { code, scale, axis }))
}

/// Version `gemv`.
fn upright(
    words: Placed<'_>,
    scales: Placed<'_>,
    zeros: Placed<'_>,
    group: Option<usize>,
    divisors: Option<Placed<'_>>,
) -> Result<Coded, Trouble> {
    let [rows, along] = matrix(words.1)?;
    let ([_, wide], [_, packed]) = (matrix(scales.1)?, matrix(zeros.1)?);
    let columns = along.saturating_mul(8);
    let group = group.unwrap_or(columns).max(1);
    let runs = columns.div_ceil(group);
    if wide < runs || packed.saturating_mul(8) < runs {
        let reason = format!("{columns} input features in groups of {group} have {runs} scales");
        return Err(structure(scales.1, reason).into());
    }
    of_type(words.1, Dtype::I32)?;
    of_type(zeros.1, Dtype::I32)?;
    let mut parts = vec![
        part(words, &[], &[rows, along], [rows, along])?,
        part(scales, &[], &[rows, wide], [rows, wide])?,
        part(zeros, &[], &[rows, packed], [rows, packed])?,
    ];
    let code = Packed {
        bits: 4,
        run: group,
        runs,
        scale: Scale::of_tensor(scales.1)?,
        zero: Zero::Along,
        has_order: false,
    };
    let code = divided(code, &mut parts, columns, Axis::Columns, divisors)?;
    Ok(Coded {
        linear: true,
        ..Coded::new([rows, columns], parts, code)
    })
}

impl OfModules for Awq {
    const CODES: &'static str = Gptq::CODES;

    fn coded(
        &self,
        module: &str,
        words: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let beside = |end: &str| tensors.need(&format!("{module}.{end}"));
        let (scales, zeros) = (beside("scales")?, beside("qzeros")?);
        let [rows, along] = matrix(words.1)?;
        let divisors = of_activation(module, tensors);
        if self.upright {
            return upright(words, scales, zeros, self.group, divisors);
        }
        let (out, group) = (along.saturating_mul(8), self.group.unwrap_or(rows).max(1));
        let groups = rows.div_ceil(group);
        of_type(words.1, Dtype::I32)?;
        of_type(zeros.1, Dtype::I32)?;
        let mut parts = vec![
            part(words, &[], &[rows, along], [rows, along])?,
            part(scales, &[], &[groups, out], [groups, out])?,
            part(zeros, &[], &[groups, along], [groups, along])?,
        ];
        let code = Grouped {
            bits: 4,
            group,
            groups,
            scale: Scale::of_tensor(scales.1)?,
            layout: Layout::Awq,
            has_order: false,
        };
        let code = divided(code, &mut parts, rows, Axis::Rows, divisors)?;
        Ok(Coded {
            turned: true,
            linear: true,
            ..Coded::new([out, rows], parts, code)
        })
    }
}
