//! `quant_method: bitnet`: weights of -1, 0 and 1.
//!
//! `M.weight` (U8) `[out / 4, in]` has four rows in the bits of one, a quarter of the matrix apart, the first in the
//! lowest; a number is the code less one. `M.weight_scale` is one number, by which the outcome of the product is divided
//! (`linear_class: bitlinear`) or multiplied (`autobitlinear`). That the inputs of the product are rounded to 8 bits is
//! part of the model, not of a kernel: the weight was trained so.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::code::{Coded, Keys, UnknownCode};
use super::declared::{OfModules, Trouble};
use super::planes::{Meaning, Planes, Sharing};
use super::scale::Scale;
use super::tensors::{ONE_SCALE, Placed, Tensors, list, matrix, seen};
use crate::dtype::Dtype;
use crate::tensors::TensorInfo;

#[derive(Clone, Copy, Debug)]
pub(super) struct BitNet {
    meaning: Meaning,
}

impl BitNet {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(&[
            "linear_class",
            "modules_to_not_convert",
            "quant_method",
            "quantization_mode",
            "rms_norm_eps",
            "use_rms_norm",
        ])?;
        keys.names("modules_to_not_convert")?;
        let reason = "`bitlinear` and `autobitlinear` are read";
        keys.one_of("linear_class", &["bitlinear", "autobitlinear"], reason)?;
        let reason = "weights that are rounded while the model runs are not read, packed ones are (`offline`)";
        keys.one_of("quantization_mode", &["offline"], reason)?;
        keys.off("use_rms_norm", "norms within linear modules are not read")?;
        let is_auto = config.get("linear_class").and_then(Value::as_str) == Some("autobitlinear");
        Ok(Self {
            meaning: if is_auto {
                Meaning::Ternary
            } else {
                Meaning::TernaryOver
            },
        })
    }
}

impl OfModules for BitNet {
    const CODES: &'static str = ".weight";

    fn is_coded(&self, tensor: &TensorInfo) -> bool {
        tensor.dtype == Dtype::U8
    }

    fn coded(
        &self,
        module: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let [stored, columns] = matrix(codes.1)?;
        let scale = tensors.need(&format!("{module}.weight_scale"))?;
        let code = Arc::new(Planes {
            columns,
            plane: stored.saturating_mul(columns).max(1),
            bits: 2,
            shifts: [0, 2, 4, 6].into(),
            word: 1,
            scale: Scale::of_floats(scale.1)?,
            sharing: Sharing::All,
            meaning: self.meaning,
        });
        let scale = list(scale, 1, || ONE_SCALE.to_owned())?;
        let plane = seen(codes, [1, stored.saturating_mul(columns)]);
        let shape = [stored.saturating_mul(4), columns];
        Ok(Coded {
            linear: true,
            ..Coded::new(shape, [plane, plane, plane, plane, scale], code)
        })
    }
}
