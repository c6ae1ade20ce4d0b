//! Layers with linear attention beside others: MiniMax-01, Ling 3 and GLM-5.3-Flash.

use super::architecture::{Change, Names, changed, exactly, layers, row, under};
use super::experts::{LATENT, latent_heads, network_kinds, routed, sigmoid_scores};
use super::llama::{MIXTRAL, rms_in_part};
use super::mixtures::{INDEXER, indexer};
use super::reader::{Read, Reader};
use super::states::{DELTA, STATES};
use super::usual::STACKED;
use crate::SpecError;

pub(super) const MINIMAX: &[Names] = &[
    layers(
        "model.layers.*.self_attn.",
        &[
            row("qkv_proj", "attn_qkv"),
            row("output_gate", "attn_gate"),
            row("norm", "attn_norm_2"),
            row("out_proj", "attn_output"),
        ],
    ),
    MIXTRAL,
];

/// MiniMax-01: lightning attention in the layers that have a gate. Its class rotates whole heads, the files say how much.
pub(super) fn minimax_01(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "minimax")?;
    reader.unset("partial_rotary_factor");
    let rotated = reader.value("rope.dimension_count");
    if let Some(rotated) = rotated {
        reader.set("rotated_features", rotated);
    }
    let linear = reader.layers_with("attn_gate.weight")?;
    reader.kinds("layer_types", linear, STATES);
    // Which layers those are, in files that say it.
    reader.ignore(&["attention.recurrent_layers", "full_attention_interval"]);
    reader.copy("expert_count", "num_local_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    let scale = reader.needed("residual_scale")?;
    for kind in ["full_attn", "linear_attn", "mlp"] {
        reader.set(&format!("{kind}_alpha_factor"), scale.clone());
    }
    Ok(())
}

