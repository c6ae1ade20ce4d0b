//! Gemma 3n and Gemma 4: inputs of its own for every layer, and last layers that use the keys and values
//! of earlier ones. Gemma 3n carries several residual streams.

mod gemma3n;
mod quantile;
mod shared;

use self::shared::Gemma;
use crate::build::{Leaves, layer_types};
use crate::families::experts::{ExpertTensors, Experts, RouterExtras};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    Branch, Config, Gain, Identity, Layer, Mask, Mixer, ModelSpec, Renormalize, Shard, Slot,
    SpecError, Step, Write,
};

pub use self::gemma3n::gemma3n;

/// Gemma 4, with or without images beside it.
pub fn gemma4(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut kinds = layer_types(config, config.layers("num_hidden_layers")?, |layer| {
        if (layer + 1) % 6 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    // The reference makes it so.
    if let Some(last) = kinds.last_mut() {
        "full_attention".clone_into(last);
    }
    config.may_look_ahead();
    let mut model = Gemma::new(config, kinds)?;
    if config.flag("enable_moe_block")? {
        model.experts = Some(model.gemma4_experts()?);
    } else {
        config.ignore(&["moe_intermediate_size", "num_experts", "top_k_experts"]);
    }
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
    layer_sizes(config, &mut model)?;
    model.ropes = (0..model.layers())
        .map(|layer| gemma4_rope(config, &model.kinds[layer], model.sizes[layer][0]))
        .collect::<Result<_, _>>()?;
    let size = config.size("intermediate_size")?;
    let double = config.flag("use_double_wide_mlp")?;
    let wide = |source: &Option<usize>| if double && source.is_some() { 2 } else { 1 };
    model.intermediate_sizes = model
        .sources
        .iter()
        .map(|source| size * wide(source))
        .collect();
    let layers = (0..model.layers())
        .map(|layer| gemma4_layer(&model, layer))
        .collect::<Result<_, _>>()?;
    model.model(1, layers)
}

/// Sizes of the heads, which differ between kinds of layers.
fn layer_sizes(config: &Config, model: &mut Gemma<'_>) -> Result<(), SpecError> {
    let global = config.optional_heads("global_head_dim")?.unwrap_or(512);
    let global_heads = config.optional_heads("num_global_key_value_heads")?;
    let global_heads = global_heads.filter(|_| config.flag("attention_k_eq_v").unwrap_or(false));
    let overrides = config.nested("per_layer_config")?;
    for layer in 0..model.layers() {
        let size = &mut model.sizes[layer];
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
            None if model.kinds[layer] == "full_attention" => {
                *size = [global, global_heads.unwrap_or(size[1])];
            }
            None => {}
        }
    }
    Ok(())
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

impl Gemma<'_> {
    fn gemma4_experts(&self) -> Result<Experts, SpecError> {
        let config = self.config;
        let keys = ["num_experts", "top_k_experts"];
        let inner = config.size("moe_intermediate_size")?;
        let mut experts = Experts::new(config, keys, inner, self.activation)?;
        experts.tensors = ExpertTensors::Stacked(["experts.gate_up_proj", "experts.down_proj"]);
        experts.router = "router.proj";
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
        experts.router_extras = Some(RouterExtras {
            style: self.norm,
            router_norm: "router.scale",
            logit_scale: (self.hidden_size as f64).powf(-0.5),
            expert_scale: "router.per_expert_scale",
            expert_norm: "pre_feedforward_layernorm_2",
        });
        Ok(experts)
    }
}

fn gemma4_layer(model: &Gemma<'_>, layer: usize) -> Result<Layer, SpecError> {
    let mut leaves = Leaves::new(format!("{}layers.{layer}.", model.base));
    let norm = |leaves: &mut Leaves, name: &str| leaves.norm(name, model.hidden_size, model.norm);
    let pre = norm(&mut leaves, "input_layernorm");
    let attention = model.attention(&mut leaves, layer)?;
    let mut steps = vec![Step {
        pre: Some(pre),
        post: Some(norm(&mut leaves, "post_attention_layernorm")),
        ..Step::residual(attention)
    }];
    let pre = norm(&mut leaves, "pre_feedforward_layernorm");
    let network = Mixer::FeedForward(model.feed_forward(&mut leaves, layer));
    let mut step = Step::residual(network);
    if let Some(experts) = &model.experts {
        step.branches[0].pre = Some(pre);
        step.branches[0].post = Some(norm(&mut leaves, "post_feedforward_layernorm_1"));
        // The experts and their router each normalise the hidden state in their own way.
        let mixer = experts.build(&mut leaves, model.hidden_size);
        step.branches.push(Branch {
            post: Some(norm(&mut leaves, "post_feedforward_layernorm_2")),
            ..Branch::plain(mixer)
        });
    } else {
        step.pre = Some(pre);
    }
    step.post = Some(norm(&mut leaves, "post_feedforward_layernorm"));
    steps.push(step);
    if model.input_size > 0 {
        let mixer = model.layer_input(&mut leaves);
        steps.push(Step {
            post: Some(norm(&mut leaves, "post_per_layer_input_norm")),
            ..Step::residual(mixer)
        });
    }
    let scalar = leaves.tensor("layer_scalar");
    let scalar = leaves.weight(scalar, &[1], Shard::Replicate);
    leaves.set_buffer(scalar);
    steps.push(scaled(Slot::Hidden, Gain::Vector(scalar), Slot::Hidden));
    Ok(leaves.layer(steps))
}

/// `target = gain * slot`.
fn scaled(slot: Slot, gain: Gain, target: Slot) -> Step {
    let mut step = Step::residual(Mixer::Identity(Identity));
    step.read = slot;
    step.branches[0].gain = gain;
    step.write = Write::Set(target);
    step
}
