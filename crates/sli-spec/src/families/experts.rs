//! A mixture of experts: how its weights are named and stacked, and how tokens choose.

use crate::build::{Leaves, NormStyle};
use crate::{
    Activation, ClampedGate, Config, ExpertTable, FeedForward, LatentExperts, Linear, Mixer,
    MixtureOfExperts, Norm, Renormalize, Router, RouterGroups, RouterNetwork, RouterScore, Shard,
    Source, SpecError, Split,
};

/// A mixture of experts as data. Names are relative to the layer.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent properties of the published files"
)]
pub struct Experts {
    /// Number of experts with weights.
    pub count: usize,
    /// Experts behind them that return their input.
    pub identities: usize,
    /// Experts behind them that give nothing.
    pub empties: usize,
    /// Features inside an expert.
    pub intermediate_size: usize,
    /// The experts' weights.
    pub tensors: ExpertTensors,
    /// The experts have addends.
    pub bias: bool,
    /// Of the experts.
    pub activation: Activation,
    /// Replaces the gated activation.
    pub clamped: Option<ClampedGate>,
    /// Likewise of the always-on experts.
    pub shared_clamped: Option<ClampedGate>,
    /// Norm of the router's own input, factor on the logits, factors on the experts' weights.
    pub router_extras: Option<RouterExtras>,
    /// What is in front of the router's projection.
    pub router_network: Option<InFrontOfRouter>,
    /// The router's projection, without `.weight`.
    pub router: &'static str,
    /// The router has an addend.
    pub router_bias: bool,
    /// Factor on the router's logits, where there are no [`RouterExtras`].
    pub logit_scale: f64,
    /// Limit of the router's logits.
    pub softcap: Option<f64>,
    /// Logits to scores.
    pub score: RouterScore,
    /// Experts per token.
    pub top_k: usize,
    /// The tensor that is added to the scores for the choice, by its spellings.
    pub choice_bias: &'static [&'static str],
    /// The tensor that names every token id's experts, in the place of a choice, and the number of token ids.
    pub table: Option<(&'static str, usize)>,
    /// What the last one is, whatever is stored.
    pub last_choice_bias: Option<f64>,
    /// The reference counts it among the parameters; most classes hold it in a buffer.
    pub counted_bias: bool,
    /// Limits the choice to some groups.
    pub groups: Option<RouterGroups>,
    /// What the chosen scores are divided by.
    pub renormalize: Renormalize,
    /// Factor on the weights.
    pub scale: f64,
    /// A learned factor on them, by its name.
    pub weight_scale: Option<&'static str>,
    /// Experts of every token that the router weighs, behind the others.
    pub weighed: usize,
    /// Their tensors `[weighed, out, in]`: `[gate, up, down]`.
    pub weighed_names: [&'static str; 3],
    /// Tokens of a record that an expert takes.
    pub capacity: Option<usize>,
    /// The weight multiplies the expert's input.
    pub weighs_input: bool,
    /// Always-on experts.
    pub shared: Option<Shared>,
    /// Factor on the sum of all.
    pub output_scale: f64,
    /// A tensor that is added to the sum.
    pub output_bias: Option<&'static str>,
    /// The chosen experts work on fewer features.
    pub latent: Option<LatentSpace>,
    /// Norm of these, by its name.
    pub latent_norm: Option<(&'static str, NormStyle)>,
    /// Norm of every chosen expert's output, by its name.
    pub output_norm: Option<(&'static str, NormStyle)>,
}

/// Fewer features, which the chosen experts work on (Nemotron-H).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentSpace {
    /// How many.
    pub size: usize,
    /// The projections to them and back, without `.weight`.
    pub names: [&'static str; 2],
    /// These have addends.
    pub bias: bool,
}

/// A router with an input of its own (Gemma 4). Names are relative to the layer.
#[derive(Clone, Copy, Debug)]
pub struct RouterExtras {
    /// Of the norms.
    pub style: NormStyle,
    /// Weight of the norm of the router's input.
    pub router_norm: &'static str,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// Factors on the experts' weights.
    pub expert_scale: &'static str,
    /// Norm of the experts' input, without `.weight`.
    pub expert_norm: &'static str,
}

/// A network in front of a router's projection, which hands its input on to the next layer's (ZAYA). Names are relative
/// to the layer.
#[derive(Clone, Copy, Debug)]
pub struct InFrontOfRouter {
    /// Features inside.
    pub width: usize,
    /// Of its norm.
    pub style: NormStyle,
    /// Projection to it, with an addend.
    pub down: &'static str,
    /// Factors on what the layer before hands on, if there is one.
    pub earlier: Option<&'static str>,
    /// The norm.
    pub norm: &'static str,
    /// The layers, with addends.
    pub layers: [&'static str; 2],
}

impl InFrontOfRouter {
    fn build(self, leaves: &mut Leaves, hidden: usize) -> RouterNetwork {
        let width = self.width;
        let down = leaves.linear(self.down, [width, hidden], true, Shard::Replicate);
        let earlier = self.earlier.map(|name| {
            let source = leaves.tensor(name);
            leaves.weight(source, &[width], Shard::Replicate)
        });
        let norm = leaves.norm(self.norm, width, self.style);
        let layers = self
            .layers
            .map(|name| leaves.linear(name, [width; 2], true, Shard::Replicate));
        RouterNetwork {
            down,
            earlier,
            norm,
            layers,
            activation: Activation::Gelu,
        }
    }
}

impl RouterExtras {
    fn norm(self, leaves: &mut Leaves, hidden_size: usize) -> Norm {
        let weight = leaves.tensor(self.router_norm);
        Norm {
            kind: self.style.kind,
            weight: Some(leaves.weight(weight, &[hidden_size], Shard::Replicate)),
            bias: None,
            epsilon: self.style.epsilon,
        }
    }
}

/// How the experts' weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertTensors {
    /// A tensor each; `{}` is the expert: `[gate, up, down]`.
    Each([&'static str; 3]),
    /// A tensor each, without a gate: `[up, down]`.
    Ungated([&'static str; 2]),
    /// `[experts, 2 * intermediate, hidden]`, gate above `up`, and `[experts, hidden, intermediate]`.
    Stacked([&'static str; 2]),
    /// As [`Self::Stacked`], or as [`Self::Transposed`] where the shapes are not those.
    Either([&'static str; 2]),
    /// As [`Self::Stacked`], rows of gate and `up` alternate.
    Alternating([&'static str; 2]),
    /// `[experts, hidden, 2 * intermediate]` and `[experts, intermediate, hidden]`.
    Transposed {
        /// `[gate and up, down]`; addends have `_bias` behind.
        names: [&'static str; 2],
        /// Features of gate and `up` alternate.
        interleaved: bool,
    },
    /// `[experts * intermediate, hidden]` each, `down` transposed: `[gate, up, down]`.
    Tall([&'static str; 3]),
    /// The same without a gate: `[up, down]`.
    UngatedTall([&'static str; 2]),
}

/// Always-on experts as one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The network's tensors.
    pub tensors: SharedTensors,
    /// Features inside.
    pub intermediate_size: usize,
    /// It has addends.
    pub bias: bool,
    /// Of the network.
    pub activation: Activation,
    /// A projection to a sigmoid gate on its output, without `.weight`.
    pub gate: Option<&'static str>,
}

/// How the always-on network's weights are stored, without `.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedTensors {
    /// `[gate, up, down]`.
    Plain([&'static str; 3]),
    /// `[gate above up, down]`.
    Fused([&'static str; 2]),
    /// `[up, down]`, without gate.
    Ungated([&'static str; 2]),
}

/// Names under `mlp.experts`, one tensor an expert.
pub const USUAL_EXPERTS: ExpertTensors = ExpertTensors::Each([
    "mlp.experts.{}.gate_proj.weight",
    "mlp.experts.{}.up_proj.weight",
    "mlp.experts.{}.down_proj.weight",
]);

/// Names under `mlp.shared_experts`.
pub const SHARED_EXPERTS: SharedTensors = SharedTensors::Plain([
    "mlp.shared_experts.gate_proj",
    "mlp.shared_experts.up_proj",
    "mlp.shared_experts.down_proj",
]);

/// Names under `mlp.shared_expert`.
pub const SHARED_EXPERT: SharedTensors = SharedTensors::Plain([
    "mlp.shared_expert.gate_proj",
    "mlp.shared_expert.up_proj",
    "mlp.shared_expert.down_proj",
]);

impl Experts {
    /// Softmax over all experts, the `top_k` best, nothing else; names under `mlp`.
    pub fn new(
        config: &Config,
        [count, top_k]: [&str; 2],
        intermediate_size: usize,
        activation: Activation,
    ) -> Result<Self, SpecError> {
        let experts = config.heads(count)?;
        let chosen = config.heads(top_k)?;
        if chosen > experts {
            return Err(config.invalid(top_k, format!("at most {experts} experts")));
        }
        ignore_training(config);
        Ok(Self::plain(experts, chosen, intermediate_size, activation))
    }

    /// The same with the numbers themselves.
    pub fn plain(
        count: usize,
        top_k: usize,
        intermediate_size: usize,
        activation: Activation,
    ) -> Self {
        Self {
            count,
            identities: 0,
            empties: 0,
            intermediate_size,
            tensors: USUAL_EXPERTS,
            bias: false,
            activation,
            clamped: None,
            shared_clamped: None,
            router_extras: None,
            router_network: None,
            router: "mlp.gate",
            router_bias: false,
            logit_scale: 1.0,
            softcap: None,
            score: RouterScore::Softmax,
            top_k,
            choice_bias: &[],
            table: None,
            last_choice_bias: None,
            counted_bias: false,
            groups: None,
            renormalize: Renormalize::No,
            scale: 1.0,
            weight_scale: None,
            weighed: 0,
            weighed_names: [""; 3],
            capacity: None,
            weighs_input: false,
            shared: None,
            output_scale: 1.0,
            output_bias: None,
            latent: None,
            latent_norm: None,
            output_norm: None,
        }
    }

    /// `n_group` and `topk_group`; one group is none.
    pub fn limit_to_groups(&mut self, config: &Config, best: usize) -> Result<(), SpecError> {
        let groups = config.optional_heads("n_group")?.unwrap_or(1);
        let chosen = config.optional_heads("topk_group")?.unwrap_or(1);
        if !self.count.is_multiple_of(groups) {
            return Err(config.invalid("n_group", format!("a divisor of {}", self.count)));
        }
        if chosen > groups {
            return Err(config.invalid("topk_group", format!("at most {groups} groups")));
        }
        let size = self.count / groups;
        if size < best {
            return Err(config.invalid("n_group", format!("groups of at least {best} experts")));
        }
        if chosen * size < self.top_k {
            let expected = format!("groups that hold {} experts", self.top_k);
            return Err(config.invalid("topk_group", expected));
        }
        if groups > 1 && chosen < groups {
            self.groups = Some(RouterGroups {
                count: groups,
                chosen,
                best,
            });
        }
        Ok(())
    }

    /// The mixer, and its weights after those of `leaves`.
    pub fn build(&self, leaves: &mut Leaves, hidden_size: usize) -> Mixer {
        let chosen = self.count + self.identities + self.empties;
        let all = chosen + self.weighed;
        let network = self
            .router_network
            .map(|network| network.build(leaves, hidden_size));
        let width = self
            .router_network
            .map_or(hidden_size, |network| network.width);
        let projection = leaves.linear(
            self.router,
            [all, width],
            self.router_bias,
            Shard::Replicate,
        );
        let choice_bias = (!self.choice_bias.is_empty()).then(|| {
            let spellings = self.choice_bias.iter().map(|name| leaves.tensor(name));
            let source = Source::one_of(spellings.collect());
            let source = Source::Reshape(Box::new(source));
            let bias = leaves.weight(source, &[chosen], Shard::Replicate);
            if !self.counted_bias {
                leaves.set_buffer(bias);
            }
            bias
        });
        let extras = self.router_extras;
        let router = Router {
            norm: extras.map(|extras| extras.norm(leaves, hidden_size)),
            network,
            projection,
            logit_scale: extras.map_or(self.logit_scale, |extras| extras.logit_scale),
            softcap: self.softcap,
            score: self.score,
            top_k: self.top_k + self.weighed,
            always: self.weighed,
            choice_bias,
            table: self.table.map(|(name, tokens)| {
                let experts = leaves.flat(name, tokens * self.top_k);
                leaves.set_buffer(experts);
                ExpertTable { experts, tokens }
            }),
            last_choice_bias: self.last_choice_bias,
            groups: self.groups,
            renormalize: self.renormalize,
            scale: self.scale,
            expert_scale: match (extras, self.weight_scale) {
                (Some(extras), _) => {
                    let source = leaves.tensor(extras.expert_scale);
                    Some(leaves.weight(source, &[self.count], Shard::Replicate))
                }
                (None, Some(name)) => Some(leaves.scalar(name, false)),
                (None, None) => None,
            },
            capacity: self.capacity,
            weighs_input: self.weighs_input,
        };
        let expert_norm =
            extras.map(|extras| leaves.norm(extras.expert_norm, hidden_size, extras.style));
        let latent = self
            .latent
            .map(|latent| latent.build(leaves, hidden_size, self.latent_norm));
        let width = self.latent.map_or(hidden_size, |latent| latent.size);
        let expert = self.expert(leaves, width);
        let expert_output_norm = self
            .output_norm
            .map(|(name, style)| leaves.norm(name, width, style));
        let weighed = (0..self.weighed).map(|index| self.weighed(leaves, hidden_size, index));
        let weighed = weighed.collect();
        let shared = self.shared.map(|shared| FeedForward {
            clamped: self.shared_clamped,
            ..shared.build(leaves, hidden_size)
        });
        let shared_gate = self
            .shared
            .and_then(|shared| shared.gate)
            .map(|name| leaves.linear(name, [1, hidden_size], false, Shard::Replicate));
        let output_bias = self
            .output_bias
            .map(|name| leaves.weight(leaves.tensor(name), &[hidden_size], Shard::Replicate));
        Mixer::MixtureOfExperts(Box::new(MixtureOfExperts {
            experts: self.count,
            identity_experts: self.identities,
            empty_experts: self.empties,
            router,
            expert_norm,
            latent,
            expert,
            expert_output_norm,
            weighed,
            shared,
            shared_gate,
            output_scale: self.output_scale,
            output_bias,
        }))
    }

    /// One of the experts of every token that the router weighs.
    fn weighed(&self, leaves: &mut Leaves, hidden_size: usize, index: usize) -> FeedForward {
        let inner = self.intermediate_size;
        let mut linear = |name: &str, shape, shard| {
            let of = Box::new(leaves.tensor(name));
            leaves.linear_of(Source::Index { of, index }, None, shape, shard)
        };
        let [gate, up, down] = self.weighed_names;
        let gate = linear(gate, [inner, hidden_size], Shard::Column);
        let up = linear(up, [inner, hidden_size], Shard::Column);
        let down = linear(down, [hidden_size, inner], Shard::Row);
        FeedForward::plain(Some(gate), up, down, self.activation)
    }

    fn expert(&self, leaves: &mut Leaves, hidden_size: usize) -> FeedForward {
        let inner = self.intermediate_size;
        let halves =
            |part: usize, source: Source| source.part(Split::Rows(vec![inner, inner]), part);
        let each = |name: &str| Source::Each {
            of: Box::new(leaves.tensor(name)),
            count: self.count,
        };
        let (gate, [up, down]) = match self.tensors {
            ExpertTensors::Each([gate, up, down]) => (Some(each(gate)), [each(up), each(down)]),
            ExpertTensors::Ungated(names) => (None, names.map(each)),
            ExpertTensors::Alternating([both, down]) => {
                let strided = |part| leaves.tensor(both).part(Split::Strided { parts: 2 }, part);
                let [gate, up] = [0, 1].map(strided);
                (Some(gate), [up, leaves.tensor(down)])
            }
            ExpertTensors::Stacked([both, down]) => {
                let [gate, up] = [0, 1].map(|part| halves(part, leaves.tensor(both)));
                (Some(gate), [up, leaves.tensor(down)])
            }
            ExpertTensors::Either([both, down]) => {
                // A square one is as the reference has it.
                let either = |name: &str, [rows, columns]: [usize; 2]| {
                    let own = leaves.tensor(name);
                    if rows == columns {
                        return own;
                    }
                    Source::one_of(vec![own.clone(), own.transpose()])
                };
                let halves_of = |part| match either(both, [2 * inner, hidden_size]) {
                    Source::OneOf(all) => {
                        Source::OneOf(all.into_iter().map(|one| halves(part, one)).collect())
                    }
                    own => halves(part, own),
                };
                let [gate, up] = [0, 1].map(halves_of);
                (Some(gate), [up, either(down, [hidden_size, inner])])
            }
            ExpertTensors::Transposed {
                names: [both, down],
                interleaved,
            } => {
                let part = |part: usize| {
                    let both = leaves.tensor(both).transpose();
                    if interleaved {
                        both.part(Split::Strided { parts: 2 }, part)
                    } else {
                        halves(part, both)
                    }
                };
                (Some(part(0)), [part(1), leaves.tensor(down).transpose()])
            }
            ExpertTensors::UngatedTall(names) => {
                let reshaped = |name: &str| Source::Reshape(Box::new(leaves.tensor(name)));
                let [up, down] = names.map(reshaped);
                (None, [up, down.transpose()])
            }
            ExpertTensors::Tall([gate, up, down]) => {
                let reshaped = |name: &str| Source::Reshape(Box::new(leaves.tensor(name)));
                let down = reshaped(down).transpose();
                (Some(reshaped(gate)), [reshaped(up), down])
            }
        };
        let biases = self.biases(leaves);
        let [gate_bias, up_bias, down_bias] = biases;
        let mut linear = |weight, bias: Option<Source>, [rows, columns]: [usize; 2]| {
            let weight = leaves.weight(weight, &[self.count, rows, columns], Shard::Expert);
            let bias = bias.map(|bias| leaves.weight(bias, &[self.count, rows], Shard::Expert));
            Linear::plain(weight, bias, [rows, columns])
        };
        let gate = gate.map(|gate| linear(gate, gate_bias, [inner, hidden_size]));
        let up = linear(up, up_bias, [inner, hidden_size]);
        let down = linear(down, down_bias, [hidden_size, inner]);
        FeedForward {
            clamped: self.clamped,
            ..FeedForward::plain(gate, up, down, self.activation)
        }
    }

    fn biases(&self, leaves: &Leaves) -> [Option<Source>; 3] {
        let ExpertTensors::Transposed {
            names: [both, down],
            interleaved,
        } = self.tensors
        else {
            return [None, None, None];
        };
        if !self.bias {
            return [None, None, None];
        }
        let part = |part: usize| {
            let inner = self.intermediate_size;
            let split = if interleaved {
                Split::Strided { parts: 2 }
            } else {
                Split::Rows(vec![inner, inner])
            };
            Some(leaves.tensor(&format!("{both}_bias")).part(split, part))
        };
        [
            part(0),
            part(1),
            Some(leaves.tensor(&format!("{down}_bias"))),
        ]
    }
}

impl LatentSpace {
    fn build(
        self,
        leaves: &mut Leaves,
        hidden: usize,
        norm: Option<(&'static str, NormStyle)>,
    ) -> LatentExperts {
        let [down, up] = self.names;
        LatentExperts {
            down: leaves.linear(down, [self.size, hidden], self.bias, Shard::Replicate),
            norm: norm.map(|(name, style)| leaves.norm(name, self.size, style)),
            up: leaves.linear(up, [hidden, self.size], self.bias, Shard::Replicate),
        }
    }
}

impl Shared {
    fn build(self, leaves: &mut Leaves, hidden_size: usize) -> FeedForward {
        let sizes = [hidden_size, self.intermediate_size];
        match self.tensors {
            SharedTensors::Plain(names) => {
                leaves.gated_feed_forward(names, sizes, self.bias, self.activation)
            }
            SharedTensors::Fused([both, down]) => {
                leaves.fused_feed_forward([both, down], sizes, self.activation)
            }
            SharedTensors::Ungated(names) => {
                leaves.plain_feed_forward(names, sizes, self.bias, self.activation)
            }
        }
    }
}

/// Keys about the loss, the noise and the outputs of routers, in training only.
pub fn ignore_training(config: &Config) {
    config.ignore(&[
        "output_router_logits",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "router_z_loss_coef",
        "aux_loss_alpha",
        "aux_loss_coef",
        "seq_aux",
        "ep_size",
    ]);
}
