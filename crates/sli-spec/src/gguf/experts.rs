//! Mixtures of experts.

use serde_json::{Value, json};

use super::architecture::{Change, Names, changed, layers, row};
use super::llama::{PAIRS, POST_NORMS, WINDOWS, multipliers, rms, rms_in_part};
use super::reader::{Read, Reader};
use super::usual::TRANSPOSED;
use crate::SpecError;

/// Experts in every layer, under the keys of Qwen's classes.
pub(super) fn qwen_experts(reader: &mut Reader<'_>) -> Read {
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    let width = reader.number("expert_feed_forward_length")?;
    // Older files do not say it.
    let width = match width {
        Some(width) => width as usize,
        None => reader
            .shape("blk.0.ffn_gate_exps.weight")?
            .get(1)
            .copied()
            .unwrap_or(0),
    };
    reader.set("moe_intermediate_size", width);
    reader.set("decoder_sparse_step", 1);
    reader.set("mlp_only_layers", json!([]));
    reader.set("use_sliding_window", false);
    Ok(())
}

pub(super) fn qwen2moe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "qwen2_moe")?;
    qwen_experts(reader)?;
    let shared = reader.number("expert_shared_feed_forward_length")?;
    let shared = match shared {
        Some(width) => width as usize,
        None => reader
            .shape("blk.0.ffn_gate_shexp.weight")?
            .first()
            .copied()
            .unwrap_or(0),
    };
    reader.set("shared_expert_intermediate_size", shared);
    reader.set("norm_topk_prob", false);
    Ok(())
}

pub(super) fn qwen3moe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "qwen3_moe")?;
    reader.look_ahead();
    qwen_experts(reader)?;
    reader.set("norm_topk_prob", true);
    Ok(())
}

pub(super) const GRANITE_ROUTED: Names = layers(
    "model.layers.*.block_sparse_moe.",
    &[
        row("router.layer", "ffn_gate_inp"),
        changed("input_linear", "ffn_gate_exps", Change::Divided),
        row("output_linear", "ffn_down_exps"),
    ],
);

pub(super) const GRANITE_SHARED: Names = layers(
    "model.layers.*.shared_mlp.",
    &[
        changed("input_linear", "ffn_gate_shexp", Change::Divided),
        row("output_linear", "ffn_down_shexp"),
    ],
);

pub(super) const GRANITE_EXPERTS: &[Names] = &[PAIRS, GRANITE_ROUTED, GRANITE_SHARED];

pub(super) const GPT_OSS: &[Names] = &[
    POST_NORMS,
    layers(
        "model.layers.*.mlp.",
        &[
            row("router", "ffn_gate_inp"),
            changed(
                "experts.gate_up_proj_bias",
                "ffn_gate_exps.bias",
                Change::Divided,
            ),
            row("experts.down_proj_bias", "ffn_down_exps.bias"),
        ],
    ),
    layers("model.layers.*.mlp.experts.", TRANSPOSED),
];

pub(super) const LATENT: Names = layers(
    "model.layers.*.self_attn.",
    &[
        row("q_a_proj", "attn_q_a"),
        row("q_a_layernorm", "attn_q_a_norm"),
        row("q_b_proj", "attn_q_b"),
        row("kv_a_proj_with_mqa", "attn_kv_a_mqa"),
        row("kv_a_layernorm", "attn_kv_a_norm"),
        changed("kv_b_proj", "attn_k_b", Change::Latent),
    ],
);

pub(super) fn olmoe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "olmoe")?;
    reader.unset("head_dim");
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    reader.copy_if("attention.clamp_kqv", "clip_qkv");
    reader.set("norm_topk_prob", false);
    Ok(())
}

pub(super) fn granitemoe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "granitemoe")?;
    reader.unset("head_dim");
    reader.copy("expert_count", "num_local_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    let shared = reader.number("expert_shared_feed_forward_length")?;
    if let Some(width) = shared.filter(|width| *width > 0) {
        reader.set("model_type", "granitemoeshared");
        reader.set("shared_intermediate_size", width);
    }
    multipliers(reader);
    Ok(())
}

pub(super) fn gpt_oss(reader: &mut Reader<'_>) -> Read {
    rms(reader, "gpt_oss")?;
    reader.experts("num_local_experts", "intermediate_size")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    reader.set("attention_bias", true);
    if let Some(Value::Object(mut scaling)) = reader.get("rope_scaling").cloned() {
        // The reference's model is so; ggml rounds the ends of the ramp.
        scaling.insert("truncate".to_owned(), false.into());
        reader.set("rope_scaling", scaling);
    }
    let has_window = (0..reader.layers()?).map(|layer| layer % 2 == 0);
    reader.kinds("layer_types", has_window, WINDOWS);
    Ok(())
}

/// Experts behind some plain layers, with others that are always on, under the keys of DeepSeek's classes.
pub(super) fn routed(reader: &mut Reader<'_>) -> Read {
    reader.experts("n_routed_experts", "moe_intermediate_size")?;
    reader.copy("expert_shared_count", "n_shared_experts")?;
    let dense = reader.number("leading_dense_block_count")?;
    reader.set("first_k_dense_replace", dense.unwrap_or(0));
    let scale = reader.float("expert_weights_scale");
    reader.set("routed_scaling_factor", scale.unwrap_or(1.0));
    let norm = reader.value("expert_weights_norm");
    reader.set("norm_topk_prob", norm.unwrap_or(false.into()));
    let groups = reader.number("expert_group_count")?;
    reader.set("n_group", groups.unwrap_or(1));
    let chosen = reader.number("expert_group_used_count")?;
    reader.set("topk_group", chosen.unwrap_or(1));
    Ok(())
}

