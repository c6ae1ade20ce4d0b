//! Gemma 3n and Gemma 4: inputs of its own for every layer, and last layers that use the keys and values
//! of earlier ones. Gemma 3n carries several residual streams.

mod embedding;
mod gemma3n;
mod quantile;
mod shared;

pub(crate) use quantile::normal_quantile;

use std::rc::Rc;

use self::shared::{kinds, layer_input, own_inputs, plain, set_inputs, sources};
use crate::build::{Leaves, divided};
use crate::families::blocks::Blocks;
use crate::families::experts::{ExpertTensors, Experts, RouterExtras};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    Branch, Config, Described, Gain, Identity, Mask, Mixer, Renormalize, Shard, Slot, SpecError,
    Step, Write,
};

pub use self::embedding::embedding_gemma2;
pub use self::gemma3n::gemma3n;
use crate::model_type::{ModelType, row};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("embedding_gemma2_text", embedding_gemma2),
    row("gemma3n_text", gemma3n),
    row("gemma4_text", gemma4),
    row("gemma4_unified_text", gemma4),
];

/// Gemma 4, with or without images beside it.
pub fn gemma4(config: &Config) -> Result<Described, SpecError> {
    let kinds = kinds(config, 6)?;
    let mut model = plain(config, &kinds)?;
    let experts = if config.flag("enable_moe_block")? {
        Some(gemma4_experts(config, &model)?)
    } else {
        config.ignore(&["moe_intermediate_size", "num_experts", "top_k_experts"]);
        None
    };
    match config
        .optional_text("use_bidirectional_attention")?
        .as_deref()
    {
        // Of text no token is a part of an image.
        None | Some("vision") => {}
        Some("all") => {
            for mask in &mut model.masks {
                *mask = match *mask {
                    Mask::CausalWindow(window) => Mask::Window(window / 2 + 1),
                    _ => Mask::Full,
                };
            }
        }
        Some(_) => {
            let key = "use_bidirectional_attention";
            return Err(config.unsupported(key, "neither all nor vision"));
        }
    }
    let sources = sources(config, &mut model, &kinds)?;
    let global_heads = config.optional_heads("num_global_key_value_heads")?;
    let global_heads = global_heads.filter(|_| config.flag("attention_k_eq_v").unwrap_or(false));
    let sizes = layer_sizes(config, &model, &kinds, global_heads)?;
    check_sizes(config, model.heads, &sizes, &sources)?;
    model.ropes = kinds
        .iter()
        .zip(&sizes)
        .map(|(kind, size)| gemma4_rope(config, kind, size[0]))
        .collect::<Result<_, _>>()?;
    model.intermediate_size = config.size("intermediate_size")?;
    let double = config.flag("use_double_wide_mlp")?;
    let same = config.flag("attention_k_eq_v")?;
    let inputs = own_inputs(config)?;
    set_inputs(config, &mut model, inputs, 1)?;
    model.differ(move |own, layer| {
        [own.head_dim, own.kv_heads] = sizes[layer];
        own.keys_of_layer = sources[layer];
        own.values_are_keys = same && kinds[layer] == "full_attention";
        if double && sources[layer].is_some() {
            own.intermediate_size *= 2;
        }
    });
    let input_width = inputs.map(|inputs| inputs.width);
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        gemma4_layer(own, leaves, layer, (experts.as_ref(), input_width), "")
    }));
    model.build()
}

/// An error where heads cannot share keys.
fn check_sizes(
    config: &Config,
    heads: usize,
    sizes: &[[usize; 2]],
    sources: &[Option<usize>],
) -> Result<(), SpecError> {
    for (size, source) in sizes.iter().zip(sources) {
        divided(config, "num_key_value_heads", heads, size[1])?;
        if source.is_some_and(|source| sizes[source] != *size) {
            let reason = "layers that share keys have heads of other sizes";
            return Err(config.unsupported("num_kv_shared_layers", reason));
        }
    }
    Ok(())
}

