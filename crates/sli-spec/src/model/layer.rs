//! A layer: residual steps, and what they are made of.

use serde::Serialize;

use super::attention::Attention;
use super::experts::{MixtureOfAttention, MixtureOfExperts};
use super::feed_forward::{Activation, FeedForward};
use super::latent::LatentAttention;
use crate::source::{Leaf, WeightIndex};

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Layer {
    /// Prefix of its tensor names.
    pub prefix: String,
    /// Its weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// What it does.
    pub steps: Vec<Step>,
}

/// One residual step:
/// `y = post(sum_b gain_b * post_b(mixer_b(pre_b(pre(read)))))`, then `write`.
///
/// One branch with `pre` is pre-norm; [`Write::AddNorm`] is post-norm (BERT); `pre` and `post` is a
/// sandwich (Gemma 2); two branches are a parallel residual (Cohere, GPT-NeoX).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Where the input comes from.
    pub read: Slot,
    /// Norm in front of all branches.
    pub pre: Option<Norm>,
    /// The mixers; their outputs are summed.
    pub branches: Vec<Branch>,
    /// Norm of the sum.
    pub post: Option<Norm>,
    /// What becomes of the sum.
    pub write: Write,
}

/// One mixer of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// Norm of its input, after the step's own.
    pub pre: Option<Norm>,
    /// The mixer.
    pub mixer: Mixer,
    /// Norm of its output.
    pub post: Option<Norm>,
    /// Factor on its output.
    pub gain: Gain,
}

/// A buffer of `[tokens, hidden]` that outlives a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Slot {
    /// The hidden state.
    Hidden,
    /// A further buffer, by number.
    Stash(u8),
}

/// A factor on a branch or a residual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Gain {
    /// 1.
    One,
    /// A constant.
    Constant(f64),
    /// A learned factor per feature `[hidden]`, or one for all `[1]`.
    Vector(WeightIndex),
}

/// What becomes of a step's sum `y`; `r` is the hidden state before the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Write {
    /// `h = r + y`.
    Add,
    /// `h = gain * r + y`.
    AddScaled(Gain),
    /// `h = norm(gain * r + y)` (post-norm: BERT, openai-gpt).
    AddNorm(Norm, Gain),
    /// The slot becomes `y`.
    Set(Slot),
    /// The slot is increased by `y`.
    AddTo(Slot),
}

/// A normalisation over the last axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// Factor per feature.
    pub weight: Option<WeightIndex>,
    /// Addend per feature.
    pub bias: Option<WeightIndex>,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
}

/// The kinds of [`Norm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`.
    Rms,
    /// `(x - mean) / sqrt(var + eps)`.
    Layer,
    /// `x / sqrt(sum(x^2) + eps)`.
    L2,
}

/// `y = W x + b`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: WeightIndex,
    /// `[out]`.
    pub bias: Option<WeightIndex>,
    /// Output features.
    pub out_features: usize,
    /// Input features.
    pub in_features: usize,
}

/// What a branch computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixer {
    /// Multi-head attention.
    Attention(Box<Attention>),
    /// Multi-head latent attention (DeepSeek-V2).
    LatentAttention(Box<LatentAttention>),
    /// Feed-forward network.
    FeedForward(FeedForward),
    /// Mixture of experts.
    MixtureOfExperts(Box<MixtureOfExperts>),
    /// Attention with projections that are experts.
    MixtureOfAttention(Box<MixtureOfAttention>),
    /// One linear map (Nemotron-NAS, in the place of a whole sublayer).
    Linear(Linear),
    /// A feed-forward network of which only the largest gates count.
    SparseFeedForward(SparseFeedForward),
    /// `up(down(x))`.
    LowRank(LowRank),
    /// The layer's own input enters.
    LayerInput(LayerInput),
    /// All residual streams from all (AltUp); what it computes is no output but the streams.
    Streams(Streams),
    /// The slot's content, unchanged.
    Identity,
}

/// A gated network whose gates lose `mean + deviations * standard deviation` of their row and are cut
/// at 0 before the activation (Gemma 3n).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SparseFeedForward {
    /// The network.
    pub network: FeedForward,
    /// How far above the mean a gate has to be.
    pub deviations: f64,
}

/// A product of two small matrices (LAuReL).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowRank {
    /// `[rank, hidden]`.
    pub down: Linear,
    /// `[hidden, rank]`.
    pub up: Linear,
}

/// `projection(activation(gate x) * input)` with the layer's part of [`crate::LayerInputs`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerInput {
    /// `[width, hidden]`.
    pub gate: Linear,
    /// On the gate.
    pub activation: Activation,
    /// `[hidden, width]`.
    pub projection: Linear,
}

/// One half of AltUp (Baykal et al. 2023) on `streams` streams: the hidden state and the first stashes.
/// With `m = tanh(router(norm(x) / hidden))`, x the active stream or the slot that was computed from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Streams {
    /// Number of streams.
    pub streams: usize,
    /// The active one.
    pub active: usize,
    /// Norm in front of the router.
    pub norm: Norm,
    /// `[streams, hidden]`.
    pub router: Linear,
    /// Which half.
    pub update: StreamUpdate,
}

/// The halves of AltUp.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StreamUpdate {
    /// `stream_j += sum_i c[j, i] * stream_i` with `c = coefficients(m)` `[streams, streams]`.
    Predict {
        /// `[streams * streams, streams]`.
        coefficients: Linear,
    },
    /// `stream_j += (1 + coefficients(m)_j) * (computed - stream_active)`.
    Correct {
        /// `[streams, streams]`.
        coefficients: Linear,
        /// What the layer made of the active stream.
        computed: Slot,
    },
}
