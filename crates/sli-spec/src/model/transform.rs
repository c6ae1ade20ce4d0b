//! A dense layer with an activation and a norm, in front of a head or behind what is looked up.

use serde::Serialize;

use crate::parts::{Activation, Linear, Norm};
use crate::source::WeightIndex;

/// `norm(activation(dense(h)))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadTransform {
    /// `[out, hidden]`.
    pub dense: Linear,
    /// After the dense layer.
    pub activation: Activation,
    /// The first half of its features is multiplied by the activation of the second.
    #[serde(skip_serializing_if = "is_default")]
    pub gated: bool,
    /// The half that is activated is cut off above it, the other one beyond it on both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// After the activation.
    pub norm: Option<Norm>,
    /// The norm stands in front of the activation.
    #[serde(skip_serializing_if = "is_default")]
    pub norm_first: bool,
    /// What comes out in the end are shares: the softmax of all features.
    #[serde(skip_serializing_if = "is_default")]
    pub shares: bool,
}

impl HeadTransform {
    /// A dense layer and an activation.
    pub fn plain(dense: Linear, activation: Activation) -> Self {
        Self {
            dense,
            activation,
            gated: false,
            limit: None,
            norm: None,
            norm_first: false,
            shares: false,
        }
    }

    /// Its weights, in order of use.
    pub fn weights(&self) -> impl Iterator<Item = WeightIndex> + '_ {
        let dense = std::iter::once(self.dense.weight).chain(self.dense.bias);
        let norm = self.norm.iter();
        dense.chain(norm.flat_map(|norm| norm.weight.into_iter().chain(norm.bias)))
    }

    /// Features that come out.
    pub fn width(&self) -> usize {
        self.dense.out_features / if self.gated { 2 } else { 1 }
    }
}

/// Whether a description need not say it.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
