//! `quant_method: torchao`: integers and floats of 8 bits as transformers stores the tensors of torchao in safetensors.
//!
//! `M._weight_qdata` (I8, E4M3) `[out, in]` has the codes, `M._weight_scale` a scale for all, for a row, for a run of
//! columns or for a block, as its shape says, `M._weight_zero_point` (I8) what they count from. A number is
//! `(code - zero point) * scale`. Codes of 4 bits are in the order of a kernel and are not read. Older files hold pickled
//! objects of the library instead of tensors.

use serde_json::{Map, Value};

use super::bytes::{self, Blocks, Scales};
use super::code::{Coded, Found, Keys, UnknownCode};
use super::declared::{Declared, Trouble, of_module};
use super::tensors::{Placed, Tensors, mistyped, structure};
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::tensors::TensorInfo;

/// How the name of codes ends, behind that of the module.
const CODES: &str = "._weight_qdata";

#[derive(Clone, Copy, Debug)]
pub(super) struct TorchAo {
    rounds_inputs: bool,
}

impl TorchAo {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(&[
            "include_input_output_embeddings",
            "modules_to_not_convert",
            "quant_method",
            "quant_type",
            "quant_type_kwargs",
            "untie_embedding_weights",
        ])?;
        keys.names("modules_to_not_convert")?;
        let said = config.get("quant_type").unwrap_or(&Value::Null).to_string();
        Ok(Self {
            rounds_inputs: said.contains("DynamicActivation"),
        })
    }
}

fn coded(module: &str, codes: Placed<'_>, tensors: Tensors<'_>) -> Result<Coded, Trouble> {
    if !matches!(codes.1.dtype, Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2) {
        let wanted = "I8, F8_E4M3 or F8_E5M2: codes of 4 bits are in the order of a kernel";
        return Err(mistyped(codes.1, wanted).into());
    }
    let scales = tensors.need(&format!("{module}._weight_scale"))?;
    let zeros = tensors.get(&format!("{module}._weight_zero_point"));
    let (Some((leading, &[rows, columns])), Some((before, &[high, wide]))) = (
        codes.1.shape.split_last_chunk(),
        scales.1.shape.split_last_chunk(),
    ) else {
        // One scale for all.
        let blocks = Blocks::ByShape;
        return Ok(of(codes, scales, zeros, blocks)?);
    };
    let divides = |count: usize, by: usize| by > 0 && count.is_multiple_of(by);
    if before != leading || !divides(rows, high) || !divides(columns, wide) {
        let reason = format!("scales of blocks that divide {rows} x {columns} numbers are wanted");
        return Err(structure(scales.1, reason).into());
    }
    let block = [rows / high, columns / wide].map(|side| side.max(1));
    Ok(of(codes, scales, zeros, Blocks::Of(block))?)
}

fn of(
    codes: Placed<'_>,
    tensor: Placed<'_>,
    zeros: Option<Placed<'_>>,
    blocks: Blocks,
) -> Result<Coded, crate::problem::LeafProblem> {
    let scales = Scales {
        tensor,
        zeros,
        blocks,
        factor: 1.0,
    };
    bytes::coded(codes, Some(scales))
}

impl Declared for TorchAo {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        of_module(tensor, CODES, tensors, |module, codes| {
            coded(module, codes, tensors)
        })
    }

    fn rounds_inputs(&self) -> bool {
        self.rounds_inputs
    }
}
