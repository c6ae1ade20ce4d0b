//! Codes: how tensors hold numbers that are not floats by themselves.
//!
//! A coded tensor is a matrix (or a stack of them) and the parts that decode it, each a tensor of its own. Which code
//! a tensor has follows from the tensors that are there and from what the files say of themselves
//! (`quantization_config`), never from the type of model. A code is one file here.
//!
//! What is decoded is the number that the file means: scales are widened to f32 first, the product is an f32, and
//! nothing is rounded in between. How products round activations is a matter of kernels and no part of the weights, save
//! where a model was trained so (BitNet).

mod aqlm;
mod awq;
mod bitnet;
mod bits;
mod bitsandbytes;
mod bytes;
mod code;
mod compressed;
mod declared;
mod divided;
mod fp4;
mod fp8;
mod ggml;
mod gptq;
mod grouped;
mod hqq;
mod integers;
mod mlx;
mod modelopt;
mod numbers;
mod packed;
mod planes;
mod quanto;
mod quark;
mod scale;
mod tensors;
mod torchao;
mod widths;

use std::sync::Arc;

use serde_json::{Map, Value};
use sli_spec::Leaf;

pub use code::UnknownCode;
pub(crate) use code::{Coded, Fault, Found, Part, Stored, Wanted};
pub(crate) use tensors::{Holder, Tensors};

use self::declared::Declared;
use self::widths::Widths;
use crate::error::CheckpointError;
use crate::tensors::TensorInfo;

/// The quantised forms that are read: `quant_method`, and what it covers.
pub const CODED_FORMS: &[(&str, &str)] = &[
    ("aqlm", "codebooks of any number and shape, up to 16 bits"),
    ("auto-round", "in the layout of GPTQ or of AWQ"),
    ("awq", "gemm and gemv layouts, 4 bits; scaled activations"),
    (
        "bitnet",
        "packed ternary weights; inputs are rounded to 8 bits, which is part of the model",
    ),
    ("bitsandbytes", "int8, nf4, fp4, double quantised too"),
    (
        "compressed-tensors",
        "packed integers, integers, fp8, NVFP4, MXFP4, MXFP8, and mixtures",
    ),
    ("fbgemm_fp8", "fp8 with a scale a row"),
    (
        "fp8",
        "E4M3 and E5M2, scales a block, a row or a tensor; MXFP4 beside them",
    ),
    ("gptq", "v1 and v2, act-order, 2, 3, 4 and 8 bits"),
    ("hqq", "1, 2, 3, 4 and 8 bits, groups along either axis"),
    (
        "mlx",
        "groups of 2 to 8 bits, MXFP4, NVFP4; experts stacked",
    ),
    ("modelopt", "fp8, MXFP8 and NVFP4"),
    ("mxfp4", "gpt-oss"),
    (
        "quanto",
        "qint8, qint4, qint2 and qfloat8, as optimum-quanto saves them",
    ),
    ("quark", "fp8, int8 and MXFP4"),
    (
        "torchao",
        "int8 and fp8 in safetensors, scales a tensor, a row, a run or a block; `Int4Tensor`",
    ),
];

/// The codes that a model's files say that their tensors have.
#[derive(Clone, Debug, Default)]
pub struct Codes {
    declared: Option<Arc<dyn Declared>>,
    /// The columns of the model's matrices, for a code that does not say them.
    widths: Arc<Widths>,
}

