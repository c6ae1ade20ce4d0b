//! ZAYA: compressed convolutional attention, experts that a network chooses, factors and addends on everything that is
//! added up.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, layer_types};
use crate::families::blocks::{Blocks, MixerOf};
use crate::families::experts::{ExpertTensors, Experts, InFrontOfRouter};
use crate::model_type::{ModelType, row};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Attention, CompressedMixing, Config, Described, KeyValue, Linear, Mask, Mixer,
    Mixing, Norm, NormKind, Position, Shard, Source, SpecError, Split, Step, WeightIndex, Write,
};

/// Names of a norm and of the factors of a sublayer, and its mixer.
type Sublayer<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Leaves) -> Mixer);

/// The registered types.
pub const TYPES: &[ModelType] = &[row("zaya", zaya)];

/// Kinds of layers: of all earlier tokens, and of those within a window.
const KINDS: [&str; 2] = ["hybrid", "hybrid_sliding"];

/// Bases of their rotations where the file says nothing.
const THETAS: [f64; 2] = [5_000_000.0, 10_000.0];

/// Under the attention of a layer.
const PROJECTIONS: &str = "self_attn.qkv_proj";

/// ZAYA.
pub fn zaya(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("moe_intermediate_size")?;
    let mut model = Blocks::with_width(config, norm, inner)?;
    model.family = "zaya";
    model.may_look_ahead = false;
    model.set_attention_bias(config.flag("attention_bias")?);
    model.head_bias = config.flag("lm_head_bias")?;
    model.activation = config.activation("hidden_act")?;
    // Queries and keys have the length of their features' root.
    model.attention_scale = (model.head_dim as f64).sqrt();
    attend(config, &mut model)?;
    let problem = "the heads of values have two halves";
    if !(model.kv_heads * model.head_dim).is_multiple_of(2) {
        return Err(config.unsupported("head_dim", problem));
    }
    let kernels = [config.size("cca_time0")?, config.size("cca_time1")?];
    model.attention_of = MixerOf::new(move |own, leaves, layer| {
        let attention = attention(own, leaves, layer, kernels);
        Some(Mixer::Attention(Box::new(attention)))
    });
    let experts = experts(config, &model)?;
    let network = in_front_of_router(config, norm)?;
    model.feed_forward_of = MixerOf::new(move |own, leaves, layer| {
        let mut experts = experts.clone();
        experts.router_network = Some(InFrontOfRouter {
            earlier: network.earlier.filter(|_| layer > 0),
            ..network
        });
        Some(experts.build(leaves, own.hidden_size))
    });
    model.layer_of = Some(Rc::new(|own, leaves, layer| {
        let sublayers: [Sublayer<'_>; 2] = [
            (
                "input_layernorm",
                "post_attention_residual_scale",
                &|leaves| own.attention(leaves, layer),
            ),
            (
                "post_attention_layernorm",
                "post_mlp_residual_scale",
                &|leaves| own.feed_forward(leaves, layer),
            ),
        ];
        let step = |(norm, scales, mixer): Sublayer<'_>| {
            let norm = leaves.norm(norm, own.hidden_size, own.norm);
            let mixer = mixer(leaves);
            let mut scaled = |what: &str| {
                let names = ["scale", "bias"].map(|part| format!("{scales}.{what}_{part}"));
                affine(leaves, names, own.hidden_size)
            };
            Step {
                pre: Some(norm),
                post: Some(scaled("hidden_states")),
                write: Write::AddToNormed(scaled("residual")),
                ..Step::residual(mixer)
            }
        };
        sublayers.map(step).into()
    }));
    let hidden = model.hidden_size;
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        let names = ["scale", "bias"].map(|part| format!("input_hidden_states_{part}"));
        embedding.norm = Some(affine(leaves, names, hidden));
    }));
    model.build()
}

/// Factors and addends `[factors, addends]`.
fn affine(leaves: &mut Leaves, names: [String; 2], features: usize) -> Norm {
    let [weight, bias] = names.map(|name| {
        let source = leaves.tensor(&name);
        leaves.weight(source, &[features], Shard::Replicate)
    });
    Norm {
        kind: NormKind::Shifted,
        weight: Some(weight),
        bias: Some(bias),
        epsilon: 0.0,
    }
}

