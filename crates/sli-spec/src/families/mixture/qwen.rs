//! Qwen's experts, with those that took over their keys.

use super::{mix, plain, rotate_by_kind, sparse_layers};
use crate::families::blocks::{Arrangement, Blocks};
use crate::families::coordinates::turn_by_coordinates;
use crate::families::experts::{ExpertTensors, Experts, SHARED_EXPERT, Shared, SharedTensors};
use crate::rope::{Pairs, RopeOptions};
use crate::{Activation, Config, Described, Mask, NormSpan, Renormalize, SpecError};

/// Qwen's `decoder_sparse_step` and `mlp_only_layers`.
pub(in crate::families) fn qwen_layers(
    config: &Config,
    layers: usize,
    dense: &[usize],
) -> Result<Vec<bool>, SpecError> {
    let step = config.size("decoder_sparse_step")?;
    let only = match config.numbers("mlp_only_layers")? {
        Some(only) => only,
        None => dense.iter().map(|&layer| layer as f64).collect(),
    };
    Ok((0..layers)
        .map(|layer| !only.contains(&(layer as f64)) && (layer + 1) % step == 0)
        .collect())
}

/// Softmax over all experts, `norm_topk_prob`.
pub(in crate::families) fn qwen_experts(
    config: &Config,
    decoder: &Blocks<'_>,
) -> Result<Experts, SpecError> {
    let mut experts = Experts::new(
        config,
        ["num_experts", "num_experts_per_tok"],
        config.size("moe_intermediate_size")?,
        decoder.activation,
    )?;
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
    }
    Ok(experts)
}

pub(in crate::families) fn shared_expert(
    config: &Config,
    tensors: SharedTensors,
    key: &str,
    activation: Activation,
) -> Result<Shared, SpecError> {
    Ok(Shared {
        tensors,
        intermediate_size: config.size(key)?,
        bias: false,
        activation,
        gate: None,
    })
}

/// Qwen2-MoE: a shared expert with a gate.
pub fn qwen2_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.query_key_value_bias = config.flag("qkv_bias")?;
    let (window, last) = (
        config.optional_index("sliding_window")?,
        config.index("max_window_layers")?,
    );
    let windows = config.flag("use_sliding_window")?;
    // A window of 0 leaves nothing to see; the class gives it to files that use none.
    let window = window.filter(|&window| windows && window > 0);
    decoder.mask_by_layer_types(window, |layer| {
        if windows && layer < last && layer % 2 == 0 {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    let sparse = qwen_layers(config, decoder.layers(), &[])?;
    let mut experts = qwen_experts(config, &decoder)?;
    experts.shared = Some(Shared {
        gate: Some("mlp.shared_expert_gate"),
        ..shared_expert(
            config,
            SHARED_EXPERT,
            "shared_expert_intermediate_size",
            decoder.activation,
        )?
    });
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// Qwen3-MoE: a norm of each query and key head, no shared expert.
pub fn qwen3_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    // Left over from Qwen3's configuration: one window for all layers here.
    config.ignore(&["max_window_layers"]);
    let window = config.optional_size("sliding_window")?;
    if let (Some(window), true) = (window, config.flag("use_sliding_window")?) {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    let sparse = qwen_layers(config, decoder.layers(), &[])?;
    let experts = qwen_experts(config, &decoder)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// The text side of Qwen3-VL with experts.
pub fn qwen3_vl_moe_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    let options = RopeOptions::new(decoder.head_dim);
    decoder.rotate(&options)?;
    let assumed = Some([24, 20, 20]);
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::ByTurns)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let sparse = qwen_layers(config, decoder.layers(), &[])?;
    let mut experts = Experts::new(
        config,
        ["num_experts", "num_experts_per_tok"],
        config.size("moe_intermediate_size")?,
        decoder.activation,
    )?;
    experts.renormalize = Renormalize::Sum { plus: 0.0 };
    experts.tensors = ExpertTensors::Either(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// OLMoE: queries and keys are normalised over all heads at once, then limited.
pub fn olmoe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = olmo_experts(config)?;
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    decoder.clip = config.optional_positive("clip_qkv")?;
    // Flash attention takes a window that no other of the reference's attentions looks at: then only
    // the caller knows what the model was trained with.
    if config.beyond_positions("sliding_window") {
        config.ignore(&["sliding_window"]);
    }
    decoder.build()
}

/// FlexOlmo: OLMo 2 with experts.
pub fn flex_olmo(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = olmo_experts(config)?;
    decoder.arrangement =
        Arrangement::post("post_attention_layernorm", "post_feedforward_layernorm");
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    decoder.build()
}

fn olmo_experts(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    let mut experts = Experts::new(
        config,
        ["num_experts", "num_experts_per_tok"],
        decoder.intermediate_size,
        decoder.activation,
    )?;
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
    }
    mix(&mut decoder, experts, |_| true);
    Ok(decoder)
}

/// Mellum.
pub fn mellum(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let window = config.optional_size("sliding_window")?;
    let kinds = crate::build::layer_types(config, decoder.layers(), |_| "full_attention")?;
    decoder.mask_by_layer_types(window, |_| "full_attention")?;
    rotate_by_kind(config, &mut decoder, &kinds, Some(1.0), |kind| {
        (
            if kind == "full_attention" {
                500_000.0
            } else {
                10_000.0
            },
            1.0,
        )
    })?;
    config.ignore(&[
        "num_nextn_predict_layers",
        "mtp_layer_types",
        "mtp_mlp_layer_types",
    ]);
    let sparse = sparse_layers(config, decoder.layers(), |_| true)?;
    let experts = qwen_experts(config, &decoder)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.ignored.push("mtp.*");
    decoder.build()
}
