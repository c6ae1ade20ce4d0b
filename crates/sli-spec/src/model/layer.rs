//! A layer: residual steps, and what they are made of.

use serde::Serialize;

use super::mask::Cut;
use crate::mechanisms::{Mechanism, Mixer};
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

impl Layer {
    /// The mechanisms of all steps, in order.
    pub fn mechanisms(&self) -> impl Iterator<Item = &dyn Mechanism> + Clone {
        self.steps.iter().flat_map(Step::mechanisms)
    }
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

impl Step {
    /// Whether its rows need the keys and values of later ones.
    pub fn takes_keys_first(&self) -> bool {
        let mut mechanisms = self.mechanisms();
        mechanisms.any(|mechanism| mechanism.cut() == Cut::KeysFirst)
    }

    /// The mechanisms of all branches, in order.
    pub fn mechanisms(&self) -> impl Iterator<Item = &dyn Mechanism> + Clone {
        self.branches.iter().map(|branch| branch.mixer.facts())
    }
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
