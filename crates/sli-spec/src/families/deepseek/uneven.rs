//! DeepSeek-V3's experts, and attention whose sizes differ between layers.

use super::v3_experts;
use serde_json::json;

use crate::build::{divided, layer_types};
use crate::families::blocks::{Arrangement, Blocks, Gate, Residual};
use crate::families::experts::{Experts, Shared};
use crate::families::mixture::{by_kind, mix, plain, sparse_layers};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Config, Described, Mask, NormSpan, QueryTemperature, Renormalize, RouterScore,
    SpecError,
};

/// MiMo-V2-Flash: layers with windows have twice the key heads, and sinks.
pub fn mimo_v2_flash(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    let layers = decoder.layers();
    let window = match config.optional_size("sliding_window_size")? {
        Some(size) => size + 1,
        None => config.size("sliding_window")?,
    };
    let otherwise = |layer: usize| {
        if layer == 0 || (layer + 1).is_multiple_of(6) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let kinds = layer_types(config, layers, otherwise)?;
    decoder.mask_by_layer_types(Some(window), otherwise)?;
    published_mimo(config, &decoder, &kinds)?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            default_partial: 0.334,
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let theta = if kind == "full_attention" { 5e6 } else { 1e4 };
            Some(Rope::plain(
                (decoder.head_dim as f64 * 0.334) as usize,
                theta,
            ))
        };
    }
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.value_dim = Some(config.size("v_head_dim")?);
    let (heads, kv_heads) = (decoder.heads, decoder.kv_heads);
    divided(config, "num_key_value_heads", heads, 2 * kv_heads)?;
    let windows: Vec<bool> = decoder
        .masks
        .iter()
        .map(|&mask| mask != Mask::Causal)
        .collect();
    decoder.differ(move |own, layer| {
        if windows[layer] {
            own.kv_heads = 2 * kv_heads;
            own.sinks = Some("self_attn.attention_sink_bias");
        }
    });
    let sparse = sparse_layers(config, layers, |layer| layer > 0)?;
    let experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    // A factor on the values is one on the output, which has no addend.
    let scale = config.optional_number("attention_value_scale")?;
    decoder.attention_gain = scale.unwrap_or(1.0);
    decoder.ignored.push("model.mtp.*");
    decoder.build()
}

/// What published files of MiMo-V2-Flash say beside what the reference's class reads: it must be what
/// that class has anyway.
fn published_mimo(
    config: &Config,
    decoder: &Blocks<'_>,
    kinds: &[String],
) -> Result<(), SpecError> {
    let (value_dim, epsilon) = (config.size("v_head_dim")?, config.number("rms_norm_eps")?);
    let windows = kinds
        .iter()
        .map(|kind| u8::from(kind == "sliding_attention"));
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    let said = [
        ("rope_theta", json!(5e6)),
        ("swa_rope_theta", json!(1e4)),
        ("partial_rotary_factor", json!(0.334)),
        ("swa_num_attention_heads", json!(decoder.heads)),
        ("swa_num_key_value_heads", json!(2 * decoder.kv_heads)),
        ("swa_head_dim", json!(decoder.head_dim)),
        ("swa_v_head_dim", json!(value_dim)),
        ("layernorm_epsilon", json!(epsilon)),
        ("hybrid_layer_pattern", windows.collect()),
        ("moe_layer_freq", sparse.into_iter().map(u8::from).collect()),
        ("add_swa_attention_sink_bias", json!(true)),
        ("add_full_attention_sink_bias", json!(false)),
    ];
    for (key, value) in said {
        config.neutral(
            key,
            &[value],
            "the reference's class does not read it and has another value",
        )?;
    }
    // Other names of the window, or without a reader where each layer says its kind.
    config.ignore(&["sliding_window", "attention_chunk_size"]);
    Ok(())
}

