//! optimum-quanto: integers of 8, 4 and 2 bits and floats of 8, as the library saves models
//! (`QuantizedModelForCausalLM`). `quanto_qmap.json` says of every module what its weights are.
//!
//! 8 bits: `M.weight._data` (I8, E4M3, E5M2) `[out, in]` and `M.weight._scale`, one a row; a number is `code * scale`.
//! Fewer: `M.weight._data._data` has the codes of the weight seen as `[groups, group]`, packed down its rows, the first
//! part of them in the low bits; `M.weight._scale` and `M.weight._shift` have a number a group. A number is
//! `code * scale - shift`. How many columns the weight has is not in the files: it is the model's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::bytes::{self, Blocks, Scales};
use super::code::{Coded, Found, Keys, UnknownCode};
use super::declared::{Declared, Trouble, found};
use super::planes::{Meaning, Planes, Sharing};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, matrix, of_type, seen, structure};
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::tensors::TensorInfo;

/// How the names of codes end, behind that of the weight.
const PACKED: &str = "._data._data";
const BYTES: &str = "._data";

#[derive(Clone, Debug)]
pub(super) struct Quanto {
    /// What the weights of every module are.
    weights: BTreeMap<String, Weights>,
    rounds_inputs: bool,
}

/// A `qtype` of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weights {
    Plain,
    Eight,
    /// Fewer than 8 bits.
    Bits(u32),
}

impl Weights {
    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "none" => Some(Self::Plain),
            "qint8" | "qfloat8" | "qfloat8_e4m3fn" | "qfloat8_e5m2" => Some(Self::Eight),
            "qint4" => Some(Self::Bits(4)),
            "qint2" => Some(Self::Bits(2)),
            _ => None,
        }
    }
}

impl Quanto {
    /// Reads the map of modules.
    pub fn read(map: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let mut all = Self {
            weights: BTreeMap::new(),
            rounds_inputs: false,
        };
        for (module, said) in map.iter().filter(|(key, _)| *key != "quant_method") {
            let Some(said) = said.as_object() else {
                let reason = "weights are quantised so while they are loaded, which is not done here: what optimum-quanto \
                              itself has saved, with `quanto_qmap.json`, is read";
                return Err(Keys::unknown(
                    module,
                    map.get(module).unwrap_or(&Value::Null),
                    reason,
                ));
            };
            Keys(said).only(&["activations", "weights"])?;
            let weights = said.get("weights").unwrap_or(&Value::Null);
            let reason = "qint8, qint4, qint2, qfloat8_e4m3fn and qfloat8_e5m2 are read";
            let known = Weights::read(weights);
            let known = known.ok_or_else(|| Keys::unknown(module, weights, reason))?;
            all.weights.insert(module.clone(), known);
            let activations = said.get("activations").and_then(Value::as_str);
            all.rounds_inputs |= activations.is_some_and(|activations| activations != "none");
        }
        Ok(all)
    }

    /// What the map says of the module of a weight.
    fn of_module(&self, weight: &str, codes: &TensorInfo) -> Result<Weights, Trouble> {
        let module = weight.strip_suffix(".weight").unwrap_or(weight);
        let known = self.weights.get(module).copied();
        let reason = || format!("`quanto_qmap.json` does not say how `{module}` is coded");
        known.ok_or_else(|| structure(codes, reason()).into())
    }

    fn bytes(
        &self,
        weight: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        if self.of_module(weight, codes.1)? != Weights::Eight {
            let reason = "`quanto_qmap.json` says that its module has no weights of 8 bits";
            return Err(structure(codes.1, reason).into());
        }
        let scales = Scales {
            tensor: tensors.need(&format!("{weight}._scale"))?,
            zeros: None,
            blocks: Blocks::ByShape,
            factor: 1.0,
        };
        Ok(Coded {
            linear: true,
            ..bytes::coded(codes, Some(scales))?
        })
    }

    fn packed(
        &self,
        weight: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let Weights::Bits(bits) = self.of_module(weight, codes.1)? else {
            let reason = "`quanto_qmap.json` says that its module has no weights of 2 or 4 bits";
            return Err(structure(codes.1, reason).into());
        };
        let scales = tensors.need(&format!("{weight}._scale"))?;
        let shifts = tensors.need(&format!("{weight}._shift"))?;
        let scale = Scale::of_floats(scales.1)?;
        let groups = scales.1.elements() as usize;
        of_type(codes.1, Dtype::U8)?;
        if (shifts.1.dtype, &shifts.1.shape) != (scales.1.dtype, &scales.1.shape) {
            let reason = format!("a {} for each of {groups} scales is wanted", scales.1.dtype);
            return Err(structure(shifts.1, reason).into());
        }
        let per_byte = 8 / bits;
        let [stored, group] = matrix(codes.1)?;
        if group == 0 || stored != groups.div_ceil(per_byte as usize) {
            let reason = format!("{groups} groups of codes of {bits} bits are wanted");
            return Err(structure(codes.1, reason).into());
        }
        let count = groups.saturating_mul(group);
        let columns = tensors.widths.get(weight).filter(|&columns| {
            columns > 0 && columns.is_multiple_of(group) && count.is_multiple_of(columns)
        });
        let columns = columns.ok_or_else(|| {
            let reason =
                format!("the model has no weight `{weight}` of {groups} groups of {group}");
            structure(codes.1, reason)
        })?;
        let plane = stored * group;
        let mut parts = vec![seen(codes, [1, plane]); per_byte as usize];
        parts.extend([scales, shifts].map(|numbers| seen(numbers, [1, groups])));
        let code = Arc::new(Planes {
            columns,
            plane,
            bits,
            shifts: (0..per_byte).map(|at| at * bits).collect(),
            word: 1,
            scale,
            sharing: Sharing::Run(group),
            meaning: Meaning::Less,
        });
        Ok(Coded {
            linear: true,
            ..Coded::new([count / columns, columns], parts, code)
        })
    }
}

impl Declared for Quanto {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let codes = || tensors.need(&tensor.name).map_err(Trouble::from);
        if let Some(weight) = tensor.name.strip_suffix(PACKED) {
            let coded = codes().and_then(|codes| self.packed(weight, codes, tensors));
            return found(weight, coded);
        }
        let Some(weight) = tensor.name.strip_suffix(BYTES) else {
            return Ok(None);
        };
        let coded = codes().and_then(|codes| self.bytes(weight, codes, tensors));
        found(weight, coded)
    }

    fn rounds_inputs(&self) -> bool {
        self.rounds_inputs
    }

    fn needs_widths(&self) -> bool {
        true
    }
}
