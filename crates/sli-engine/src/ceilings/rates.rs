//! How fast products of a shape are in bf16 and in f32.

use serde::{Deserialize, Serialize};

/// Operations a second of products of activations with bf16 weights, of the shape that most of a model's work has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductRates {
    /// Name of the processor.
    pub name: String,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Threads.
    pub threads: usize,
    /// Output and input features of the matrix.
    pub shape: [usize; 2],
    /// With both factors rounded to bf16.
    pub bf16: f64,
    /// With the weights widened to f32.
    pub f32: f64,
}

impl ProductRates {
    /// Whether both rates are some.
    pub(super) fn is_sound(&self) -> bool {
        [self.bf16, self.f32].into_iter().all(super::disk::is_rate)
    }
}