/// Beam: norms around each sublayer, residuals scaled by depth, gated attention outputs.
pub fn beam(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.arrangement = Arrangement::sandwich(
        ["input_layernorm", "post_attention_layernorm"],
        ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    );
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let layers = decoder.layers();
    let otherwise = |layer: usize| {
        if (layer + 1).is_multiple_of(6) || layer + 1 == layers {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let kinds = layer_types(config, layers, otherwise)?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, otherwise)?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        // Keys beside it complete an object of the file, never the one that the class assumes.
        let theta_keys: &[&str] = if described { &["rope_theta"] } else { &[] };
        let options = RopeOptions {
            layer_type: Some(kind),
            theta_keys,
            scaled: described,
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = match kind.as_str() {
            "full_attention" if !described => None,
            _ => Rope::from_config(config, &options)?,
        };
    }
    decoder.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    let sparse = sparse_layers(config, layers, |layer| layer >= 3.min(layers))?;
    let experts = v3_experts(config, "num_experts", decoder.activation)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.gate = Some(Gate {
        name: "self_attn.gate_proj",
        per_head: false,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: Some("self_attn.gate_bias"),
    });
    decoder.residual = Residual::ByDepth;
    decoder.differ(|own, layer| {
        if own.ropes[layer].is_none() {
            own.query_temperature = Some(QueryTemperature::Power {
                original: 2048.0,
                exponent: 0.1,
            });
        }
    });
    decoder.build()
}

/// Laguna: a number of heads for each layer, gated attention outputs.
pub fn laguna(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    let layers = decoder.layers();
    let window = config.optional_size("sliding_window")?;
    let kinds = layer_types(config, layers, |_| "full_attention")?;
    decoder.mask_by_layer_types(window, |_| "full_attention")?;
    config.off(
        "use_bidirectional_attention",
        "the class has causal attention only",
    )?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let (theta, part) = if kind == "full_attention" {
                (5e5, 2)
            } else {
                (1e4, 1)
            };
            Some(Rope::plain(decoder.head_dim / part, theta))
        };
    }
    let counts: Vec<usize> = match config.numbers("num_attention_heads_per_layer")? {
        Some(counts) if counts.len() != layers => {
            let expected = format!("one entry for each of {layers} layers");
            return Err(config.invalid("num_attention_heads_per_layer", expected));
        }
        Some(counts) => counts.into_iter().map(|count| count as usize).collect(),
        None => vec![decoder.heads; layers],
    };
    let kv_heads = decoder.kv_heads;
    if counts
        .iter()
        .any(|&count| count == 0 || !count.is_multiple_of(kv_heads))
    {
        let expected = format!("multiples of {kv_heads}");
        return Err(config.invalid("num_attention_heads_per_layer", expected));
    }
    let per_head = match config.value("gating") {
        None | Some(serde_json::Value::Bool(true)) => true,
        Some(serde_json::Value::String(kind)) if kind == "per-head" => true,
        Some(serde_json::Value::Bool(false)) => false,
        Some(serde_json::Value::String(kind)) if kind == "per-element" => false,
        Some(_) => return Err(config.unsupported("gating", "unknown gate")),
    };
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.gate = Some(Gate {
        name: "self_attn.g_proj",
        per_head,
        activation: Activation::Softplus,
        bias: false,
        head_bias: None,
    });
    decoder.differ(move |own, layer| own.heads = counts[layer]);
    config.off(
        "moe_apply_router_weight_on_input",
        "not implemented by the reference",
    )?;
    let sparse = sparse_layers(config, layers, |layer| layer > 0)?;
    let inner = config.size("moe_intermediate_size")?;
    let cap = config.number("moe_router_logit_softcapping")?;
    let experts = Experts {
        score: RouterScore::Sigmoid,
        softcap: (cap > 0.0).then_some(cap),
        choice_bias: &["mlp.experts.e_score_correction_bias"],
        counted_bias: true,
        renormalize: Renormalize::Sum { plus: 0.0 },
        scale: config.number("moe_routed_scaling_factor")?,
        shared: Some(Shared {
            tensors: crate::families::experts::SHARED_EXPERT,
            intermediate_size: config.size("shared_expert_intermediate_size")?,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}