/// The function that makes scores of the router's logits: 1 or absent is softmax, 2 sigmoid.
pub(super) fn gating(reader: &mut Reader<'_>) -> Result<u64, SpecError> {
    // Older files do not say it; only what scores with sigmoids has biases for the choice.
    let biased = reader.has_any(".exp_probs_b.bias");
    let kind = reader.number("expert_gating_func")?;
    let kind = kind.unwrap_or(if biased { 2 } else { 1 });
    match kind {
        1 | 2 => Ok(kind),
        _ => {
            let reason = "softmax (1) and sigmoid (2) are known";
            Err(reader.unsupported("expert_gating_func", &kind.into(), reason))
        }
    }
}

pub(super) fn dots1(reader: &mut Reader<'_>) -> Read {
    rms(reader, "dots1")?;
    reader.ignore(&["expert_gating_func"]);
    reader.set("sliding_window", Value::Null);
    routed(reader)
}

pub(super) fn glm4moe(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "glm4_moe")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("use_qk_norm", "blk.0.attn_q_norm.weight");
    reader.ignore(&["expert_gating_func"]);
    routed(reader)
}

/// Widths of heads whose keys and values come from a latent vector.
pub(super) fn latent_heads(reader: &mut Reader<'_>) -> Result<u64, SpecError> {
    let rotated = reader.size("rope.dimension_count")?;
    let [keys, values] = ["key_length", "value_length"].map(|key| {
        let own = reader.number(&format!("attention.{key}"));
        let of_heads = reader.number(&format!("attention.{key}_mla"));
        of_heads.and_then(|of_heads| Ok(of_heads.or(own?)))
    });
    let missing = || SpecError::Missing {
        key: "attention.key_length_mla".to_owned(),
    };
    let (keys, values) = (keys?.ok_or_else(missing)?, values?.ok_or_else(missing)?);
    reader.set("qk_rope_head_dim", rotated);
    reader.set("qk_nope_head_dim", keys.saturating_sub(rotated));
    reader.set("v_head_dim", values);
    Ok(rotated)
}

/// Heads of a latent vector and their rotation.
pub(super) fn latent(reader: &mut Reader<'_>, model_type: &str) -> Read {
    reader.set("model_type", model_type);
    reader.sizes()?;
    let heads = reader.size("attention.head_count")?;
    reader.set("num_key_value_heads", heads);
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.copy("attention.kv_lora_rank", "kv_lora_rank")?;
    let rank = reader.value("attention.q_lora_rank");
    reader.set("q_lora_rank", rank.unwrap_or(Value::Null));
    let rotated = latent_heads(reader)?;
    reader.rotation(rotated, false)
}

pub(super) fn deepseek2(reader: &mut Reader<'_>) -> Read {
    if reader.number("expert_count")?.unwrap_or(0) == 0 {
        // Youtu.
        reader.ignore(&["expert_feed_forward_length", "expert_shared_count"]);
        latent(reader, "youtu")?;
        return plain_yarn(reader);
    }
    let sigmoid = gating(reader)? == 2;
    let model_type = ["deepseek_v2", "deepseek_v3"][usize::from(sigmoid)];
    latent(reader, model_type)?;
    routed(reader)?;
    if !sigmoid {
        let groups = reader.get("n_group").and_then(Value::as_u64).unwrap_or(1);
        let method = if groups > 1 {
            "group_limited_greedy"
        } else {
            "greedy"
        };
        reader.set("topk_method", method);
    }
    plain_yarn(reader)
}

/// What yarn does to the scale of the attention's logits: these files have a tenth of it, and it is that of the rotated
/// features as well.
pub(super) fn plain_yarn(reader: &mut Reader<'_>) -> Read {
    let Some(Value::Object(mut scaling)) = reader.get("rope_scaling").cloned() else {
        return Ok(());
    };
    if let Some(tenth) = scaling.get("mscale_all_dim").and_then(Value::as_f64) {
        // As many digits as a number of 32 bits has.
        let factor = (tenth * 1e8).round() / 1e7;
        scaling.insert("mscale".to_owned(), factor.into());
        scaling.insert("mscale_all_dim".to_owned(), factor.into());
        reader.set("rope_scaling", scaling);
    }
    Ok(())
}

/// Scores of experts are sigmoids.
pub(super) fn sigmoid_scores(reader: &mut Reader<'_>) -> Read {
    match gating(reader)? {
        2 => Ok(()),
        kind => Err(reader.unsupported("expert_gating_func", &kind.into(), "sigmoid (2) is known")),
    }
}

/// Kinds of networks by the routers that are there.
pub(super) fn network_kinds(reader: &mut Reader<'_>) -> Read {
    let sparse = reader.layers_with("ffn_gate_inp.weight")?;
    reader.kinds("mlp_layer_types", sparse, ["dense", "sparse"]);
    Ok(())
}
