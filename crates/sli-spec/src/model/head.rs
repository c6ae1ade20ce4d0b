//! What follows the last layer.

use serde::Serialize;

use crate::parts::{Activation, Linear, Norm};
use crate::source::Leaf;

/// What follows the last layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Head {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// Projections of the further residual streams `[hidden, hidden]`, scaled to the magnitude of the
    /// first; their mean with it enters the final norm.
    pub streams: Vec<Linear>,
    /// Final norm.
    pub norm: Option<Norm>,
    /// Projection behind the norm that is a part of the stack itself: logits, pooler and pooled
    /// embeddings start from it (OPT with narrow embeddings).
    pub output: Option<Linear>,
    /// Logits, where the model has them.
    pub logits: Option<LogitsHead>,
    /// The pooled first token, where the model has it.
    pub pooler: Option<Pooler>,
}

/// Hidden state to logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitsHead {
    /// What the logits at a position predict.
    pub predicts: Predicts,
    /// Dense layers with activations and norms in front of the projection (masked LM).
    pub transforms: Vec<HeadTransform>,
    /// `[vocab, hidden]`.
    pub projection: Linear,
    /// Every row of the projection is divided by its Euclidean length (Baichuan 2).
    pub normalized_rows: bool,
    /// Factor on the logits.
    pub scale: f64,
    /// `cap * tanh(logit / cap)`, after the scale.
    pub softcap: Option<f64>,
}

/// What the logits at a position predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Predicts {
    /// The next token.
    Next,
    /// The token itself, where it was masked.
    Masked,
}

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

/// `activation(dense(h[0]))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooler {
    /// `[hidden, hidden]`.
    pub dense: Linear,
    /// After the dense layer.
    pub activation: Activation,
}
