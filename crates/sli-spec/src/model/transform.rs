//! A dense layer with an activation and a norm, in front of a head or behind what is looked up.

use serde::Serialize;

use crate::parts::{Activation, Linear, Norm};

/// `norm(activation(dense(h)))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadTransform {
    /// `[out, hidden]`.
    pub dense: Linear,
    /// After the dense layer.
    pub activation: Activation,
    /// The first half of its features is multiplied by the activation of the second.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gated: bool,
    /// After the activation.
    pub norm: Option<Norm>,
}
