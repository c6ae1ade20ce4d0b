//! Mixtures of experts.

use serde::Serialize;

use super::contradiction::first_of;
use super::{FeedForward, Mechanism, Operations, Router, Routing, Site, Uses};
use crate::parts::{Cut, Linear, Norm};
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
    /// Experts behind those that give nothing (ZAYA).
    pub empty_experts: usize,
    /// How tokens choose.
    pub router: Router,
    /// Norm of the experts' input, which the router does not see (Gemma 4).
    pub expert_norm: Option<Norm>,
    /// The chosen experts work on fewer features (Nemotron-H).
    pub latent: Option<LatentExperts>,
    /// The experts' network; its weights have a leading expert axis.
    pub expert: FeedForward,
    /// Norm of every chosen expert's output, the same for all, in front of its weight (Muse Spark).
    pub expert_output_norm: Option<Norm>,
    /// Experts of every token that the router weighs as well, behind those that return their input: as many as
    /// [`Router::always`].
    pub weighed: Vec<FeedForward>,
    /// Always-on experts as one network.
    pub shared: Option<FeedForward>,
    /// `[1, hidden]`: sigmoid gate on the shared network's output.
    pub shared_gate: Option<Linear>,
    /// Factor on the sum of the chosen and the always-on experts.
    pub output_scale: f64,
    /// Added to the sum `[hidden]` (JetMoe).
    pub output_bias: Option<WeightIndex>,
}

/// What leads to the features that the chosen experts work on, and back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatentExperts {
    /// `[fewer, hidden]`.
    pub down: Linear,
    /// Norm of the fewer features.
    pub norm: Option<Norm>,
    /// `[hidden, fewer]`, of the sum of the chosen experts.
    pub up: Linear,
}

impl MixtureOfExperts {
    /// Experts that a router chooses from.
    pub fn choices(&self) -> usize {
        self.experts + self.identity_experts + self.empty_experts + self.weighed.len()
    }

    /// So many experts like this one, nothing else.
    pub fn plain(experts: usize, router: Router, expert: FeedForward) -> Self {
        Self {
            experts,
            identity_experts: 0,
            empty_experts: 0,
            router,
            expert_norm: None,
            latent: None,
            expert,
            expert_output_norm: None,
            weighed: Vec::new(),
            shared: None,
            shared_gate: None,
            output_scale: 1.0,
            output_bias: None,
        }
    }
}

impl Mechanism for MixtureOfExperts {
    fn alike(&self) -> Vec<Vec<WeightIndex>> {
        let always = self.weighed.iter().chain(&self.shared);
        let mut of_input: Vec<WeightIndex> =
            always.flat_map(FeedForward::alike).flatten().collect();
        of_input.extend(self.shared_gate.as_ref().map(|gate| gate.weight));
        of_input.extend(self.latent.as_ref().map(|latent| latent.down.weight));
        let mut classes = self.expert.alike();
        classes.push(of_input);
        classes
    }

    fn weights(&self, uses: &mut Uses) {
        let MixtureOfExperts {
            experts: _,
            identity_experts: _,
            empty_experts: _,
            router,
            expert_norm,
            latent,
            expert,
            expert_output_norm,
            weighed,
            shared,
            shared_gate,
            output_scale: _,
            output_bias,
        } = self;
        router.weights(uses);
        uses.norm(expert_norm.as_ref());
        if let Some(LatentExperts { down, norm, up }) = latent {
            uses.linear(down);
            uses.norm(norm.as_ref());
            uses.linear(up);
        }
        expert.weights(uses);
        uses.norm(expert_output_norm.as_ref());
        for network in weighed {
            network.weights(uses);
        }
        if let Some(shared) = shared {
            shared.weights(uses);
        }
        if let Some(gate) = shared_gate {
            uses.linear(gate);
        }
        uses.optional(*output_bias);
    }

    fn label(&self) -> String {
        format!("mixture of experts: {}", self.expert.kind())
    }

    fn summary(&self) -> String {
        let shared = if self.shared.is_some() {
            ", shared ones"
        } else {
            ""
        };
        format!(
            "{} experts of {}, {} a token{shared}",
            self.experts, self.expert.up.out_features, self.router.top_k
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let networks = [Some(&self.expert), self.shared.as_ref()];
        let mut networks = networks.into_iter().flatten().chain(&self.weighed);
        let of_parts = self.router.contradiction();
        let of_parts = of_parts.or_else(|| networks.find_map(FeedForward::contradiction));
        let has_identities = self.identity_experts > 0;
        of_parts.or_else(|| {
            first_of(&[
                (
                    self.shared_gate.is_some() && self.shared.is_none(),
                    "a gate of always-on experts without such experts",
                ),
                (
                    self.weighed.len() != self.router.always,
                    "not a network for each expert of every token",
                ),
                (
                    has_identities && self.expert_norm.is_some(),
                    "experts that return their input behind a norm of it",
                ),
                (
                    self.latent.is_some() && (has_identities || self.expert_norm.is_some()),
                    "experts on fewer features that return their input, or behind a norm of it",
                ),
                (
                    has_identities && self.empty_experts > 0,
                    "experts that give nothing behind those that return their input",
                ),
            ])
        })
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Mlp)
    }

    fn routing(&self) -> Option<Routing<'_>> {
        Some(Routing {
            router: &self.router,
            experts: self.choices(),
            is_shown: true,
        })
    }

    fn hands_on(&self) -> usize {
        let network = self.router.network.as_ref();
        network.map_or(0, |network| network.down.out_features)
    }

    fn operations(&self) -> Operations {
        let up = &self.expert.up;
        let matrices = 2 + usize::from(self.expert.gate.is_some());
        let one = up.out_features * up.in_features * matrices;
        Operations {
            of_row: (2 * one * self.router.top_k) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, hidden: usize) -> usize {
        let always = self.shared.iter().chain(&self.weighed);
        let shared = always.map(|network| network.up.out_features).max();
        let shared = shared.unwrap_or(0);
        2 * (self.router.top_k * (self.expert.up.out_features + hidden) + shared)
    }

    fn cut(&self) -> Cut {
        let reason = self.router.depends_on_length();
        reason.map_or(Cut::Anywhere, Cut::Nowhere)
    }

    fn depends_on_length(&self, _longest: usize) -> Option<&'static str> {
        self.router.depends_on_length()
    }
}
