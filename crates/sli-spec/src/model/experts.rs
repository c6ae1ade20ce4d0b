//! Mixtures of experts and their routers.

use serde::Serialize;

use super::attention::Mask;
use super::feed_forward::FeedForward;
use super::layer::{Linear, Norm};
use crate::rope::Rope;
use crate::source::WeightIndex;

/// Mixture of experts: every token goes to `top_k` of them. Expert weights are leaves of shape
/// `[experts, out, in]`, their addends of shape `[experts, out]`; an expert that no token chose is
/// not read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureOfExperts {
    /// Number of experts with weights.
    pub experts: usize,
    /// Experts behind those that return their input (LongCat).
    pub identity_experts: usize,
    /// How tokens choose.
    pub router: Router,
    /// Norm of the experts' input, which the router does not see (Gemma 4).
    pub expert_norm: Option<Norm>,
    /// The experts' network; its weights have a leading expert axis.
    pub expert: FeedForward,
    /// Always-on experts as one network.
    pub shared: Option<FeedForward>,
    /// `[1, hidden]`: sigmoid gate on the shared network's output.
    pub shared_gate: Option<Linear>,
    /// Factor on the sum of the chosen and the always-on experts.
    pub output_scale: f64,
    /// Added to the sum `[hidden]` (JetMoe).
    pub output_bias: Option<WeightIndex>,
}

/// Attention whose query and output projections are experts (JetMoe): a token's queries come from
/// `top_k` experts, each with its own heads, all over the same keys and values; the weighted outputs
/// of the same experts are summed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureOfAttention {
    /// Number of experts.
    pub experts: usize,
    /// How tokens choose.
    pub router: Router,
    /// Heads of one expert, which are also the key/value heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// `[experts, heads * head_dim, hidden]`.
    pub query: Linear,
    /// `[heads * head_dim, hidden]`.
    pub key: Linear,
    /// `[heads * head_dim, hidden]`.
    pub value: Linear,
    /// `[experts, hidden, heads * head_dim]`.
    pub output: Linear,
    /// Added to the sum `[hidden]`.
    pub output_bias: WeightIndex,
    /// Rotation of queries and keys.
    pub rope: Option<Rope>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on `q k`.
    pub scale: f64,
}

/// How a token chooses its experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Router {
    /// Norm of the router's own input (Gemma 4).
    pub norm: Option<Norm>,
    /// `[experts, hidden]`; `[2 * keys, hidden]` with product keys.
    pub projection: Linear,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// Logits to scores.
    pub score: RouterScore,
    /// Experts per token.
    pub top_k: usize,
    /// Added to the scores for the choice only `[experts]`.
    pub choice_bias: Option<WeightIndex>,
    /// Limits the choice to some groups of experts.
    pub groups: Option<RouterGroups>,
    /// What the chosen scores are divided by.
    pub renormalize: Renormalize,
    /// Factor on the weights.
    pub scale: f64,
    /// Each expert's own factor on its weight `[experts]` (Gemma 4).
    pub expert_scale: Option<WeightIndex>,
    /// The weight multiplies the expert's input instead of its output (Llama 4).
    pub weighs_input: bool,
}

impl Router {
    /// The `top_k` best of these scores, nothing else.
    pub fn plain(projection: Linear, score: RouterScore, top_k: usize) -> Self {
        Self {
            norm: None,
            projection,
            logit_scale: 1.0,
            softcap: None,
            score,
            top_k,
            choice_bias: None,
            groups: None,
            renormalize: Renormalize::No,
            scale: 1.0,
            expert_scale: None,
            weighs_input: false,
        }
    }
}

/// Logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum RouterScore {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Logits choose; softmax over the chosen ones.
    SoftmaxOfTopK,
    /// Product keys (Doge, after Lample et al. 2019): expert `i * keys + j` has the sum of logit `i` of
    /// one half and logit `j` of the other; softmax over the chosen sums. The halves of token `t` of a
    /// record of `n` are the rows `t` and `n + t` of its `[n, 2 * keys]` logits seen as
    /// `[2 * n, keys]`, as the reference has it.
    ProductKeys(usize),
    /// Logits choose; sigmoid of each chosen one.
    SigmoidOfTopK,
    /// One expert after another; the weight of each is its share of the softmax over the experts
    /// that were not chosen before and whose logit is near the best of them (SparseMixer, Liu et al.
    /// 2023): `(best - logit) / max(|logit|, best) <= 2 * jitter`.
    SparseMixer {
        /// How near.
        jitter: f64,
    },
}

/// What the scores of the chosen experts are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Renormalize {
    /// Nothing.
    No,
    /// Their sum and this.
    Sum {
        /// Added to the sum.
        plus: f64,
    },
    /// Their sum, at least this.
    SumAtLeast(f64),
    /// Their p-norm (DBRX).
    Norm {
        /// The exponent.
        p: f64,
    },
}

/// Group-limited choice (DeepSeek).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RouterGroups {
    /// Number of groups.
    pub count: usize,
    /// Groups a token may use.
    pub chosen: usize,
    /// A group's score is the sum of its best this many scores (1: the maximum).
    pub best: usize,
}
