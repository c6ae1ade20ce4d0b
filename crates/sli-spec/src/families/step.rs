//! Step 3.5 and the text model of Step 3.7: more heads in layers with windows, a gate for each head, limited gates.

use serde_json::{Map, Value, json};

use super::experts::{ExpertTensors, Experts, SHARED_EXPERTS, Shared};
use super::mixture::{by_kind, sparse_layers};
use crate::build::{NormStyle, layer_types};
use crate::families::blocks::{Blocks, Gate, MixerOf};
use crate::model_type::{ModelType, row};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, ClampedGate, Config, Described, Mixer, NormSpan, Renormalize, RouterScore,
    SpecError,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("step3p5", step3p5)];

/// `swiglu_limits` and `swiglu_limits_shared`: the limits of every layer, of the chosen experts and of all other
/// networks.
struct Limits {
    chosen: Vec<Option<ClampedGate>>,
    others: Vec<Option<ClampedGate>>,
}

/// The text model of Step 3.7.
pub fn step3p5(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle {
        plus_one: true,
        ..NormStyle::rms(config.positive("rms_norm_eps")?)
    };
    let mut model = Blocks::new(config, norm)?;
    model.family = "step";
    // The class has this one whatever the file says.
    config.ignore(&["hidden_act"]);
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    model.query_key_norm = Some((NormSpan::Head, norm));
    let scalar = config.optional_positive("query_pre_attn_scalar")?;
    model.attention_scale = scalar.unwrap_or(model.head_dim as f64).powf(-0.5);
    config.off("use_bidirectional_attention", "tokens that see later ones")?;
    let gating = [true.into(), "per-head".into()];
    config.neutral("gating", &gating, "a gate of other parts than heads")?;
    model.gate = Some(Gate {
        name: "self_attn.g_proj",
        per_head: true,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let layers = model.layers();
    let kinds = layer_types(config, layers, |_| "full_attention")?;
    let window = config.optional_size("sliding_window")?;
    model.mask_by_kinds(&kinds, window)?;
    rotate(config, &mut model, &kinds)?;
    let heads = heads(config, &model, &kinds)?;
    let limits = Limits {
        chosen: limits(config, "swiglu_limits", layers)?,
        others: limits(config, "swiglu_limits_shared", layers)?,
    };
    model.differ(move |own, layer| [own.heads, own.kv_heads] = heads[layer]);
    set_networks(config, &mut model, limits)?;
    // Layers for further tokens stand behind the others.
    config.ignore(&[
        "num_nextn_predict_layers",
        "mtp_layer_types",
        "mtp_mlp_layer_types",
    ]);
    model.build()
}

/// A rotation for each kind of layer.
fn rotate(config: &Config, model: &mut Blocks<'_>, kinds: &[String]) -> Result<(), SpecError> {
    let older = older_rotations(config, kinds)?;
    if let Some(parameters) = config.nested("rope_parameters")? {
        by_kind(config)?;
        if let Some(kind) = kinds.iter().find(|kind| !parameters.in_file(kind)) {
            let reason = format!("there is no object for `{kind}`");
            return Err(config.unsupported("rope_parameters", reason));
        }
    }
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            // Keys beside it complete none of its objects.
            theta_keys: &[],
            scaled: false,
            assumed: Some(&older),
            ..RopeOptions::new(model.head_dim)
        };
        model.ropes[layer] = Rope::from_config(config, &options)?;
    }
    Ok(())
}

/// The same of older files, which have a base and a part of the heads for each layer: those of the first layer of a kind
/// count. Scaled are layers without windows.
fn older_rotations(config: &Config, kinds: &[String]) -> Result<Value, SpecError> {
    let layers = kinds.len();
    let of_layers = |key: &str| match config.value(key) {
        None => Ok(None),
        Some(Value::Array(values)) if values.len() < layers => {
            Err(config.invalid(key, format!("one entry for each of {layers} layers")))
        }
        Some(Value::Array(values)) => Ok(Some(values.clone())),
        Some(value) => Ok(Some(vec![value.clone(); layers])),
    };
    let bases = of_layers("rope_theta")?;
    let parts = of_layers("partial_rotary_factors")?;
    let scaling = config.value("rope_scaling").and_then(Value::as_object);
    let mut kinds_of = Map::new();
    for (layer, kind) in kinds.iter().enumerate() {
        if kinds_of.contains_key(kind) {
            continue;
        }
        let mut own = Map::new();
        own.insert("rope_type".into(), "default".into());
        let base = bases
            .as_ref()
            .map_or(json!(10_000.0), |bases| bases[layer].clone());
        own.insert("rope_theta".into(), base);
        if let Some(parts) = &parts {
            own.insert("partial_rotary_factor".into(), parts[layer].clone());
        }
        if kind == "full_attention" {
            own.extend(scaling.cloned().into_iter().flatten());
        }
        kinds_of.insert(kind.clone(), own.into());
    }
    Ok(kinds_of.into())
}

