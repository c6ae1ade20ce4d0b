//! What follows the last layer.

use serde::Serialize;

use super::transform::is_default;
use super::{HeadTransform, PositionTable};
use crate::mechanisms::StreamAttention;
use crate::parts::{Activation, GatedMean, Linear, Norm, StreamWeights};
use crate::source::Leaf;

/// How residual streams become one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub enum Merge {
    /// There is one.
    #[default]
    One,
    /// Projections of the further ones `[hidden, hidden]`, scaled to the magnitude of the first; their mean with it
    /// (AltUp).
    Projected(Vec<Linear>),
    /// The mean of so many.
    Mean(usize),
    /// Attention to them, which has no targets (Inkling 2).
    Attended(StreamAttention),
    /// A mixture, by weights of reading (hyper-connections).
    Weighed(StreamWeights),
    /// A mean that they gate (Qwen4-Exp).
    Gated(GatedMean),
}

/// What follows the last layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Head {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// How several residual streams become what enters the final norm.
    pub streams: Merge,
    /// Final norm.
    pub norm: Option<Norm>,
    /// Projection behind the norm that is a part of the stack itself: logits, pooler and pooled
    /// embeddings start from it (OPT with narrow embeddings).
    pub output: Option<Linear>,
    /// What becomes of the normed end where later stacks read it.
    pub handed: Option<Handed>,
    /// Buffers beside the hidden state whose content stands behind the features of the end where later stacks read it:
    /// the first so many.
    #[serde(skip_serializing_if = "is_default")]
    pub kept: usize,
    /// Logits, where the model has them.
    pub logits: Option<LogitsHead>,
    /// The pooled first token, where the model has it.
    pub pooler: Option<Pooler>,
    /// Logits of classes, where the model has them.
    pub classes: Option<ClassesHead>,
}

/// What becomes of the end of a stack where later ones read it: `projection(end + positions)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Handed {
    /// Added to it.
    pub positions: Option<PositionTable>,
    /// `[width of the later stack, hidden]`.
    pub projection: Option<Linear>,
}

/// Hidden state to logits of classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassesHead {
    /// What is classified.
    pub classified: Classified,
    /// In front of the projection.
    pub transform: Option<HeadTransform>,
    /// `[classes, hidden]`.
    pub projection: Linear,
    /// Behind the projection.
    pub activation: Activation,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// What makes probabilities of the logits, where they are logits of probabilities.
    pub probabilities: Option<Probabilities>,
}

/// What is classified: which row of a record stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Classified {
    /// Every token by itself.
    Tokens,
    /// The record: its first token.
    First,
    /// The record: the mean of its tokens.
    Mean,
    /// The record: the mean of the logits of its tokens.
    Each,
    /// The record: its last token that is not this one, or its first where all are.
    Last {
        /// The id of padding, where there is one.
        padding: Option<u32>,
    },
    /// The record: where its decoder is to say this token for the last time.
    Label {
        /// The token.
        token: u32,
    },
}

/// What makes probabilities of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Probabilities {
    /// Each by itself.
    Sigmoid,
    /// All together.
    Softmax,
}

impl Probabilities {
    /// Where nothing else is said of so many classes.
    pub fn usual(classes: usize) -> Self {
        match classes {
            1 => Self::Sigmoid,
            _ => Self::Softmax,
        }
    }

    /// What the activation of a cross-encoder is, by the path of its class; an error says which are known. What is not
    /// torch's is not followed by the reference either.
    pub fn of_activation(path: &str, classes: usize) -> Result<Option<Self>, &'static str> {
        match path.rsplit('.').next() {
            _ if !path.starts_with("torch.") => Ok(Some(Self::usual(classes))),
            Some("Sigmoid") => Ok(Some(Self::Sigmoid)),
            Some("Softmax") => Ok(Some(Self::Softmax)),
            Some("Identity") => Ok(None),
            _ => Err("known are Sigmoid, Softmax and Identity"),
        }
    }
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

/// `activation(dense(h[0]))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooler {
    /// `[hidden, hidden]`.
    pub dense: Linear,
    /// After the dense layer.
    pub activation: Activation,
}
