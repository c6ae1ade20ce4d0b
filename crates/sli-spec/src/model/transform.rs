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
    /// After the activation.
    pub norm: Option<Norm>,
}
