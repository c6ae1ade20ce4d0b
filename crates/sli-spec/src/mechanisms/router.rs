//! How tokens choose their experts.

use serde::Serialize;

use super::Uses;
use super::contradiction::first_of;
use crate::parts::{Linear, Norm};
use crate::source::WeightIndex;

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
    /// The experts of every token id, in the place of a choice (DeepSeek-V4).
    pub table: Option<ExpertTable>,
    /// Limits the choice to some groups of experts.
    pub groups: Option<RouterGroups>,
    /// What the chosen scores are divided by.
    pub renormalize: Renormalize,
    /// Factor on the weights.
    pub scale: f64,
    /// Each expert's own factor on its weight `[experts]` (Gemma 4).
    pub expert_scale: Option<WeightIndex>,
    /// Tokens of a record that an expert takes, the first that choose it; the others get nothing of it (Switch).
    pub capacity: Option<usize>,
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
            table: None,
            groups: None,
            renormalize: Renormalize::No,
            scale: 1.0,
            expert_scale: None,
            capacity: None,
            weighs_input: false,
        }
    }

    /// Collects the weights that it uses.
    pub(super) fn weights(&self, uses: &mut Uses) {
        let Router {
            norm,
            projection,
            logit_scale: _,
            softcap: _,
            score: _,
            top_k: _,
            choice_bias,
            table,
            groups: _,
            renormalize: _,
            scale: _,
            expert_scale,
            capacity: _,
            weighs_input: _,
        } = self;
        uses.norm(norm.as_ref());
        uses.linear(projection);
        uses.optional(*choice_bias);
        uses.optional(table.as_ref().map(|table| table.experts));
        uses.optional(*expert_scale);
    }

    /// Why it cannot be computed as it stands.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let Router {
            norm: _,
            projection: _,
            logit_scale: _,
            softcap,
            score,
            top_k,
            choice_bias,
            table,
            groups,
            renormalize,
            scale,
            expert_scale,
            capacity,
            weighs_input: _,
        } = self;
        if table.is_some() && (choice_bias.is_some() || groups.is_some()) {
            return Some("a choice among experts that a table names");
        }
        if capacity.is_some() && *top_k != 1 {
            return Some("a capacity of experts that share a token");
        }
        let chooses_otherwise = choice_bias.is_some() || groups.is_some() || table.is_some();
        let weighs_otherwise = *renormalize != Renormalize::No || *scale != 1.0;
        let own = chooses_otherwise || weighs_otherwise;
        match score {
            RouterScore::ProductKeys(_) => first_of(&[(
                own || softcap.is_some() || expert_scale.is_some(),
                "product keys with a choice or weights of another kind",
            )]),
            RouterScore::SparseMixer { .. } => first_of(&[(
                own,
                "a sparse mixer with a choice or weights of another kind",
            )]),
            RouterScore::Softmax
            | RouterScore::Sigmoid
            | RouterScore::SqrtSoftplus
            | RouterScore::SoftmaxOfTopK
            | RouterScore::SigmoidOfTopK => None,
        }
    }

    /// Why a choice depends on the length of the whole record.
    pub(super) fn depends_on_length(&self) -> Option<&'static str> {
        // Computed on all logits of a record as they lie in the reference.
        if matches!(self.score, RouterScore::ProductKeys(_)) {
            return Some("the choice of experts depends on a record's length");
        }
        self.capacity
            .map(|_| "experts take some of a record's tokens only")
    }

    /// What it is, for the table of architectures.
    pub fn label(&self) -> &'static str {
        match self.score {
            RouterScore::Softmax => "softmax over all experts",
            RouterScore::Sigmoid => "sigmoid of each expert",
            RouterScore::SqrtSoftplus => "square root of the softplus of each expert",
            RouterScore::SoftmaxOfTopK => "softmax over the chosen experts",
            RouterScore::ProductKeys(_) => "softmax over the chosen pairs of keys",
            RouterScore::SigmoidOfTopK => "sigmoid of the chosen logits",
            RouterScore::SparseMixer { .. } => "sparse mixer",
        }
    }
}

/// Experts by token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExpertTable {
    /// `[tokens * top_k]`: whole numbers, a row a token id.
    pub experts: WeightIndex,
    /// Token ids.
    pub tokens: usize,
}

/// Logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum RouterScore {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// `sqrt(softplus(x))` of each (DeepSeek-V4).
    SqrtSoftplus,
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