pub(super) const LING3: &[Names] = &[
    under("model.", "", &[row("word_embeddings", "token_embd")]),
    layers(
        "model.layers.*.attention.",
        &[
            row("dense", "attn_output"),
            row("q_proj", "attn_q"),
            row("k_proj", "attn_k"),
            row("v_proj", "attn_v"),
            row("kv_a_proj_with_mqa", "attn_kv_a_mqa"),
            row("kv_a_layernorm", "attn_kv_a_norm"),
            changed("kv_b_proj", "attn_k_b", Change::Latent),
            row("q_conv1d", "ssm_conv1d_q"),
            row("k_conv1d", "ssm_conv1d_k"),
            row("v_conv1d", "ssm_conv1d_v"),
            row("f_proj", "ssm_f_a"),
            // Of layers with a state, else a gate of every head.
            row("g_proj", "ssm_g_a"),
            row("g_proj", "attn_gate"),
            row("b_proj", "ssm_beta"),
            row("dt_bias", "ssm_dt.bias"),
            exactly("A_log", "ssm_a", Change::Exponential),
            row("o_norm", "ssm_norm"),
        ],
    ),
    layers(
        "model.layers.*.mlp.",
        &[row("gate.expert_bias", "exp_probs_b.bias")],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// What models with a delta rule and latent heads have in common.
fn latent_deltas(reader: &mut Reader<'_>, model_type: &str) -> Result<u64, SpecError> {
    reader.set("model_type", model_type);
    reader.sizes()?;
    let heads = reader.size("attention.head_count")?;
    reader.set("num_key_value_heads", heads);
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.copy("attention.kv_lora_rank", "kv_lora_rank")?;
    latent_heads(reader)?;
    reader.set("linear_num_heads", heads);
    reader.copy("ssm.conv_kernel", "linear_conv_kernel_dim")?;
    reader.copy("kda.head_dim", "linear_head_dim")?;
    network_kinds(reader)?;
    Ok(heads)
}

/// Ling 3.
pub(super) fn bailingmoe3(reader: &mut Reader<'_>) -> Read {
    latent_deltas(reader, "bailing_hybrid")?;
    reader.rename("max_position_embeddings", "model_max_length");
    reader.copy_if("rope.freq_base", "rope_theta");
    // Axes of pictures: of text all are the same.
    reader.ignore(&["rope.dimension_sections"]);
    let safe = reader.needed("kda.safe_gate")?;
    reader.set("kda_safe_gate", safe);
    reader.copy("kda.gate_lower_bound", "kda_lower_bound")?;
    let states = reader.layers_with("ssm_beta.weight")?;
    reader.kinds("layer_types", states, STATES);
    for (key, to) in [
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_token"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("expert_shared_count", "num_shared_experts"),
        ("expert_weights_scale", "routed_scaling_factor"),
        ("expert_weights_norm", "moe_renormalize"),
    ] {
        reader.copy(key, to)?;
    }
    let groups = reader.number("expert_group_count")?.unwrap_or(1);
    reader.set("num_expert_group", groups);
    let chosen = reader.number("expert_group_used_count")?.unwrap_or(1);
    // Without groups nothing is left out.
    reader.set("topk_group", chosen.min(groups));
    sigmoid_scores(reader)?;
    reader.ignore(&["expert_shared_feed_forward_length"]);
    for key in [
        "attention.q_lora_rank",
        "swiglu_clamp_exp",
        "swiglu_clamp_shexp",
    ] {
        if let Some(found) = reader.value(key) {
            let reason = "Ling 3 with this is of no type that is known here";
            return Err(reader.unsupported(key, &found, reason));
        }
    }
    Ok(())
}

pub(super) const GLM5_NEXT: &[Names] = &[
    DELTA,
    LATENT,
    layers(
        "model.layers.*.",
        &[
            row("hc_attn_fn", "hc_attn_fn"),
            row("hc_attn_base", "hc_attn_base"),
            row("hc_attn_scale", "hc_attn_scale"),
            row("hc_ffn_fn", "hc_ffn_fn"),
            row("hc_ffn_base", "hc_ffn_base"),
            row("hc_ffn_scale", "hc_ffn_scale"),
        ],
    ),
    INDEXER,
    layers(
        "model.layers.*.self_attn.indexer.",
        &[
            row("index_kpool_compress_ape", "indexer_compressor_ape"),
            row("index_kpool_compress_gate", "indexer_compressor_gate"),
        ],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// GLM-5.3-Flash: the delta rule beside latent heads that see chosen pools of keys, and streams of the residual.
pub(super) fn glm5_next(reader: &mut Reader<'_>) -> Read {
    let heads = latent_deltas(reader, "glm5_next_text")?;
    reader.set("num_attention_heads", heads);
    reader.copy("attention.q_lora_rank", "q_lora_rank")?;
    // Of the indexer's norm.
    reader.ignore(&["attention.layer_norm_epsilon"]);
    let states = reader.layers_with("ssm_beta.weight")?;
    reader.kinds(
        "layer_types",
        states,
        ["indexed_attention", "linear_attention"],
    );
    let bound = reader.value("kda.gate_lower_bound");
    reader.set("linear_lower_bound", bound.unwrap_or_default());
    routed(reader)?;
    reader.unset("first_k_dense_replace");
    sigmoid_scores(reader)?;
    indexer(reader)?;
    reader.copy("attention.indexer.kpool", "index_kpool")?;
    reader.copy(
        "attention.indexer.kpool_select_tail",
        "index_kpool_always_select_tail",
    )?;
    reader.copy("hyper_connection.count", "hc_mult")?;
    reader.copy("hyper_connection.epsilon", "hc_eps")?;
    reader.copy("hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters")?;
    let limit = reader.limit("swiglu_clamp_exp")?;
    let of_shared = reader.limit("swiglu_clamp_shexp")?;
    if limit != of_shared {
        let reason = "one limit for all networks is read";
        return Err(reader.unsupported("swiglu_clamp_shexp", &of_shared, reason));
    }
    reader.set("swiglu_limit", limit);
    Ok(())
}