/// Masks and rotations by the kinds of layers.
fn attend(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    let kinds = layer_types(config, model.layers(), |_| KINDS[0])?;
    let window = config.optional_size("sliding_window")?;
    if let Some(ropes) = config.nested("rope_parameters")? {
        // What published files say beside the kinds, and of kinds that no layer is of.
        ropes.ignore(&["rope_type"]);
        let unused = KINDS
            .iter()
            .filter(|kind| !kinds.iter().any(|own| own == *kind));
        unused.for_each(|kind| ropes.ignore(&[kind]));
    }
    for (layer, kind) in kinds.iter().enumerate() {
        model.masks[layer] = match kind.as_str() {
            kind if kind == KINDS[0] => Mask::Causal,
            kind if kind == KINDS[1] => {
                Mask::CausalWindow(window.ok_or_else(|| config.missing("sliding_window"))?)
            }
            other => {
                let reason = format!("`{other}` is no kind of layer of this type");
                return Err(config.unsupported("layer_types", reason));
            }
        };
        model.ropes[layer] = if config.in_file("rope_parameters") {
            let options = RopeOptions {
                partial: true,
                layer_type: Some(kind),
                ..RopeOptions::new(model.head_dim)
            };
            Rope::from_config(config, &options)?
        } else {
            let theta = THETAS[usize::from(kind == KINDS[1])];
            // Half of a head.
            Some(Rope::plain(model.head_dim / 2, theta))
        };
    }
    Ok(())
}

fn attention(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    layer: usize,
    kernels: [usize; 2],
) -> Attention {
    let (hidden, heads, kv_heads, dim) = (own.hidden_size, own.heads, own.kv_heads, own.head_dim);
    let (queries, keys) = (heads * dim, kv_heads * dim);
    let bias = own.query_key_value_bias;
    let name = |part: &str| format!("{PROJECTIONS}.{part}");
    let query = leaves.linear(&name("q_proj"), [queries, hidden], bias, Shard::Column);
    let key = leaves.linear(&name("k_proj"), [keys, hidden], bias, Shard::Column);
    let halves = |leaves: &Leaves, parameter: &str| {
        let half = |part: &str| leaves.tensor(&format!("{}.{parameter}", name(part)));
        Source::ConcatRows(["v_proj_current", "v_proj_delayed"].map(half).to_vec())
    };
    let weight = halves(leaves, "weight");
    let value = leaves.linear_of(weight, None, [keys, hidden], Shard::Column);
    let value_bias = bias.then(|| {
        let source = halves(leaves, "bias");
        leaves.weight(source, &[keys], Shard::Column)
    });
    let columns = queries + keys;
    let convolution = name("conv_qk_depthwise");
    let shape = [columns, kernels[0]];
    let convolution = leaves.convolution(&convolution, shape, true, Activation::Linear);
    let grouped = (0..heads + kv_heads).map(|head| {
        let part = |source: Source| source.part(Split::Rows(vec![dim; heads + kv_heads]), head);
        let weight = leaves.tensor(&name("conv_qk_grouped.weight"));
        let weight = part(Source::Reshape(Box::new(weight)));
        let bias = part(leaves.tensor(&name("conv_qk_grouped.bias")));
        leaves.linear_of(
            weight,
            Some(bias),
            [dim, dim * kernels[1]],
            Shard::Replicate,
        )
    });
    let grouped: Vec<Linear> = grouped.collect();
    let key_scale: WeightIndex = {
        let source = leaves.tensor("self_attn.qk_norm.temp");
        leaves.weight(source, &[kv_heads], Shard::Replicate)
    };
    let mixing = Mixing::Compressed(Box::new(CompressedMixing {
        columns: convolution,
        heads: grouped,
        kernel: kernels[1],
        key_scale,
        value_bias,
    }));
    let name = own.names.output;
    let output = leaves.linear(name, [hidden, queries], own.output_bias, Shard::Row);
    let key_value = KeyValue::Own {
        key,
        value: Some(value),
    };
    let rope = own.ropes[layer].clone().map(Position::Rope);
    let sizes = [heads, kv_heads, dim];
    Attention {
        mixing: Some(mixing),
        scale: own.attention_scale,
        positions: rope.into_iter().collect(),
        ..Attention::plain(sizes, query, key_value, output, own.masks[layer])
    }
}

fn experts(config: &Config, model: &Blocks<'_>) -> Result<Experts, SpecError> {
    let names = ["num_experts", "num_experts_per_tok"];
    let mut experts = Experts::new(config, names, model.intermediate_size, model.activation)?;
    let problem = "the class knows one expert a token";
    config.neutral("num_experts_per_tok", &[1.into()], problem)?;
    experts.empties = 1;
    experts.tensors = ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]);
    experts.router = "mlp.gate.router_mlp.out_proj";
    experts.choice_bias = &["mlp.gate.balancing_biases"];
    // The class sets it whenever it loads a file.
    experts.last_choice_bias = Some(-1.0);
    Ok(experts)
}

fn in_front_of_router(config: &Config, style: NormStyle) -> Result<InFrontOfRouter, SpecError> {
    Ok(InFrontOfRouter {
        width: config.size("router_hidden_size")?,
        style,
        down: "mlp.gate.down_proj",
        earlier: Some("mlp.gate.router_states_scale"),
        norm: "mlp.gate.router_mlp.norm",
        layers: ["mlp.gate.router_mlp.fc1", "mlp.gate.router_mlp.fc2"],
    })
}
