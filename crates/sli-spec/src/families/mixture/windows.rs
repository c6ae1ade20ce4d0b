//! Rotation in the layers with windows only.

use super::qwen::{qwen_experts, qwen_layers, shared_expert};
use super::{amend, attention_bias, mix, plain, sinks};
use crate::build::NormStyle;
use crate::families::decoder::{Arrangement, Decoder};
use crate::families::experts::{Experts, SHARED_EXPERT, SHARED_EXPERTS, Shared};
use crate::rope::RopeOptions;
use crate::{
    Activation, Config, Mask, ModelSpec, NormSpan, OutputGate, Renormalize, RouterScore, SpecError,
};

/// Flint: windows with rotation, full layers without, sinks, sigmoid scores.
pub fn flint(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let (layers, window) = (decoder.layers(), config.size("sliding_window")?);
    decoder.mask_by_layer_types(Some(window), |layer| {
        if layer < 2 || layer % 4 == 1 || layer == layers - 1 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    rotate_windows_only(&mut decoder);
    let sparse = qwen_layers(config, layers, &[0, 1])?;
    let mut experts = qwen_experts(config, &decoder)?;
    experts.score = RouterScore::Sigmoid;
    experts.shared = Some(shared_expert(
        config,
        SHARED_EXPERT,
        "shared_expert_intermediate_size",
        decoder.activation,
    )?);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let mut spec = decoder.build()?;
    sinks(&mut spec, "self_attn.softmax_offset", |_| true);
    Ok(spec)
}

fn rotate_windows_only(decoder: &mut Decoder<'_>) {
    let windows: Vec<bool> = decoder
        .masks
        .iter()
        .map(|mask| matches!(mask, Mask::CausalWindow(_)))
        .collect();
    decoder.keep_rotation(|layer| windows[layer]);
}

/// Kolibri 1: norms around each sublayer, logits choose, their sigmoid weighs.
pub fn kolibri1(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("moe_intermediate_size")?;
    let mut decoder = Decoder::with_width(config, norm, inner)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    decoder.arrangement = Arrangement::Sandwich {
        attention: ["input_layernorm", "post_attn_norm"],
        feed_forward: ["post_attention_layernorm", "post_ffn_norm"],
    };
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if (layer + 1) % 5 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    rotate_windows_only(&mut decoder);
    let mut experts = qwen_experts(config, &decoder)?;
    experts.score = RouterScore::SigmoidOfTopK;
    experts.choice_bias = &["moe.router.expert_bias"];
    experts.shared = Some(shared_expert(
        config,
        SHARED_EXPERTS,
        "shared_expert_intermediate_size",
        decoder.activation,
    )?);
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// AFM (Arcee Trinity): norms around each sublayer, gated attention outputs.
pub fn afmoe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.arrangement = Arrangement::Sandwich {
        attention: ["input_layernorm", "post_attention_layernorm"],
        feed_forward: ["pre_mlp_layernorm", "post_mlp_layernorm"],
    };
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    if config.flag("mup_enabled")? {
        decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    }
    let window = config.optional_size("sliding_window")?;
    let interval = config.size("global_attn_every_n_layers")?;
    decoder.mask_by_layer_types(window, |layer| {
        if (layer + 1) % interval == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    rotate_windows_only(&mut decoder);
    let dense = config.index("num_dense_layers")?;
    let mut experts = Experts {
        router: "mlp.router.gate",
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.expert_bias"],
        counted_bias: true,
        renormalize: Renormalize::Sum { plus: 1e-20 },
        scale: config.number("route_scale")?,
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            config.size("moe_intermediate_size")?,
            decoder.activation,
        )?
    };
    experts.shared = Some(Shared {
        tensors: SHARED_EXPERTS,
        intermediate_size: experts.intermediate_size * config.heads("num_shared_experts")?,
        bias: false,
        activation: decoder.activation,
        gate: None,
    });
    mix(&mut decoder, experts, move |layer| layer >= dense);
    let hidden_size = decoder.hidden_size;
    let mut spec = decoder.build()?;
    amend(&mut spec, |leaves, _, attention| {
        let shape = [attention.heads * attention.value_dim, hidden_size];
        attention.gate = Some(OutputGate {
            projection: leaves.linear("self_attn.gate_proj", shape, false, crate::Shard::Column),
            per_head: false,
            activation: Activation::Sigmoid,
            head_bias: None,
        });
    });
    Ok(spec)
}
