//! Inkling 2: every sublayer attends to what groups of layers left, and sums start anew with each group.

use std::rc::Rc;

use super::rules::{Rules, computed, cut_head, kinds};
use crate::build::Leaves;
use crate::families::blocks::{Blocks, Gate, Names, Projections, Tie, UnusedHead};
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::mixture::mix;
use crate::{
    Activation, Attention, ClampedGate, Config, Described, HeadNorm, Identity, KeyConvolution,
    Merge, Mixer, Norm, NormKind, NormSpan, Renormalize, RouterScore, RowWeights, Shard, Slot,
    SpecError, Step, StreamAttention, Write,
};

const NAMES: Names = Names {
    tokens: "embed",
    projections: Projections::Separate(["attn.wq_du", "attn.wk_dv", "attn.wv_dv"]),
    output: "attn.wo_ud",
    head: "model.llm.unembed",
    ..Names::USUAL
};

/// Files of the bare model lack all of it.
const PREFIX: &str = "model.llm.";

/// What queries, keys and values are projections of, in layers without windows; a network and an attention with a
/// window have the first one.
const INPUTS: [Slot; 3] = [Slot::Stash(1), Slot::Stash(2), Slot::Stash(3)];

/// The first of the slots for what groups of layers left.
const FIRST_GROUP: usize = 4;

/// The slots are as many.
const SLOTS: usize = 250;

/// Of the norm of residual streams.
const EPSILON: f64 = 1e-6;

/// The group's slot.
fn group(number: usize) -> Slot {
    Slot::Stash((FIRST_GROUP + number) as u8)
}

/// What `groups` groups left, and the sum of the one that runs.
fn streams(groups: usize) -> Vec<Slot> {
    let left = (0..groups).map(group);
    left.chain([Slot::Hidden]).collect()
}

/// Everything that a layer's steps follow from.
struct Layers {
    rules: Rules,
    /// Layers of a group.
    group: usize,
    /// Longest queries and keys.
    longest: f64,
    /// Longest mix of profiles.
    longest_mix: f64,
}

/// The text model of Inkling 2.
pub fn inkling2_text(config: &Config) -> Result<Described, SpecError> {
    let kinds = kinds(config, |layer| !(layer + 1).is_multiple_of(6), false)?;
    let rules = Rules::new(config, kinds)?;
    let of_expert = config.size("moe_intermediate_size")?;
    let mut model = rules.blocks(config, of_expert)?;
    PREFIX.clone_into(&mut model.prefix);
    model.names = NAMES;
    model.token_norm = Some(("embed_norm", model.norm));
    model.value_norm = true;
    model.tie = Tie::Always(false);
    model.logit_softcap = Some(config.positive("final_logit_softcapping")?);
    model.unused_head = UnusedHead::projection(&["model.llm.unembed.weight"]);
    cut_head(config, &mut model, NAMES.head)?;
    model.gate = Some(Gate {
        name: "attn.gate_attn",
        per_head: false,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let sigmoid = ["sigmoid".into()];
    config.neutral("scoring_func", &sigmoid, "scores of another kind")?;
    config.ignore(&["number_of_conv_states"]);
    let experts = Experts {
        tensors: ExpertTensors::Alternating(["mlp.experts.w13_weight", "mlp.experts.w2_weight"]),
        clamped: Some(ClampedGate::Soft {
            gate: config.positive("mlp_gate_softcap")?,
            up: config.positive("mlp_up_softcap")?,
        }),
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.gate.bias"],
        renormalize: Renormalize::Sum { plus: 1e-20 },
        scale: config.number("route_scale")?,
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            of_expert,
            model.activation,
        )?
    };
    mix(&mut model, experts, |_| true);
    let of_layer = rules.clone();
    model.differ(move |own, layer| {
        [own.heads, own.kv_heads, own.head_dim] = of_layer.of(layer, of_layer.sizes);
        own.attention_scale = (own.head_dim as f64).powf(-0.5);
    });
    let layers = Layers {
        rules,
        group: config.layers("n_layers_per_attn_res_block")?,
        longest: config.positive("qk_l2_clip_threshold")?,
        longest_mix: config.positive("rel_l2_clip_threshold")?,
    };
    let groups = model.layers().div_ceil(layers.group);
    if FIRST_GROUP + groups > SLOTS {
        let expected = format!(
            "a number that divides the layers in at most {} groups",
            SLOTS - FIRST_GROUP
        );
        return Err(config.invalid("n_layers_per_attn_res_block", expected));
    }
    let place = format!("{}attn_res.", model.prefix);
    let hidden = model.hidden_size;
    model.further_head = Some(Rc::new(move |leaves, head| {
        let queries = leaves.under(place.clone(), |leaves| leaves.flat("output_query", hidden));
        head.streams = Merge::Attended(StreamAttention {
            streams: streams(groups),
            queries,
            targets: Vec::new(),
            epsilon: EPSILON,
        });
    }));
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        layers.steps(own, leaves, layer)
    }));
    let mut described = model.build()?;
    described.spec.base_prefix = PREFIX;
    Ok(described)
}

