//! How much there is to compute.

use serde::Serialize;

/// Floating-point operations of a run: two for every multiply-add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Products with weights.
    pub linear: f64,
    /// Attention's two products.
    pub attention: f64,
    /// Weights of attention, each an exponential: no operations of these.
    pub attention_weights: f64,
}
