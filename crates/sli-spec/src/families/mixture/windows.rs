//! Rotation in the layers with windows only.

use super::qwen::{qwen_experts, qwen_layers, shared_expert};
use super::{mix, plain};
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Gate};
use crate::families::experts::{Experts, SHARED_EXPERT, SHARED_EXPERTS, Shared};
use crate::rope::RopeOptions;
use crate::{Activation, Config, Described, NormSpan, Renormalize, RouterScore, SpecError};

/// Flint: windows with rotation, full layers without, sinks, sigmoid scores.
pub fn flint(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
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
    decoder.rotate_windows_only();
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
    decoder.sinks = Some("self_attn.softmax_offset");
    decoder.build()
}

/// Kolibri 1: norms around each sublayer, logits choose, their sigmoid weighs.
pub fn kolibri1(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("moe_intermediate_size")?;
    let mut decoder = Blocks::with_width(config, norm, inner)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    decoder.arrangement = Arrangement::sandwich(
        ["input_layernorm", "post_attn_norm"],
        ["post_attention_layernorm", "post_ffn_norm"],
    );
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
    decoder.rotate_windows_only();
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
pub fn afmoe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.arrangement = Arrangement::sandwich(
        ["input_layernorm", "post_attention_layernorm"],
        ["pre_mlp_layernorm", "post_mlp_layernorm"],
    );
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
    decoder.rotate_windows_only();
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
    decoder.gate = Some(Gate {
        name: "self_attn.gate_proj",
        per_head: false,
        activation: Activation::Sigmoid,
        bias: false,
        head_bias: None,
    });
    decoder.build()
}
