//! Codes: how tensors hold numbers that are not floats by themselves.
//!
//! A coded tensor is a matrix (or a stack of them) and the parts that decode it, each a tensor of its own. Which code
//! a tensor has follows from the tensors that are there and from what the files say of themselves
//! (`quantization_config`), never from the type of model. A code is one file here.
//!
//! What is decoded is the number that the file means: scales are widened to f32 first, the product is an f32, and
//! nothing is rounded in between. How products round activations is a matter of kernels and no part of the weights.

mod code;
mod fp8;

use serde_json::Value;

pub use code::UnknownCode;
pub(crate) use code::{Coded, Stored};

use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// The tensor that a tensor of this name is a part of, by its name.
pub(crate) fn owner(name: &str) -> Option<&str> {
    name.strip_suffix(fp8::SCALES)
}

/// The codes that a model's files say that their tensors have.
#[derive(Clone, Debug, Default)]
pub struct Codes(Option<fp8::Declared>);

impl Codes {
    /// Reads a `quantization_config`.
    ///
    /// # Errors
    /// It says something of which it is not known what it means for the numbers.
    pub fn declared(config: &Value) -> Result<Self, UnknownCode> {
        let unknown = || UnknownCode {
            key: String::new(),
            found: config.to_string(),
            reason: "weights that are packed or quantised so are not read yet, only plain floating point and \
                     `quant_method: fp8`",
        };
        let config = config.as_object().ok_or_else(unknown)?;
        match config.get("quant_method").and_then(Value::as_str) {
            Some("fp8") => fp8::Declared::read(config).map(|declared| Self(Some(declared))),
            _ => Err(unknown()),
        }
    }

    /// How a tensor is coded; `None` where it is stored plainly. `place` finds a tensor by its name.
    pub(crate) fn of<'t>(
        &self,
        tensor: &TensorInfo,
        place: &dyn Fn(&str) -> Option<(u32, &'t TensorInfo)>,
    ) -> Option<Result<Coded, LeafProblem>> {
        self.0.as_ref()?.of(tensor, place)
    }
}
