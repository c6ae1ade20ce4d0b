//! How tokens choose their experts.

use serde::Serialize;

use super::Uses;
use super::contradiction::first_of;
use crate::parts::{Activation, Linear, Norm};
use crate::source::WeightIndex;

/// How a token chooses its experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Router {
    /// Norm of the router's own input (Gemma 4).
    pub norm: Option<Norm>,
    /// What the projection sees in place of the hidden state.
    pub network: Option<RouterNetwork>,
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
    /// So many of them are the last ones for every token; the choice is among the others (Inkling).
    pub always: usize,
    /// Added to the scores for the choice only `[experts]`.
    pub choice_bias: Option<WeightIndex>,
    /// The experts of every token id, in the place of a choice (DeepSeek-V4).
    pub table: Option<ExpertTable>,
    /// What is added to the last of them instead, whatever is stored (ZAYA).
    pub last_choice_bias: Option<f64>,
    /// Limits the choice to some groups of experts.
    pub groups: Option<RouterGroups>,
    /// What the chosen scores are divided by.
    pub renormalize: Renormalize,
    /// Factor on the weights.
    pub scale: f64,
    /// Each expert's own factor on its weight `[experts]` (Gemma 4), or one for all `[1]`.
    pub expert_scale: Option<WeightIndex>,
    /// Tokens of a record that an expert takes, the first that choose it; the others get nothing of it (Switch).
    pub capacity: Option<usize>,
    /// The weight multiplies the expert's input instead of its output (Llama 4).
    pub weighs_input: bool,
}

/// A network in front of a router's projection, whose first rows the next layer's router adds to its own (ZAYA):
/// `s = down x + earlier s_before`, `activation(second activation(first norm(s)))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouterNetwork {
    /// `[width, hidden]`.
    pub down: Linear,
    /// Factors on what the layer before hands on `[width]`; the first layer has none.
    pub earlier: Option<WeightIndex>,
    /// Of `s`.
    pub norm: Norm,
    /// `[width, width]` each.
    pub layers: [Linear; 2],
    /// Behind each.
    pub activation: Activation,
}

impl RouterNetwork {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            down,
            earlier,
            norm,
            layers,
            activation: _,
        } = self;
        uses.linear(down);
        uses.optional(*earlier);
        uses.norm(Some(norm));
        for linear in layers {
            uses.linear(linear);
        }
    }
}

impl Router {
    /// The `top_k` best of these scores, nothing else.
    pub fn plain(projection: Linear, score: RouterScore, top_k: usize) -> Self {
        Self {
            norm: None,
            network: None,
            projection,
            logit_scale: 1.0,
            softcap: None,
            score,
            top_k,
            always: 0,
            choice_bias: None,
            table: None,
            last_choice_bias: None,
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
            network,
            projection,
            logit_scale: _,
            softcap: _,
            score: _,
            top_k: _,
            always: _,
            choice_bias,
            table,
            last_choice_bias: _,
            groups: _,
            renormalize: _,
            scale: _,
            expert_scale,
            capacity: _,
            weighs_input: _,
        } = self;
        uses.norm(norm.as_ref());
        if let Some(network) = network {
            network.weights(uses);
        }
        uses.linear(projection);
        uses.optional(*choice_bias);
        uses.optional(table.as_ref().map(|table| table.experts));
        uses.optional(*expert_scale);
    }

    /// Why it cannot be computed as it stands.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let Router {
            norm,
            network,
            projection: _,
            logit_scale: _,
            softcap,
            score,
            top_k,
            always,
            choice_bias,
            table,
            last_choice_bias,
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
        if network.is_some() && norm.is_some() {
            return Some("a router with a norm and a network in front");
        }
        if last_choice_bias.is_some() && choice_bias.is_none() {
            return Some("a fixed addend of the last choice, and no others");
        }
        if *always > 0 && (*always >= *top_k || groups.is_some() || table.is_some()) {
            return Some("experts of every token beside groups, or without a choice");
        }
        let chooses_otherwise =
            choice_bias.is_some() || groups.is_some() || table.is_some() || *always > 0;
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
            RouterScore::ShareOfSigmoids => first_of(&[(
                *renormalize != Renormalize::No,
                "shares that are divided by something",
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
            RouterScore::ShareOfSigmoids => "shares of the chosen experts' sigmoids",
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
    /// Sigmoids choose; those of the chosen ones, divided by their sum, are their weights (Inkling).
    ShareOfSigmoids,
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