/// `[heads, key heads]` of every layer.
fn heads(
    config: &Config,
    model: &Blocks<'_>,
    kinds: &[String],
) -> Result<Vec<[usize; 2]>, SpecError> {
    let of_windows = config.optional_heads("num_sliding_attention_heads")?;
    let of_windows = of_windows.unwrap_or(model.heads);
    let overrides = config.nested("per_layer_config")?;
    let of_layer = |(layer, kind): (usize, &String)| {
        let mut own = [model.heads, model.kv_heads];
        match &overrides {
            Some(overrides) => {
                if let Some(changed) = overrides.nested(&layer.to_string())? {
                    let changed = [
                        changed.optional_heads("num_attention_heads")?,
                        changed.optional_heads("num_key_value_heads")?,
                    ];
                    for (own, changed) in own.iter_mut().zip(changed) {
                        *own = changed.unwrap_or(*own);
                    }
                }
            }
            None if kind == "sliding_attention" => own[0] = of_windows,
            None => {}
        }
        if own[0].is_multiple_of(own[1]) {
            return Ok(own);
        }
        let expected = format!("a divisor of {}, the heads of layer {layer}", own[0]);
        Err(config.invalid("num_key_value_heads", expected))
    };
    kinds.iter().enumerate().map(of_layer).collect()
}

/// What gates are limited to, layer by layer; 0 is no limit.
fn limits(
    config: &Config,
    key: &str,
    layers: usize,
) -> Result<Vec<Option<ClampedGate>>, SpecError> {
    let none = vec![None; layers];
    let Some(value) = config.value(key) else {
        return Ok(none);
    };
    let invalid = || config.invalid(key, format!("a number or null for each of {layers} layers"));
    let values = value.as_array().ok_or_else(invalid)?;
    if values.is_empty() {
        return Ok(none);
    }
    if values.len() < layers {
        return Err(invalid());
    }
    let limit = |value: &Value| match value {
        Value::Null => Ok(None),
        value => {
            let limit = value.as_f64().filter(|&limit| limit >= 0.0);
            let limit = limit.ok_or_else(invalid)?;
            Ok((limit > 0.0).then_some(ClampedGate::Activated { limit }))
        }
    };
    values[..layers].iter().map(limit).collect()
}

/// Experts in some layers, and limited networks in all.
fn set_networks<'c>(
    config: &'c Config,
    model: &mut Blocks<'c>,
    limits: Limits,
) -> Result<(), SpecError> {
    let layers = model.layers();
    let sparse = sparse_layers(config, layers, |layer| layer >= 3)?;
    let activation = model.activation;
    let experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.gate.e_score_correction_bias"],
        renormalize: Renormalize::Sum { plus: 0.0 },
        scale: config.number("moe_router_scaling_factor")?,
        shared: Some(Shared {
            tensors: SHARED_EXPERTS,
            intermediate_size: config.size("share_expert_dim")?,
            bias: model.up_bias,
            activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            config.size("moe_intermediate_size")?,
            activation,
        )?
    };
    model.feed_forward_of = MixerOf::new(move |own, leaves, layer| {
        if !sparse[layer] {
            let mut network = own.network(leaves);
            network.clamped = limits.others[layer];
            return Some(Mixer::FeedForward(network));
        }
        let mut mixer = experts.build(leaves, own.hidden_size);
        if let Mixer::MixtureOfExperts(experts) = &mut mixer {
            experts.expert.clamped = limits.chosen[layer];
            if let Some(shared) = &mut experts.shared {
                shared.clamped = limits.others[layer];
            }
        }
        Some(mixer)
    });
    Ok(())
}