impl Codes {
    /// Reads a `quantization_config`.
    ///
    /// # Errors
    /// It says something of which it is not known what it means for the numbers.
    pub fn declared(config: &Value) -> Result<Self, UnknownCode> {
        let unknown = |reason| UnknownCode {
            key: String::new(),
            found: config.to_string(),
            reason,
        };
        let config = config
            .as_object()
            .ok_or_else(|| unknown("an object is wanted"))?;
        let method = config.get("quant_method").and_then(Value::as_str);
        let declared: Arc<dyn Declared> = match method {
            Some("aqlm") => Arc::new(aqlm::Aqlm::read(config)?),
            Some("awq") => Arc::new(awq::Awq::read(config)?),
            Some("bitnet") => Arc::new(bitnet::BitNet::read(config)?),
            Some("bitsandbytes") => Arc::new(bitsandbytes::BitsAndBytes::read(config)?),
            Some("compressed-tensors") => Arc::new(compressed::CompressedTensors::read(config)?),
            Some("fp8" | "fbgemm_fp8") => Arc::new(fp8::Fp8::read(config)?),
            Some("hqq") => Arc::new(hqq::Hqq::read(config)?),
            Some("quanto") => Arc::new(quanto::Quanto::read(config)?),
            Some("quark") => Arc::new(quark::Quark::read(config)?),
            Some("torchao") => Arc::new(torchao::TorchAo::read(config)?),
            Some("gptq") => Arc::new(gptq::Gptq::read(config)?),
            Some("auto-round" | "intel/auto-round") => auto_round(config)?,
            Some("modelopt" | "modelopt_fp4") => Arc::new(modelopt::ModelOpt::read(config)?),
            Some("mxfp4") => Arc::new(fp4::Mxfp4::read(config)?),
            // What MLX writes names no method.
            None | Some("mlx")
                if config.contains_key("group_size") && config.contains_key("bits") =>
            {
                Arc::new(mlx::Mlx::read(config)?)
            }
            Some("eetq" | "fp_quant" | "four_over_six" | "higgs" | "sinq" | "spqr" | "vptq") => {
                return Err(unknown(
                    "only its makers' code for graphics processors knows the order of these codes: \
                     take another form of the model",
                ));
            }
            _ => {
                return Err(unknown(
                    "weights that are quantised so are not read yet; `docs/formats.md` lists what is",
                ));
            }
        };
        Ok(Self {
            declared: Some(declared),
            widths: Arc::default(),
        })
    }

    /// The same for the tensors of a model that has these weights; its base model alone lacks the prefix.
    #[must_use]
    pub fn of_leaves<'l>(
        &self,
        leaves: impl IntoIterator<Item = &'l Leaf>,
        base_prefix: &str,
    ) -> Self {
        let mut codes = self.clone();
        if self
            .declared
            .as_ref()
            .is_some_and(|declared| declared.needs_widths())
        {
            codes.widths = Arc::new(Widths::of(leaves, base_prefix));
        }
        codes
    }

    /// The columns that the model's matrices have.
    pub(crate) fn widths(&self) -> &Widths {
        &self.widths
    }

    /// Whether the kernels that they were made for round the inputs of products too.
    pub(crate) fn rounds_inputs(&self) -> bool {
        self.declared
            .as_ref()
            .is_some_and(|declared| declared.rounds_inputs())
    }

    /// How a tensor is coded of which a stored one is the first part; `None` where it is no part or stored plainly.
    pub(crate) fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        if tensor.dtype.is_block() {
            // The file says it, whatever else is said.
            let name = tensor.name.to_string();
            let at = tensors.get(&name).map(|(at, _)| at);
            let coded = at.and_then(|at| ggml::coded(at, tensor)).map(Ok);
            return Ok(coded.map(|coded| Found { name, coded }));
        }
        let found = match &self.declared {
            Some(declared) => declared.find(tensor, tensors)?,
            None => fp8::Cast.find(tensor, tensors)?,
        };
        let own = || tensors.get(&tensor.name).and_then(integers::find);
        Ok(found.or_else(own))
    }
}

/// auto-round writes in the layouts of others.
fn auto_round(config: &Map<String, Value>) -> Result<Arc<dyn Declared>, UnknownCode> {
    let packing = config.get("packing_format").and_then(Value::as_str);
    if packing.is_some_and(|packing| packing.ends_with("awq")) {
        Ok(Arc::new(awq::Awq::read(config)?))
    } else {
        Ok(Arc::new(gptq::Gptq::read(config)?))
    }
}
