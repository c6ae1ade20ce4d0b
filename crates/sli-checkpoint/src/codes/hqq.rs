//! `quant_method: hqq`: integers of 1 to 8 bits with a scale and a fractional zero for a group, as the library HQQ
//! stores its modules.
//!
//! `M.W_q` has the codes of the weight seen as `[groups, group_size]` (`axis` 1) or `[group_size, groups]` (0), packed
//! down the rows of that: the first half of them in the high halves of bytes (4 bits), quarters (2) and eighths (1)
//! likewise, tenths in words of 32 bits (3). `M.scale` and `M.zero` have a number a group; `M.shape`, `M.nbits`,
//! `M.axis` and `M.group_size` say the rest. A number is `(code - zero) * scale`. What else there is beside them
//! (`packing`, `compute_dtype`, ...) follows from these or is a matter of the kernel.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::code::{Coded, Keys, UnknownCode};
use super::declared::{OfModules, Trouble};
use super::planes::{Meaning, Planes, Sharing};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, list, of_type, seen, structure};
use crate::dtype::Dtype;

/// Tensors of a module that say how it is coded or was; all of them are known.
const BESIDE: &[&str] = &[
    "axis",
    "channel_wise",
    "compute_dtype",
    "encoded_state_dict",
    "group_size",
    "nbits",
    "offload_meta",
    "optimize",
    "packing",
    "quant_scale",
    "quant_zero",
    "round_zero",
    "shape",
    "stores_quant_config",
    "unpack_view_dtype",
    "view_as_float",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Hqq;

impl Hqq {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(&["quant_config", "quant_method", "skip_modules"])?;
        keys.names("skip_modules")?;
        Ok(Self)
    }
}

/// A whole number that a small tensor is.
fn number(module: &str, end: &str, tensors: Tensors<'_>) -> Result<i64, Trouble> {
    let (_, info) = tensors.need(&format!("{module}.{end}"))?;
    let bytes = tensors.read(info)?;
    let found = match (info.dtype, &bytes[..]) {
        (Dtype::U8, &[byte]) => Some(i64::from(byte)),
        (Dtype::I32, bytes) => bytes
            .try_into()
            .ok()
            .map(|bytes| i64::from(i32::from_le_bytes(bytes))),
        (Dtype::I64, bytes) => bytes.try_into().ok().map(i64::from_le_bytes),
        _ => None,
    };
    found.ok_or_else(|| structure(info, "one whole number is wanted").into())
}

/// Rows and columns of the weight.
fn shape(module: &str, tensors: Tensors<'_>) -> Result<[usize; 2], Trouble> {
    let (_, info) = tensors.need(&format!("{module}.shape"))?;
    let bytes = tensors.read(info)?;
    let sides = bytes.as_chunks::<8>().0.iter().map(|bytes| {
        let side = usize::try_from(i64::from_le_bytes(*bytes)).ok();
        side.filter(|&side| side > 0)
    });
    let sides: Option<Vec<usize>> = sides.collect();
    match (info.dtype, sides.as_deref()) {
        (Dtype::I64, Some(&[rows, columns])) if rows.checked_mul(columns).is_some() => {
            Ok([rows, columns])
        }
        _ => Err(structure(info, "the two sides of a matrix (I64) are wanted").into()),
    }
}

impl OfModules for Hqq {
    const CODES: &'static str = ".W_q";

    fn coded(
        &self,
        module: &str,
        words: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        for quantised in ["quant_scale", "quant_zero", "view_as_float"] {
            if tensors.get(&format!("{module}.{quantised}")).is_some()
                && number(module, quantised, tensors)? != 0
            {
                let (_, info) = tensors.need(&format!("{module}.{quantised}"))?;
                let reason = "coded scales, and codes that are said to be floats, are not read";
                return Err(structure(info, reason).into());
            }
        }
        let [rows, columns] = shape(module, tensors)?;
        let count = rows * columns;
        let (bits, axis) = (
            number(module, "nbits", tensors)?,
            number(module, "axis", tensors)?,
        );
        let group = usize::try_from(number(module, "group_size", tensors)?).unwrap_or_default();
        if group == 0 || !count.is_multiple_of(group) || !(0..=1).contains(&axis) {
            let (_, info) = tensors.need(&format!("{module}.group_size"))?;
            let reason = format!("{rows} x {columns} numbers do not divide so along axis {axis}");
            return Err(structure(info, reason).into());
        }
        let groups = count / group;
        // The matrix that was packed down its rows.
        let (height, width) = if axis == 1 {
            (groups, group)
        } else {
            (group, groups)
        };
        let (bits, shifts, word): (u32, Vec<u32>, Dtype) = match bits {
            5 | 6 | 8 => (8, vec![0], Dtype::U8),
            4 => (4, vec![4, 0], Dtype::U8),
            2 => (2, vec![6, 4, 2, 0], Dtype::U8),
            1 => (1, (0..8).rev().collect(), Dtype::U8),
            3 => (3, (0..10).rev().map(|at| 3 * at).collect(), Dtype::I32),
            _ => {
                let (_, info) = tensors.need(&format!("{module}.nbits"))?;
                return Err(structure(info, format!("codes of {bits} bits are not read")).into());
            }
        };
        let stored = height.div_ceil(shifts.len());
        let fits = word == Dtype::I32 || height.is_multiple_of(shifts.len());
        of_type(words.1, word)?;
        if !fits || *words.1.shape != [stored, width] {
            let reason = format!("{height} x {width} codes of {bits} bits are {stored} rows");
            return Err(structure(words.1, reason).into());
        }
        let plane = seen(words, [1, stored * width]);
        let mut parts = vec![plane; shifts.len()];
        let scales = tensors.need(&format!("{module}.scale"))?;
        let zeros = tensors.need(&format!("{module}.zero"))?;
        let scale = Scale::of_floats(scales.1)?;
        of_type(zeros.1, scales.1.dtype)?;
        for numbers in [scales, zeros] {
            let wanted = || format!("a number for each of {groups} groups");
            parts.push(list(numbers, groups, wanted)?);
        }
        let beside = BESIDE
            .iter()
            .filter_map(|end| tensors.get(&format!("{module}.{end}")));
        let code = Arc::new(Planes {
            columns,
            plane: stored * width,
            bits,
            shifts: shifts.into(),
            word: plane.element,
            scale,
            sharing: if axis == 1 {
                Sharing::Run(group)
            } else {
                Sharing::Apart(groups)
            },
            meaning: Meaning::FromZero,
        });
        Ok(Coded {
            linear: true,
            beside: beside.map(|(at, _)| at).collect(),
            ..Coded::new([rows, columns], parts, code)
        })
    }
}