impl Layers {
    fn steps(&self, own: &Blocks<'_>, leaves: &mut Leaves, layer: usize) -> Vec<Step> {
        let groups = layer.div_ceil(self.group);
        let begins = layer.is_multiple_of(self.group);
        let is_near = self.rules.kinds[layer].is_near;
        let wanted = if is_near { 1 } else { INPUTS.len() };
        let mut steps = Vec::new();
        // In front of the first layer there is one stream only.
        let mut inputs = [Slot::Hidden; INPUTS.len()];
        if layer > 0 {
            inputs = INPUTS;
            let name = format!("attn_queries.{}", layer - 1);
            let targets = &INPUTS[..wanted];
            steps.push(attend(own, leaves, &name, (groups, targets)));
        }
        if is_near {
            let mut attention = self.attention(own, leaves, layer);
            let names = ["attn.k_sconv", "attn.v_sconv"];
            let of_keys = (names, self.scale(1));
            attention.convolutions = self.rules.of_keys(own, leaves, of_keys);
            let attention = Mixer::Attention(Box::new(attention));
            steps.push(computed(own, leaves, (inputs[0], "attn_norm"), attention));
        } else {
            let norms = [(1, "k_input_norm"), (2, "v_input_norm")];
            for (place, name) in norms {
                let norm = leaves.norm(name, own.hidden_size, own.norm);
                steps.push(copy((inputs[place], Some(norm)), INPUTS[place]));
            }
            let mut attention = self.attention(own, leaves, layer);
            attention.key_value_inputs = Some([INPUTS[1], INPUTS[2]]);
            let names = ["attn.k_sconv", "attn.v_sconv"];
            let each = names.map(|name| self.of_rows(own, leaves, name));
            attention.convolutions = Some(Box::new(each));
            let attention = Mixer::Attention(Box::new(attention));
            steps.push(computed(
                own,
                leaves,
                (inputs[0], "q_input_norm"),
                attention,
            ));
        }
        let mut add = self.rules.add(own, leaves, ("attn_sconv", self.scale(1)));
        if begins {
            steps.push(copy((Slot::Hidden, None), group(groups)));
            add.write = Write::Set(Slot::Hidden);
        }
        steps.push(add);
        let groups = groups + usize::from(begins);
        let name = format!("mlp_queries.{layer}");
        steps.push(attend(own, leaves, &name, (groups, &INPUTS[..1])));
        let network = own.feed_forward(leaves, layer);
        steps.push(computed(own, leaves, (INPUTS[0], "mlp_norm"), network));
        steps.push(self.rules.add(own, leaves, ("mlp_sconv", self.scale(1))));
        steps
    }

    /// Factor on the sum of a convolution whose taps are sums of so many weights.
    fn scale(&self, weights: usize) -> f64 {
        ((weights * self.rules.kernel + 1) as f64).sqrt().recip()
    }

    fn attention(&self, own: &Blocks<'_>, leaves: &mut Leaves, layer: usize) -> Attention {
        let clip = |weight, longest, span| HeadNorm {
            norm: Norm {
                kind: NormKind::AtMost(longest),
                weight,
                bias: None,
                epsilon: EPSILON,
            },
            span,
            after_rotation: false,
        };
        let names = ["attn.wr_du", "attn.rel_logits_proj.proj"];
        let of_mix = |leaves: &mut Leaves, [heads, rank]: [usize; 2]| {
            let scale = leaves.flat("attn.rel_l2_clip.scale", heads * rank);
            Some(clip(Some(scale), self.longest_mix, NormSpan::HeadOwnWeight))
        };
        let mut attention = self.rules.attention(own, leaves, layer, (names, of_mix));
        let scale = leaves.flat("attn.q_l2_clip.scale", own.heads * own.head_dim);
        let of_queries = clip(Some(scale), self.longest, NormSpan::HeadOwnWeight);
        attention.query_norm = Some(of_queries);
        attention.key_norm = Some(clip(None, self.longest, NormSpan::Head));
        let shape = [own.heads, own.hidden_size];
        let sinks = leaves.linear("attn.attn_sink_proj", shape, false, Shard::Column);
        attention.row_sinks = Some(sinks);
        attention
    }

    fn of_rows(&self, own: &Blocks<'_>, leaves: &mut Leaves, name: &str) -> KeyConvolution {
        let (heads, kernel) = (own.kv_heads, self.rules.kernel);
        let columns = heads * own.head_dim;
        let weight = leaves.flat(&format!("{name}.static_w"), kernel * columns);
        let source = leaves.tensor(&format!("{name}.weight_proj"));
        let shape = [heads * kernel, own.hidden_size];
        KeyConvolution::OfRows(RowWeights {
            weight,
            own: leaves.linear_of(source, None, shape, Shard::Column),
            heads,
            columns,
            kernel,
            scale: self.scale(2),
        })
    }
}

/// Attention of learned queries to what `groups` groups left and to the running sum.
fn attend(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    name: &str,
    (groups, targets): (usize, &[Slot]),
) -> Step {
    let place = format!("{}attn_res.", own.prefix);
    let elements = targets.len() * own.hidden_size;
    Step::residual(Mixer::StreamAttention(StreamAttention {
        streams: streams(groups),
        queries: leaves.under(place, |leaves| leaves.flat(name, elements)),
        targets: targets.to_vec(),
        epsilon: EPSILON,
    }))
}

/// `target = norm(slot)`.
fn copy((read, norm): (Slot, Option<Norm>), target: Slot) -> Step {
    Step {
        read,
        pre: norm,
        write: Write::Set(target),
        ..Step::residual(Mixer::Identity(Identity))
    }
}