/// Features of a head and key/value heads, which differ between kinds of layers.
fn layer_sizes(
    config: &Config,
    model: &Blocks<'_>,
    kinds: &[String],
    global_heads: Option<usize>,
) -> Result<Vec<[usize; 2]>, SpecError> {
    let global = config.optional_heads("global_head_dim")?.unwrap_or(512);
    let overrides = config.nested("per_layer_config")?;
    let size_of = |(layer, kind): (usize, &String)| {
        let mut size = [model.head_dim, model.kv_heads];
        match &overrides {
            Some(overrides) => {
                if let Some(own) = overrides.nested(&layer.to_string())? {
                    if let Some(head_dim) = own.optional_heads("head_dim")? {
                        size[0] = head_dim;
                    }
                    if let Some(heads) = own.optional_heads("num_key_value_heads")? {
                        size[1] = heads;
                    }
                }
            }
            None if kind == "full_attention" => {
                size = [global, global_heads.unwrap_or(size[1])];
            }
            None => {}
        }
        Ok(size)
    };
    kinds.iter().enumerate().map(size_of).collect()
}

fn gemma4_rope(config: &Config, kind: &str, head_dim: usize) -> Result<Option<Rope>, SpecError> {
    if config.value("rope_parameters").is_none() {
        let (theta, scaling) = if kind == "full_attention" {
            let rotated = head_dim / 8;
            let scaling = RopeScaling::Proportional {
                factor: 1.0,
                rotated,
            };
            (1_000_000.0, scaling)
        } else {
            (10_000.0, RopeScaling::Default)
        };
        return Ok(Some(Rope {
            scaling,
            ..Rope::plain(head_dim, theta)
        }));
    }
    Rope::from_config(
        config,
        &RopeOptions {
            layer_type: Some(kind),
            theta_keys: &[],
            scaled: false,
            ..RopeOptions::new(head_dim)
        },
    )
}

fn gemma4_experts(config: &Config, model: &Blocks<'_>) -> Result<Experts, SpecError> {
    let keys = ["num_experts", "top_k_experts"];
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts::new(config, keys, inner, model.activation)?;
    experts.tensors = ExpertTensors::Stacked(["experts.gate_up_proj", "experts.down_proj"]);
    experts.router = "router.proj";
    experts.renormalize = Renormalize::Sum { plus: 0.0 };
    experts.router_extras = Some(RouterExtras {
        style: model.norm,
        router_norm: "router.scale",
        logit_scale: (model.hidden_size as f64).powf(-0.5),
        expert_scale: "router.per_expert_scale",
        expert_norm: "pre_feedforward_layernorm_2",
    });
    Ok(experts)
}

fn gemma4_layer(
    model: &Blocks<'_>,
    leaves: &mut Leaves,
    layer: usize,
    (experts, input_width): (Option<&Experts>, Option<usize>),
    input_place: &str,
) -> Vec<Step> {
    let norm = |leaves: &mut Leaves, name: &str| leaves.norm(name, model.hidden_size, model.norm);
    let pre = norm(leaves, "input_layernorm");
    let attention = model.attention(leaves, layer);
    let mut steps = vec![Step {
        pre: Some(pre),
        post: Some(norm(leaves, "post_attention_layernorm")),
        ..Step::residual(attention)
    }];
    let pre = norm(leaves, "pre_feedforward_layernorm");
    let network = model.feed_forward(leaves, layer);
    let mut step = Step::residual(network);
    if let Some(experts) = experts {
        step.branches[0].pre = Some(pre);
        step.branches[0].post = Some(norm(leaves, "post_feedforward_layernorm_1"));
        // The experts and their router each normalise the hidden state in their own way.
        let mixer = experts.build(leaves, model.hidden_size);
        step.branches.push(Branch {
            post: Some(norm(leaves, "post_feedforward_layernorm_2")),
            ..Branch::plain(mixer)
        });
    } else {
        step.pre = Some(pre);
    }
    step.post = Some(norm(leaves, "post_feedforward_layernorm"));
    steps.push(step);
    if let Some(width) = input_width {
        steps.push(leaves.nested(input_place, |leaves| {
            let mixer = layer_input(model, leaves, width);
            Step {
                post: Some(norm(leaves, "post_per_layer_input_norm")),
                ..Step::residual(mixer)
            }
        }));
    }
    let scalar = leaves.tensor("layer_scalar");
    let scalar = leaves.weight(scalar, &[1], Shard::Replicate);
    leaves.set_buffer(scalar);
    steps.push(scaled(Slot::Hidden, Gain::Vector(scalar), Slot::Hidden));
    steps
}

/// `target = gain * slot`.
fn scaled(slot: Slot, gain: Gain, target: Slot) -> Step {
    let mut step = Step::residual(Mixer::Identity(Identity));
    step.read = slot;
    step.branches[0].gain = gain;
    step.write = Write::Set(target);
    step
}
